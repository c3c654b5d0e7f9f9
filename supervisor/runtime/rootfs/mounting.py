"""A container's root filesystem, mounted for somebody else than the container: for people (`pyman mount`), or for as long
as it is packed.

It is the container's own mount, made earlier or kept longer. People's mounts are counted in the record, as they outlive
the supervisor; those of work under way end with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import WrongState
from pyman.names import STATES_WITH_PROCESS, EventStatus, State

if TYPE_CHECKING:
    from supervisor.runtime.life import requests as rq
    from supervisor.runtime.life.worker import Worker

__all__ = ["Mounting"]


class Mounting:
    """The worker's part for it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def mount(self, request: rq.Mount) -> None:
        worker, container = self._worker, self._worker.container
        await worker.ending.settle()
        if worker.observed.state in (State.REMOVING, State.STOPPED):
            name = container.name
            raise WrongState(f"cannot mount container '{name}': it is {worker.observed.state}", subject=name)
        if worker.observed.state in STATES_WITH_PROCESS or container.held:
            path = worker.body.preparing.root()
        else:
            path = await worker.body.preparing.mount()
        if request.lasting:
            event = worker.event(EventStatus.MOUNT, request.actor)
            await worker.note(mounts=worker.observed.mounts + 1, events=[event])
        else:
            container.holds += 1
        request.answer.give(path)

    async def unmount(self, request: rq.Unmount) -> None:
        worker, container = self._worker, self._worker.container
        if not request.lasting:
            container.holds -= 1
        elif worker.observed.mounts == 0:
            request.answer.give(False)
            return
        else:
            left = 0 if request.force else worker.observed.mounts - 1
            await worker.note(mounts=left, events=[worker.event(EventStatus.UNMOUNT, request.actor)])
        await self.settle()
        request.answer.give(True)

    async def settle(self) -> None:
        """Unmount what nobody holds any more and no process runs on."""
        worker = self._worker
        if worker.observed.state not in (State.CREATED, State.EXITED) or worker.container.held:
            return
        if worker.body.remains():
            await worker.body.clean(made=False)
