"""What is made of containers' root filesystems: the part of `io.pyman.Container` that mounts, packs and compares them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyman.api.container import Result, ResultsReply
from pyman.api.event import Actor
from pyman.api.method import Nothing
from pyman.api.rootfs import CommitReply, MountedContainer, MountReply
from pyman.errors import InvalidArgument
from pyman.names import STATES_WITH_PROCESS
from supervisor.rpc.copying import CopyHandlers
from supervisor.runtime.life import requests as rq
from supervisor.runtime.rootfs import committing

if TYPE_CHECKING:
    from pyman.api import rootfs as api
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.registry import Entry, View

__all__ = ["RootfsHandlers", "actor_of"]


def actor_of(call: Call) -> Actor:
    return Actor(uid=call.caller.uid, pid=call.caller.pid)


class RootfsHandlers(CopyHandlers):
    """The base of the handlers of containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _view(self, call: Call) -> View:
        """What this client sees."""
        return self._engine.view(call.session.get("namespace", ""))

    async def mount(self, request: api.MountRequest, call: Call) -> MountReply:
        selection = request.selection
        if not (selection.names or selection.all or selection.latest or selection.filters):
            return MountReply([_mounted(entry) for entry in self._view(call) if _is_mounted(entry)])
        paths: dict[str, str] = {}

        async def work(entry: Entry) -> Result:
            path: str = await entry.worker.ask(rq.Mount(actor=actor_of(call), lasting=True))
            paths[entry.container.id] = path
            return Result(name=entry.container.name, id=entry.container.id)

        results = await self._engine.each(self._view(call), selection, work)
        return MountReply(
            [MountedContainer(each.id, each.name, paths.get(each.id, ""), each.error) for each in results]
        )

    async def unmount(self, request: api.UnmountRequest, call: Call) -> ResultsReply:
        async def work(entry: Entry) -> Result:
            wish = rq.Unmount(actor=actor_of(call), lasting=True, force=request.force)
            return Result(name="", id=entry.container.id, changed=await entry.worker.ask(wish))

        keep = None if request.selection.names else (lambda container: container.observed.mounts > 0)
        return ResultsReply(await self._engine.each(self._view(call), request.selection, work, keep=keep))

    async def export(self, request: api.ExportRequest, call: Call) -> Nothing:
        descriptors = call.take_descriptors()
        try:
            if len(descriptors) != 1:
                raise InvalidArgument(
                    f"cannot export to {len(descriptors)} descriptors: one is to be written to"
                )
            entry = self._view(call).find(request.name)
            await committing.export(self._engine.services, entry, descriptors[0], actor_of(call))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return Nothing()

    async def changes(self, request: api.ChangesRequest, call: Call) -> api.ChangesReply:
        view = self._view(call)
        if request.of:
            from supervisor.runtime.rootfs import comparing

            return await comparing.compare(self._engine.services, view, request.name, request.of)
        return await committing.changes(self._engine.services, view.find(request.name).container.definition)

    async def commit(self, request: api.CommitRequest, call: Call) -> CommitReply:
        entry = self._view(call).find(request.name)
        return CommitReply(await committing.commit(self._engine.services, entry, request, actor_of(call)))


def _is_mounted(entry: Entry) -> bool:
    observed = entry.container.observed
    return observed.state in STATES_WITH_PROCESS or observed.mounts > 0


def _mounted(entry: Entry) -> MountedContainer:
    return MountedContainer(entry.container.id, entry.container.name, entry.worker.body.preparing.root())
