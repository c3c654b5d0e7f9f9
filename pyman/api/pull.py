"""What is said of bringing an image here, whoever asks for it: `pull`, `run`, `create`."""

from __future__ import annotations

import msgspec

__all__ = ["Platform", "Progress", "PullWish", "RegistryAccess"]


class Platform(msgspec.Struct, frozen=True):
    """Of a member of a manifest list; empty: this host's."""

    os: str = ""
    arch: str = ""
    """As Go calls it: amd64, arm64."""
    variant: str = ""


class RegistryAccess(msgspec.Struct, frozen=True):
    """How a registry is spoken to; what is absent comes from the configuration."""

    username: str = ""
    password: str = ""
    """Never in an event, a log or an error."""
    auth_file: str = ""
    """Absolute path; empty: the user's auth.json, then Docker's config.json."""
    docker_auth: bool = False
    """`auth_file` is kept as Docker keeps its own: for whole registries alone, docker.io under its address."""
    cert_dir: str = ""
    """Absolute path of a directory with *.crt, *.cert and *.key; empty: certs.d."""
    tls_verify: bool | None = None
    """None: as registries.conf says."""
    retry: int | None = None
    """How often a failed request is tried again; none: 3."""
    retry_delay: float | None = None
    """Seconds before the first repetition; none: doubling from 1."""

    def __repr__(self) -> str:
        """Without the password: what is shown of a request gets into logs and tracebacks."""
        told = {name: getattr(self, name) for name in self.__struct_fields__ if name != "password"}
        return f"RegistryAccess({', '.join(f'{name}={value!r}' for name, value in told.items())})"


class Progress(msgspec.Struct, frozen=True):
    """Of one blob."""

    digest: str
    action: str
    """waiting, downloading, unpacking, packing, uploading, retrying, exists, mounted, done."""
    bytes: int = 0
    total: int = -1
    """-1: unknown."""
    detail: str = ""
    """Why it is tried again."""


class PullWish(msgspec.Struct, frozen=True):
    """How a container's image is brought here where it is not."""

    policy: str = ""
    """always, missing, newer or never; empty: the configured one."""
    platform: Platform = Platform()
    access: RegistryAccess = RegistryAccess()
    quiet: bool = False
    """No progress."""
    ask: bool = False
    """As of PullRequest."""
    alias: str = ""
    """As of PullRequest."""
