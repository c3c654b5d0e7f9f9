"""A layer on its way into the store: brought, unpacked beside it, and committed upon the one below.

A layer is known by what it is and by what it lies upon, so images that have it in common have it once, also while
both are being brought: the work is shared, and each of them is told how it goes on.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio

from pyman.api.image import Progress
from pyman.errors import (
    ArchiveRefused,
    DigestMismatch,
    PymanError,
    StorageFailed,
    first_of,
)
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
from supervisor.images.transfer.sharing import Sharing
from supervisor.images.transfer.unpacking import unpack
from supervisor.images.transports.docker import RegistrySource
from supervisor.images.transports.transport import Blob
from supervisor.logging import log

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from supervisor.archive.jobs import Unpacked
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transfer.sharing import Work
    from supervisor.images.transports.transport import Source
    from supervisor.storage.layers import Staged
    from supervisor.storage.records import Layer
    from supervisor.storage.store import Store

__all__ = ["Coming", "Layers", "Wanted"]

T = TypeVar("T")
AT_ONCE = 6
"""Layers that are brought at the same time, unless containers.conf says otherwise."""


class Wanted(msgspec.Struct, frozen=True):
    """A layer that an image needs."""

    id: str
    """In the store."""
    parent: str
    diff_id: str
    blob: Blob


class Coming:
    """What is known of one layer that is coming, and who is told."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.brought = False
        """It was not there before."""
        self._boards: list[Board] = []
        self._state = Progress(wanted.blob.digest, "waiting", 0, wanted.blob.size)

    def follow(self, board: Board) -> None:
        self._boards.append(board)
        board.note(self._state)

    def leave(self, board: Board) -> None:
        if board in self._boards:
            self._boards.remove(board)

    def tell(self, action: str, count: int, detail: str = "") -> None:
        self._state = Progress(self.wanted.blob.digest, action, count, self.wanted.blob.size, detail)
        for board in self._boards:
            board.note(self._state)

    def downloaded(self, count: int) -> None:
        if self._state.action != "unpacking":
            self.tell("downloading", count)

    def unpacked(self, count: int) -> None:
        """Unpacking follows the download, and is worth telling once that has come to its end."""
        size = self.wanted.blob.size
        if self._state.action == "unpacking" or (self._state.bytes >= size >= 0):
            self.tell("unpacking", count)

    def retrying(self, reason: str) -> None:
        self.tell("retrying", self._state.bytes, reason)


class Layers:
    """One for an engine. `nursery`: where layers are brought, longer than whoever asks for them."""

    def __init__(
        self,
        store: Store,
        limiter: trio.CapacityLimiter,
        nursery: trio.Nursery,
        *,
        at_once: int = 0,
    ) -> None:
        self._store = store
        self._limiter = limiter
        self._nursery = nursery
        self._turns = trio.CapacityLimiter(at_once or AT_ONCE)
        # A processor is left to containers that start meanwhile; downloads need none.
        self._unpacking = trio.CapacityLimiter(max(1, len(os.sched_getaffinity(0)) - 1))
        self._sweeping = False
        self._settling = trio.Lock()
        """Nobody finds a layer that is just being removed."""
        self.closed = False
        """The end has come: what is to be removed is left to the next start."""
        self._works: Sharing[Layer] = Sharing(nursery)

    @asynccontextmanager
    async def lease(
        self, wanted: Sequence[Wanted], source: Source, board: Board
    ) -> AsyncGenerator[list[Work[Layer]], None]:
        """The work on an image's layers, from the base upwards. While it is held the layers stay, once they are there;
        afterwards those that nothing uses are removed, if they were brought for it."""
        # A registry is there for all; an archive is closed when its own caller has gone.
        owner = 0 if isinstance(source, RegistrySource) else id(source)
        works: list[Work[Layer]] = []
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._forsake, works)
            below: Work[Layer] | None = None
            for each in wanted:
                fresh = Coming(each)
                make = partial(self._bring, fresh, source, below)
                below = await stack.enter_async_context(self._works.lease((each.id, owner), make, fresh))
                coming: Coming = below.about
                coming.follow(board)
                stack.callback(coming.leave, board)
                works.append(below)
            yield works

    def retrying(self, digest: str, reason: str) -> None:
        """A registry is asked again for a blob."""
        for work in self._works.works:
            if work.about.wanted.blob.digest == digest:
                work.about.retrying(reason)

    async def _forsake(self, works: Sequence[Work[Layer]]) -> None:
        """After the leases have been given back."""
        brought = [work.about.wanted.id for work in works if not work.users and work.about.brought]
        if not brought:
            return
        with trio.CancelScope(shield=True):
            async with self._settling:
                # Another image may have found them, which is not there yet: one of an archive, or begun meanwhile.
                wanted = {work.about.wanted.id for work in self._works.works}
                free = [id for id in brought if id not in wanted]
                try:
                    gone = await self._in_thread(self._store.delete_layers, free) if free else []
                except PymanError as error:
                    log.warning("cannot remove the layers of an image that did not come", error=str(error))
                    return
            if gone:
                self.sweep()

    async def _in_thread(self, act: Callable[..., T], *arguments: Any) -> T:
        return await trio.to_thread.run_sync(act, *arguments, limiter=self._limiter)

    async def _bring(self, coming: Coming, source: Source, below: Work[Layer] | None) -> Layer:
        """The work on one layer. `below`: that on the one it lies upon."""
        wanted = coming.wanted
        async with self._settling:
            there = await self._in_thread(self._store.find_layer, wanted.id)
        if there is not None:
            coming.tell("exists", wanted.blob.size)
            return there
        async with self._turns:
            staged, unpacked = await self._unpack(coming, source)
        try:
            if below is not None:
                await below.result()
            commit = partial(self._store.commit_layer, staged, wanted.id, wanted.parent, unpacked)
            layer = await self._in_thread(commit)
            coming.brought = True
        except BaseException:
            await self._give_up(staged)
            raise
        coming.tell("done", wanted.blob.size)
        return layer

    async def _unpack(self, coming: Coming, source: Source) -> tuple[Staged, Unpacked]:
        """Twice where an earlier attempt has left a part of it that is damaged."""
        wanted = coming.wanted
        copied = await self._copy(coming)
        if copied is not None:
            return copied
        begun = isinstance(source, RegistrySource) and source.begun(wanted.blob)
        while True:
            staged = await self._in_thread(self._store.staging)
            try:
                return staged, await self._unpack_into(staged, coming, source)
            except BaseException as error:
                await self._give_up(staged)
                if not (begun and isinstance(error, (ArchiveRefused, DigestMismatch))):
                    raise
                begun = False
                log.info("what was left of a layer is damaged: bringing it anew", digest=wanted.blob.digest)

    async def _copy(self, coming: Coming) -> tuple[Staged, Unpacked] | None:
        """From a layer of the store that was unpacked from the same blob, and lies upon another one. None: there is
        none, or it is not what it was."""
        wanted = coming.wanted
        for layer in await self._in_thread(self._same, wanted):
            tar_split = await self._in_thread(self._store.tar_split, layer)
            if not tar_split:
                continue
            staged = await self._in_thread(self._store.staging)
            try:
                unpacked = await self._unpack_again(
                    staged, wanted, f"{self._store.directory(layer)}/diff", tar_split
                )
            except BaseException as error:
                await self._give_up(staged)
                if not isinstance(error, (ArchiveRefused, DigestMismatch, StorageFailed)):
                    raise
                log.info("a layer of the store is not what it was: bringing it anew", layer=layer.id[:12])
                continue
            return staged, msgspec.structs.replace(
                unpacked,
                digest=layer.compressed_digest,
                size=layer.compressed_size,
                compression=layer.compressed_with or "none",
            )
        return None

    def _same(self, wanted: Wanted) -> list[Layer]:
        """Only what was read from that very blob: what a manifest says of it was compared then."""
        found = self._store.layers_with(compressed=wanted.blob.digest)
        return [layer for layer in found if layer.diff_id == wanted.diff_id]

    async def _unpack_again(self, staged: Staged, wanted: Wanted, diff: str, tar_split: str) -> Unpacked:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        failure: PymanError | None = None
        unpacked: list[Unpacked] = []

        async def pack() -> None:
            nonlocal writing
            try:
                await jobs.pack(diff, tar_split, writing)
            finally:
                descriptor, writing = writing, -1
                os.close(descriptor)

        try:
            async with self._unpacking, trio.open_nursery() as nursery:
                nursery.start_soon(pack)
                feed = Feed(reading)
                unpacked.append(
                    await unpack(
                        self._store,
                        self._limiter,
                        staged,
                        feed,
                        digest=wanted.diff_id,
                        diff_id=wanted.diff_id,
                    )
                )
        except* PymanError as group:
            failure = first_of(group)
        finally:
            os.close(reading)
            if writing >= 0:  # cancelled before it began
                os.close(writing)
        if failure is not None:
            raise failure
        return unpacked[0]

    async def _unpack_into(self, staged: Staged, coming: Coming, source: Source) -> Unpacked:
        wanted = coming.wanted
        coming.tell("downloading", 0)
        async with source.layer(wanted.blob, coming.downloaded) as feed, self._unpacking:
            return await unpack(
                self._store,
                self._limiter,
                staged,
                feed,
                digest=wanted.blob.digest,
                size=wanted.blob.size,
                diff_id=wanted.diff_id,
                report=coming.unpacked,
            )

    async def _give_up(self, staged: Staged) -> None:
        with trio.CancelScope(shield=True):
            try:
                await self._in_thread(self._store.discard, staged)
            except PymanError as error:
                log.warning("cannot remove what is left of a layer", path=staged.path, error=str(error))
        self.sweep()

    def sweep(self) -> None:
        """Have the files removed of what was taken out of the store; nobody waits for it."""
        if not self._sweeping and not self.closed:
            self._sweeping = True
            self._nursery.start_soon(self._sweep)

    async def _sweep(self) -> None:
        try:
            await self._store.sweep()
        except PymanError as error:
            log.warning("cannot remove what was taken out of the image store", error=str(error))
        finally:
            self._sweeping = False
