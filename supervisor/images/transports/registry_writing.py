"""A repository of a registry, written to (`docker://`).

A blob that the repository lacks may be in another one of the same registry: it is asked to take it over from there
before it is sent.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyman.api.image import RegistryAccess
from supervisor.images.traces import Sent
from supervisor.registry import reference as names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.images.deeds import Deed
    from supervisor.images.transfer.blobinfo import BlobInfo
    from supervisor.images.transports.transport import Blob, RawManifest
    from supervisor.registry.client import Registries
    from supervisor.registry.reference import Reference

__all__ = ["RegistryDestination"]

_TRIES = 3
"""Repositories that a blob is looked for in."""


class RegistryDestination:
    """A `Destination`. `sources`: by digest, names of repositories of the same registry that should have a blob."""

    manifest_types: tuple[str, ...] = ()
    compression = "gzip"
    streams = False

    def __init__(
        self,
        registries: Registries,
        reference: Reference,
        memory: BlobInfo,
        deed: Deed,
        *,
        access: RegistryAccess = RegistryAccess(),  # noqa: B008 - frozen
        sources: Mapping[str, Sequence[Reference]] | None = None,
        retrying: Callable[[str], None] | None = None,
    ) -> None:
        self.name = str(reference)
        self._registries = registries
        self._reference = reference
        self._memory = memory
        self._deed = deed
        self._access = access
        self._sources = sources or {}
        self._retrying = retrying
        self._there: set[str] = set()

    async def has(self, blob: Blob) -> bool:
        if blob.digest in self._there:
            return True
        bare = self._reference.bare()
        if await self._registries.exists(bare, blob.digest, self._access) or await self._mount(
            bare, blob.digest
        ):
            self._there.add(blob.digest)
            return True
        return False

    async def _mount(self, bare: Reference, digest: str) -> bool:
        known = [names.parse(place) for place in self._memory.places(digest)]
        places = dict.fromkeys(each.bare() for each in (*known, *self._sources.get(digest, ())))
        fit = [each for each in places if each.domain == bare.domain and each.path != bare.path]
        for each in fit[:_TRIES]:
            if await self._registries.mount(bare, digest, each, self._access):
                return True
        return False

    async def put_blob(self, blob: Blob, fd: int, report: Callable[[int], None]) -> None:
        await self._registries.upload(
            self._reference.bare(),
            blob.digest,
            blob.size,
            fd,
            self._access,
            report=report,
            retrying=self._retrying,
        )
        self._there.add(blob.digest)

    async def put_manifest(self, manifest: RawManifest, *, member: bool = False) -> None:
        put = partial(
            self._registries.put_manifest,
            self._reference.bare() if member else self._reference,
            manifest.data,
            manifest.media_type,
            self._access,
            digest=manifest.digest if member else "",
        )
        if member:
            await put()
            return
        trace = Sent(
            self.name,
            manifest.digest,
            auth_file=self._access.auth_file,
            cert_dir=self._access.cert_dir,
            tls_verify=self._access.tls_verify,
        )
        await self._deed.carry_out(trace, put)

    async def finish(self) -> None:
        self._memory.met(self._there, self._reference.name)
        await self._memory.save()

    async def aclose(self) -> None:
        await self._memory.save()
