"""Secrets through the asynchronous client: `engine.secrets`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyman.api import secret as api
from pyman.api.container import ExistsReply
from pyman.errors import ProtocolError
from pyman.sdk.connection import close_all
from pyman.sdk.noun import Noun, listed, raise_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Secrets"]

_LIMIT = 512_000

Inspected = list[api.InspectSecret]


class Secrets(Noun):
    """Made by the engine. Secrets are found by their ids, their names, or the beginning of an id that no other has."""

    interface = "io.pyman.Secret"

    async def create(
        self,
        name: str,
        data: bytes,
        *,
        driver: str = "",
        driver_options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        replace: bool = False,
        ignore: bool = False,
    ) -> str:
        """Its id. `data`: fewer than 512 000 bytes. `replace`: one of that name that is there goes; `ignore`: it is
        taken."""
        request = api.CreateSecretRequest(
            name, driver, dict(driver_options or {}), dict(labels or {}), replace, ignore
        )
        descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            reply = await self._call("Create", request, api.CreateSecretReply, [descriptor])
        finally:
            os.close(descriptor)
        return reply.id

    async def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> Inspected:
        """By their names."""
        request = api.ListSecretsRequest(listed(filters))
        return (await self._call("List", request, api.ListSecretsReply)).secrets

    async def inspect(self, name: str) -> api.InspectSecret:
        reply = await self._call("Inspect", api.InspectSecretsRequest([name]), api.InspectSecretsReply)
        raise_first(reply.errors)
        return reply.secrets[0]

    async def exists(self, name: str) -> bool:
        return (await self._call("Exists", api.SecretRequest(name), ExistsReply)).exists

    async def read(self, name: str) -> bytes:
        """What is in it."""
        _, descriptors = await self._pool.call_for_descriptors(
            f"{self.interface}.Read", api.SecretRequest(name), api.InspectSecret
        )
        try:
            if len(descriptors) != 1:
                raise ProtocolError("cannot read a secret: the supervisor's reply lacks a descriptor")
            return os.pread(descriptors[0], _LIMIT, 0)
        finally:
            close_all(descriptors)

    async def remove(self, name: str) -> None:
        """Containers that were created with it keep what they were given."""
        reply = await self._call("Remove", api.RemoveSecretsRequest([name]), api.RemovedSecretsReply)
        raise_first(each.error for each in reply.secrets)
