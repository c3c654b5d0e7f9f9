"""`io.pyman.Secret`: small pieces of data that containers are given and that are shown to nobody else.

Secrets are found by their ids, by their names, or by the beginning of an id that no other has. What is in them travels by
a descriptor and never in a message.
"""

from __future__ import annotations

import msgspec

from pyman.api.container import ExistsReply
from pyman.api.method import Access, Interface, Method, Vanish
from pyman.api.selection import ErrorInfo

__all__ = [
    "INTERFACE",
    "CreateSecretReply",
    "CreateSecretRequest",
    "InspectSecret",
    "InspectSecretsReply",
    "InspectSecretsRequest",
    "ListSecretsReply",
    "ListSecretsRequest",
    "RemoveSecretsRequest",
    "RemovedSecret",
    "RemovedSecretsReply",
    "SecretDriver",
    "SecretRequest",
    "SecretSpec",
]


class SecretRequest(msgspec.Struct, frozen=True):
    name: str
    """Or the id, or its beginning."""


class CreateSecretRequest(msgspec.Struct, frozen=True):
    """Brings the descriptor of what is to be in it: a file, which is read from its beginning, or a pipe."""

    name: str
    driver: str = ""
    """file, pass or shell; empty: the configured one."""
    driver_options: dict[str, str] = {}
    """Empty: the configured ones, where the driver is the configured one."""
    labels: dict[str, str] = {}
    replace: bool = False
    """One of that name that is there goes, once the new one is there."""
    ignore: bool = False
    """One of that name that is there is taken."""


class CreateSecretReply(msgspec.Struct, frozen=True):
    id: str
    created: bool
    """False: it was there."""


class SecretDriver(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    options: dict[str, str]


class SecretSpec(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    driver: SecretDriver
    labels: dict[str, str]


class InspectSecret(msgspec.Struct, frozen=True, rename="pascal"):
    """Podman's document, without what is in the secret."""

    id: str = msgspec.field(name="ID")
    created_at: str
    """RFC 3339, as the next one."""
    updated_at: str
    spec: SecretSpec


class ListSecretsRequest(msgspec.Struct, frozen=True):
    filters: dict[str, list[str]] = {}
    """name and id: regular expressions."""


class ListSecretsReply(msgspec.Struct, frozen=True):
    secrets: list[InspectSecret]
    """By their names."""


class InspectSecretsRequest(msgspec.Struct, frozen=True):
    names: list[str]


class InspectSecretsReply(msgspec.Struct, frozen=True):
    secrets: list[InspectSecret]
    errors: list[ErrorInfo] = []


class RemoveSecretsRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    all: bool = False


class RemovedSecret(msgspec.Struct, frozen=True):
    id: str
    """As it was asked for, where there is an error."""
    error: ErrorInfo | None = None


class RemovedSecretsReply(msgspec.Struct, frozen=True):
    secrets: list[RemovedSecret]


INTERFACE = Interface(
    name="io.pyman.Secret",
    doc="Secrets.",
    methods=(
        Method(
            "Create",
            CreateSecretRequest,
            CreateSecretReply,
            "Make a secret.",
            access=Access.OWNER,
            descriptors_in=1,
        ),
        Method("List", ListSecretsRequest, ListSecretsReply, "The secrets that fit.", access=Access.READ),
        Method(
            "Inspect",
            InspectSecretsRequest,
            InspectSecretsReply,
            "What is known of secrets, but for what is in them.",
            access=Access.READ,
        ),
        Method(
            "Exists", SecretRequest, ExistsReply, "Whether there is one that is meant.", access=Access.READ
        ),
        Method(
            "Read",
            SecretRequest,
            InspectSecret,
            "What is in a secret: the reply brings a descriptor of it.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
            descriptors_out=True,
        ),
        Method(
            "Remove",
            RemoveSecretsRequest,
            RemovedSecretsReply,
            "Remove secrets. Containers that were created with one keep what they were given.",
            access=Access.OWNER,
        ),
    ),
)
