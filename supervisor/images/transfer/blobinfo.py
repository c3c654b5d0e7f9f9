"""What is remembered of blobs: which hold the same layer, compressed one way or another, and where they were sent.

A push asks the registry for what is remembered before it packs anything; a wrong memory costs one request. It is kept
in a file of the static directory, bounded, the longest unused forgotten first. Losing it costs nothing but time, so
what is damaged is begun anew.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import PymanError
from supervisor.kernel.files import write_atomic
from supervisor.logging import log

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BlobInfo", "Known"]

_LAYERS = 2000
_BLOBS = 4
"""Of one layer."""
_PLACES = 8
"""Of one blob."""
_SIZE_LIMIT = 8 << 20


class Known(msgspec.Struct, frozen=True):
    """A blob that holds a layer. `compression`: gzip, zstd, none."""

    digest: str
    size: int
    compression: str


class _Blob(msgspec.Struct):
    known: Known
    places: list[str] = []
    """Repositories, as `registry.example/app`, the last one first."""


class BlobInfo:
    """One for an engine."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._layers: dict[str, dict[str, _Blob]] | None = None
        self._changed = False

    def known(self, diff_id: str) -> list[Known]:
        """The blobs of a layer, by the digest of its uncompressed archive; the last one learnt first."""
        return [blob.known for blob in reversed(self._read().get(diff_id, {}).values())]

    def learn(self, diff_id: str, known: Known) -> None:
        layers = self._read()
        blobs = layers.pop(diff_id, {})
        blob = blobs.pop(known.digest, None) or _Blob(known)
        blobs[known.digest] = blob
        while len(blobs) > _BLOBS:
            del blobs[next(iter(blobs))]
        layers[diff_id] = blobs
        while len(layers) > _LAYERS:
            del layers[next(iter(layers))]
        self._changed = True

    def places(self, digest: str) -> list[str]:
        """Repositories that had the blob."""
        return next((list(blobs[digest].places) for blobs in self._read().values() if digest in blobs), [])

    def met(self, digests: Iterable[str], repository: str) -> None:
        """The repository has these blobs now."""
        wanted = set(digests)
        for blobs in self._read().values():
            for digest in wanted & blobs.keys():
                places = blobs[digest].places
                if repository in places:
                    places.remove(repository)
                blobs[digest].places = [repository, *places][:_PLACES]
                self._changed = True

    def _read(self) -> dict[str, dict[str, _Blob]]:
        if self._layers is None:
            self._layers = {}
            try:
                if os.path.getsize(self._path) <= _SIZE_LIMIT:
                    with open(self._path, "rb") as file:
                        self._layers = msgspec.json.decode(file.read(), type=dict[str, dict[str, _Blob]])
            except FileNotFoundError:
                pass
            except (OSError, msgspec.DecodeError, RecursionError) as error:
                log.warning("what was remembered of blobs is lost", path=self._path, error=str(error))
        return self._layers

    async def save(self) -> None:
        """Write what has changed. That it cannot be written is no error of a push."""
        if not self._changed or self._layers is None:
            return
        self._changed = False
        data = msgspec.json.encode(self._layers)
        try:
            await trio.to_thread.run_sync(partial(write_atomic, self._path, data))
        except PymanError as error:
            log.warning("what is known of blobs cannot be written", error=str(error))
