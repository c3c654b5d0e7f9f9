"""An image in a registry, as a source: `docker://`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from supervisor.images.transports.transport import CONFIG_LIMIT, RawManifest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pyman.api.image import RegistryAccess
    from supervisor.archive.feed import Feed
    from supervisor.images.transfer.partials import Partials
    from supervisor.images.transports.transport import Blob
    from supervisor.registry.client import Registries
    from supervisor.registry.messages import Endpoint
    from supervisor.registry.reference import Reference

__all__ = ["RegistrySource"]


class RegistrySource:
    """`retrying` is called with the digest of a layer and why it is tried again."""

    def __init__(
        self, registries: Registries, partials: Partials, reference: Reference, access: RegistryAccess
    ) -> None:
        self.name = str(reference)
        self.reference = reference
        self.retrying: Callable[[str, str], None] = lambda _digest, _reason: None
        self._registries = registries
        self._partials = partials
        self._access = access
        self._endpoints: Sequence[Endpoint] = ()
        """The one that had the manifest first."""

    async def manifest(self, digest: str = "") -> RawManifest:
        fetched = await self._registries.manifest(
            self.reference, self._access, digest=digest, endpoints=self._endpoints if digest else ()
        )
        self._endpoints = fetched.endpoints
        return RawManifest(fetched.data, fetched.media_type)

    async def blob(self, blob: Blob) -> bytes:
        return await self._registries.blob(
            self.reference, blob.digest, self._access, endpoints=self._endpoints, limit=CONFIG_LIMIT
        )

    @asynccontextmanager
    async def layer(self, blob: Blob, report: Callable[[int], None]) -> AsyncGenerator[Feed, None]:
        async def fetch(fd: int, growth: int) -> None:
            await self._registries.download(
                self.reference,
                blob.digest,
                blob.size,
                fd,
                self._access,
                endpoints=self._endpoints,
                growth=growth,
                report=report,
                retrying=lambda reason: self.retrying(blob.digest, reason),
            )

        async with self._partials.feed(blob.digest, fetch) as feed:
            yield feed

    def begun(self, blob: Blob) -> bool:
        """An earlier attempt has left a part of it, which may be damaged."""
        return self._partials.size(blob.digest) > 0

    async def aclose(self) -> None:
        """Nothing is open between two requests."""
