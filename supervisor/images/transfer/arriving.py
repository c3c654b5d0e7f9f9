"""Images that come by other ways than from a registry: load, import, and pull from archives, directories and stores.

Each call belongs to its caller: whoever goes away cancels it, and it has not happened. What is told of it while it
goes on is on the caller's board.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from pyman.errors import InvalidArgument, PymanError
from pyman.names import EventStatus
from supervisor.images.events import event
from supervisor.images.names import normalized
from supervisor.images.transfer import loading
from supervisor.images.transfer.elsewhere import is_own
from supervisor.images.transfer.importing import Importing
from supervisor.images.transfer.sending import outgoing
from supervisor.images.transports import opening
from supervisor.images.transports import places as transports
from supervisor.images.transports.store_source import StoreSource, other_store
from supervisor.images.view import HERE
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pyman.api.event import Actor
    from pyman.api.image import ImportRequest
    from pyman.api.pull import Platform
    from supervisor.images.library import Images
    from supervisor.images.transfer.loading import Loaded
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transports.folder import Files
    from supervisor.images.transports.places import Place
    from supervisor.images.transports.transport import Source
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.storage.records import Image

__all__ = ["Arriving", "path_of"]

T = TypeVar("T")


def path_of(fd: int) -> str:
    """What a descriptor of a regular file is called now; empty: it has no name."""
    with suppress(OSError):
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.startswith("/") and not path.endswith(" (deleted)"):
            return path
    return ""


class Arriving:
    """One for an engine."""

    def __init__(self, images: Images, settings: Settings, layout: Layout) -> None:
        self._images = images
        self._settings = settings
        self._layout = layout
        self._importing = Importing(images.store, images.ledger, images.limiter)

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(act, limiter=self._images.limiter)

    @property
    def spool_in(self) -> str:
        """A directory of the file system that has room for layers."""
        return self._layout.graph_root

    async def load(self, path: str, fd: int, board: Board, actor: Actor | None) -> Loaded:
        """Every image of an archive, or of what is at `path` where there is no descriptor (-1).

        InvalidArgument, ArchiveRefused, SignatureRefused, DigestMismatch, NotSupported, DiskFull, StorageFailed.
        """
        name = path or path_of(fd) or "the archive"
        async with self._opened(name, fd) as files:
            await self._images.registries.permit_place(await opening.kind_of(files), name)
            return await loading.bring_all(
                self._images.storing,
                await opening.images_of(files),
                platform=HERE,
                board=board,
                status=EventStatus.LOAD,
                event_name=name,
                actor=actor,
            )

    @asynccontextmanager
    async def _opened(self, name: str, fd: int) -> AsyncIterator[Files]:
        if fd >= 0:
            async with opening.archive(fd, name, self.spool_in) as archive:
                yield archive
        elif not os.path.isabs(name):
            raise InvalidArgument(f"cannot load '{name}': it is not an absolute path", subject=name)
        elif await self._in_thread(partial(os.path.isdir, name)):
            async with opening.directory(name) as folder:
                yield folder
        else:
            async with opening.opened_file(name) as own, opening.archive(own, name, self.spool_in) as archive:
                yield archive

    async def pull(self, text: str, platform: Platform, fd: int, board: Board, actor: Actor | None) -> Loaded:
        """The image of a place that is no registry. `fd`: its archive, if the client has opened that; else -1.

        Errors of `load`; NoSuchImage, AmbiguousId.
        """
        try:
            return await self._pull(text, platform, fd, board, actor)
        except PymanError as error:
            told = event(EventStatus.PULL_ERROR, "", text, actor, {"error": str(error)})
            await self._images.ledger.tell(told)
            raise

    async def _pull(
        self, text: str, platform: Platform, fd: int, board: Board, actor: Actor | None
    ) -> Loaded:
        async with self._candidate(transports.parse(text), fd) as candidate:
            return await loading.bring_all(
                self._images.storing,
                [candidate],
                platform=platform,
                board=board,
                status=EventStatus.PULL,
                event_name=text,
                actor=actor,
            )

    @asynccontextmanager
    async def _candidate(self, where: Place, fd: int) -> AsyncIterator[opening.Candidate]:
        if where.transport != transports.STORAGE:
            await self._images.registries.permit_place(
                where.transport, where.path, f"{where.path}:{where.name}"
            )
            async with opening.place(where, self.spool_in, fd) as candidate:
                yield candidate
            return
        if not await self._in_thread(partial(is_own, where, self._layout)):
            store = f"[overlay@{where.graph_root}]"
            async with other_store(where, self._settings, self._layout, self.spool_in) as (source, name):
                inside = reference.parse(name).name if name else ""
                full = name or f"@{where.name}"
                await self._images.registries.permit_place(
                    where.transport, f"{store}{inside}", f"{store}{full}"
                )
                yield opening.Candidate((name,) if name else (), _given(source))
            return
        found = await self._images.find(where.name)
        image = await self._in_thread(partial(outgoing, self._images.store, found.image))
        names = () if found.by_id else (found.name,)
        yield opening.Candidate(names, _given(StoreSource(image, str(where), self.spool_in)))

    @asynccontextmanager
    async def source(self, text: str) -> AsyncIterator[Source]:
        """The image of a place that is no registry, to be looked at and not kept. Errors of `pull`."""
        async with self._candidate(transports.parse(text), -1) as candidate:
            source = await candidate.open()
            try:
                yield source
            finally:
                await source.aclose()

    async def import_archive(
        self, request: ImportRequest, fd: int, board: Board, actor: Actor | None
    ) -> tuple[Image, tuple[str, ...]]:
        """The new image and its names. InvalidArgument, ArchiveRefused, DiskFull, StorageFailed."""
        names = (str(normalized(request.reference)),) if request.reference else ()
        return await self._importing.import_archive(request, names, fd, board, actor), names


def _given(source: Source) -> Callable[[], Awaitable[Source]]:
    async def give() -> Source:
        return source

    return give
