"""The part of `io.pyman.Image` by which images come and go: archives, pushes, manifest lists, builds."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from pyman.api import image as api
from pyman.errors import InvalidArgument, PymanError, first_of
from pyman.names import EventStatus
from supervisor.images import building
from supervisor.images.events import event
from supervisor.images.transfer.progress import Board
from supervisor.images.transfer.pulling import POLICIES
from supervisor.rpc.rootfs import actor_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor.images.library import Images
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.services import Services

__all__ = ["TransferHandlers", "tell"]

T = TypeVar("T")
_STREAMS = 3


class TransferHandlers:
    """All of it belongs to the caller and ends with him."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _images(self) -> Images:
        return self._services.images

    @property
    def _services(self) -> Services:
        self._engine.check_valid()
        return self._engine.services

    async def _finished(self, work: Callable[[], Awaitable[T]]) -> T:
        """A change that was begun comes to its end, whatever becomes of the caller."""
        done: T = await self._engine.background(work).get()
        return done

    # ------------------------------------------------------------------ archives

    async def load(self, request: api.LoadRequest, call: Call) -> api.TransferReply:
        fd = _one(call)
        work = partial(self._services.arriving.load, request.path, fd, actor=actor_of(call))
        loaded = await told(call, lambda board: work(board=board), quiet=request.quiet)
        return api.TransferReply(ids=list(loaded.ids), names=list(loaded.names))

    async def save(self, request: api.SaveRequest, call: Call) -> api.TransferReply:
        fd = _one(call)
        work = partial(self._services.leaving.save, request, fd, actor=actor_of(call))
        await told(call, lambda board: work(board=board), quiet=False)
        return api.TransferReply()

    async def import_(self, request: api.ImportRequest, call: Call) -> api.TransferReply:
        fd = _one(call)
        if fd < 0:
            raise InvalidArgument("cannot import: no archive was given")
        work = partial(self._services.arriving.import_archive, request, fd, actor=actor_of(call))
        image, names = await told(call, lambda board: work(board=board), quiet=request.quiet)
        return api.TransferReply(ids=[image.id], names=list(names))

    async def pull_place(self, request: api.PullRequest, call: Call) -> api.TransferReply:
        """`Pull`, where the reference names a place that is no registry."""
        if request.all_tags:
            raise InvalidArgument(f"cannot pull all tags of '{request.reference}': it is in no registry")
        if request.policy not in POLICIES:
            raise InvalidArgument(f"cannot pull by the policy '{request.policy}'", subject=request.reference)
        work = partial(
            self._services.arriving.pull,
            request.reference,
            request.platform,
            _one(call),
            actor=actor_of(call),
        )
        loaded = await told(call, lambda board: work(board=board), quiet=request.quiet)
        return api.TransferReply(ids=list(loaded.ids), names=list(loaded.names))

    # ------------------------------------------------------------------ elsewhere

    async def push(self, request: api.PushRequest, call: Call) -> api.TransferReply:
        work = partial(self._services.leaving.push, request, _one(call), actor=actor_of(call))
        id, digest = await told(call, lambda board: work(board=board), quiet=request.quiet)
        return api.TransferReply(ids=[id], digest=digest)

    # ------------------------------------------------------------------ manifest lists

    async def manifest_create(self, request: api.ManifestCreateRequest, call: Call) -> api.ManifestReply:
        work = partial(self._services.leaving.lists.create, request)
        return api.ManifestReply(id=await self._finished(work))

    async def manifest_add(self, request: api.ManifestAddRequest, call: Call) -> api.ManifestReply:
        work = partial(self._services.leaving.lists.add, request)
        return api.ManifestReply(id=await self._finished(work))

    async def manifest_annotate(self, request: api.ManifestAnnotateRequest, call: Call) -> api.ManifestReply:
        work = partial(self._services.leaving.lists.annotate, request)
        return api.ManifestReply(id=await self._finished(work))

    async def manifest_inspect(
        self, request: api.ManifestInspectRequest, call: Call
    ) -> api.ManifestInspectReply:
        lists = self._services.leaving.lists
        return api.ManifestInspectReply(manifest=await lists.inspect(request.name, request.access))

    async def manifest_push(self, request: api.ManifestPushRequest, call: Call) -> api.TransferReply:
        work = partial(self._services.leaving.push_list, request, actor=actor_of(call))
        id, digest = await told(call, lambda board: work(board=board), quiet=request.quiet)
        return api.TransferReply(ids=[id], digest=digest)

    # ------------------------------------------------------------------ build

    async def build(self, request: api.BuildRequest, call: Call) -> api.BuildReply:
        images = self._images
        if len(call.descriptors) != _STREAMS:
            raise InvalidArgument("cannot build: stdin, stdout and stderr have to come with the request")
        services = self._services
        built = await building.build(
            services.settings,
            services.layout,
            request.arguments,
            runtime=services.runtimes.default.path,
            cwd=request.cwd,
            environment=request.environment,
            streams=call.descriptors,
            deeds=images.deeds,
            told=event(EventStatus.BUILD, "", request.tags[0] if request.tags else "", actor_of(call)),
        )
        return api.BuildReply(exit_code=built.exit_code, id=built.id)


def _one(call: Call) -> int:
    """The descriptor that came with the request, which stays the call's; -1: none did."""
    return call.descriptors[0] if call.descriptors else -1


async def told(call: Call, work: Callable[[Board], Awaitable[T]], *, quiet: bool) -> T:
    """What the work comes to, while its caller is told how it goes on."""
    board = Board()
    results: list[T] = []
    failed: list[PymanError] = []

    async def run() -> None:
        try:
            results.append(await work(board))
        finally:
            board.close()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await tell(board, call, quiet=quiet)
    except* PymanError as group:
        failed.append(first_of(group))
    if failed:
        raise failed[0]
    return results[0]


async def tell(board: Board, call: Call, *, quiet: bool) -> None:
    """How a transfer goes on, to its end. A caller who reads slowly gets what is true when he reads."""
    if quiet:
        await board.wait_closed()
        return
    async with aclosing(board.read()) as items:
        async for item in items:
            if isinstance(item, str):
                await call.send(api.TransferReply(text=item))
            else:
                await call.send(api.TransferReply(progress=item))
