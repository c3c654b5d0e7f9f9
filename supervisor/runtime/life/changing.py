"""What changes a container without starting or ending it: freezing, its name, its networks. Everything else is in
`updating`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from pyman.names import EventStatus, State
from supervisor.runtime.life.states import Fact
from supervisor.runtime.records import replaced

if TYPE_CHECKING:
    from pyman.api.event import Actor
    from supervisor.runtime.life import requests as rq
    from supervisor.runtime.life.worker import Worker

__all__ = ["Changing"]


class Changing:
    """The worker's part for the smaller changes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def pause(self, request: rq.Pause) -> None:
        worker = self._worker
        worker.require((State.RUNNING,), "pause")
        if not worker.body.placement.path:
            name = worker.container.name
            raise NotSupported(
                f"cannot pause container '{name}': it has no cgroup, whose processes could be frozen",
                subject=name,
                hint="an ordinary user's containers have one with cgroup v2 and the systemd manager",
            )
        await worker.note(freezing=True)
        await worker.body.runtime.pause(worker.container.id)
        await self.note_frozen(True, request.actor)
        request.answer.give(True)

    async def unpause(self, request: rq.Unpause) -> None:
        worker = self._worker
        worker.require((State.PAUSED,), "unpause")
        await worker.note(freezing=True)
        await worker.body.runtime.resume(worker.container.id)
        await self.note_frozen(False, request.actor)
        request.answer.give(True)

    async def note_frozen(self, frozen: bool, actor: Actor | None = None) -> None:
        """Record whether the container's processes are frozen, if that is news."""
        worker = self._worker
        if frozen == (worker.observed.state is State.PAUSED):
            await worker.note(freezing=False)
        elif frozen:
            event = worker.event(EventStatus.PAUSE, actor)
            await worker.note(Fact.PAUSED, freezing=False, events=[event])
        else:
            event = worker.event(EventStatus.UNPAUSE, actor)
            await worker.note(Fact.UNPAUSED, freezing=False, events=[event])

    async def rename(self, request: rq.Rename) -> None:
        worker = self._worker
        worker.require(set(State) - {State.REMOVING}, "rename")
        old = worker.container.definition
        if request.name == old.name:
            raise InvalidArgument(f"cannot rename '{old.name}': it has that name already", subject=old.name)
        new = replaced(old, name=request.name, spec=replaced(old.spec, name=request.name))
        event = worker.event(EventStatus.RENAME, request.actor, oldName=old.name, newName=request.name)
        await worker.redefine(new, [replaced(event, name=request.name)])
        if worker.observed.networks:
            from supervisor.runtime.life import connecting

            await connecting.renamed(worker)
        request.answer.give(old.name)

    # Imported here, as what only containers on networks need.

    async def leases_changed(self) -> None:
        from supervisor.runtime.life import leasing

        await leasing.follow(self._worker)

    async def connect(self, request: rq.Connect) -> None:
        from supervisor.runtime.life import connecting

        await connecting.connect(self._worker, request)

    async def disconnect(self, request: rq.Disconnect) -> None:
        from supervisor.runtime.life import connecting

        await connecting.disconnect(self._worker, request)

    async def reload_networks(self, request: rq.ReloadNetworks) -> None:
        from supervisor.runtime.life import connecting

        await connecting.reload(self._worker, request)

    async def take_back_networks(self) -> None:
        """What an earlier supervisor had begun."""
        from supervisor.runtime.life import connecting

        await connecting.take_back(self._worker)
