"""Taking over a container that an earlier supervisor left, at whatever point that one was.

With nothing recorded but a definition this does nothing: starting is recovering. What is recorded is
compared with what is there — conmon and the first process by pid and start time, the exit file, the OCI
runtime — and led on to what is wanted. One container that fails is marked and logged; the others go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import PymanError
from pyman.names import STATES_WITH_PROCESS, State
from supervisor.kernel import process
from supervisor.logging import log
from supervisor.runtime.life.states import Fact
from supervisor.runtime.records import Wanted

if TYPE_CHECKING:
    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.life.worker import Worker

__all__ = ["Recovery"]


class Recovery:
    """The worker's first step."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def adopt(self) -> None:
        worker = self._worker
        observed = worker.observed
        if observed.state in STATES_WITH_PROCESS:
            await self._with_process()
        elif observed.state is State.REMOVING:
            await worker.stopping.finish_removal()
        elif observed.state is State.STOPPED:
            await worker.ending.finish()
        elif observed.wanted is Wanted.REMOVED:
            await worker.stopping.finish_removal()
        elif observed.restart_at:
            worker.ending.arm_restart()
        elif observed.monitor is not None or observed.wanted in (Wanted.RUNNING, Wanted.INITIALIZED):
            await self._half_started()
        else:
            await worker.mounting.settle()

    async def _with_process(self) -> None:
        worker = self._worker
        observed = worker.observed
        worker.watch()
        worker.starting.keep_log()
        starting = observed.state is State.INITIALIZED and observed.wanted is Wanted.RUNNING
        if worker.init_fd is None:
            # It ended meanwhile: the watchers say so at once, and the ordinary way is taken. What is not
            # started waits for ever, so it had been.
            if starting and observed.init is not None:
                await worker.starting.note_started(process.begun_ns(observed.init))
            return
        await worker.body.wiring.hold(alone=worker.monitor_fd is None)
        if observed.attachments:
            await worker.body.wiring.adopt(worker.init_fd.ref)
        log.debug("adopted", container=worker.container.id, state=str(observed.state))
        if observed.rewiring:
            await worker.changing.take_back_networks()
        if observed.new_limits is not None:
            await worker.updating.take_back()
        if starting:
            await self._started_or_not(worker.init_fd.ref)
        elif observed.state is State.STOPPING:
            await worker.stopping.go_on()
        elif observed.forced:
            await worker.stopping.kill_again()
        elif observed.freezing:
            await self._frozen_or_not()

    async def _started_or_not(self, init: ProcessRef) -> None:
        """The earlier supervisor was killed around `start`: only the OCI runtime knows."""
        worker, begun = self._worker, process.begun_ns(init)
        if worker.monitor_fd is not None:
            await worker.body.place(worker.monitor_fd.ref)
        await worker.body.let_start()
        found = await worker.body.runtime.state(worker.container.id)
        if found is not None and found.status == "created":
            await worker.starting.go()
        else:
            # Also if it has ended by now: what is not started waits for ever.
            await worker.starting.note_started(begun)

    async def _frozen_or_not(self) -> None:
        """It was killed around `pause` or `unpause`."""
        worker = self._worker
        found = await worker.body.runtime.state(worker.container.id)
        frozen = found is not None and found.status == "paused"
        await worker.changing.note_frozen(frozen)

    async def _half_started(self) -> None:
        """A start was begun and the command has not run: what there is of it is taken back and done anew."""
        worker = self._worker
        wanted = worker.observed.wanted
        await worker.body.end_monitor(worker.observed.monitor)
        await worker.body.clean(made=True)
        await worker.note(Fact.UNDONE, monitor=None, init=None, monitor_state="")
        if wanted is Wanted.RUNNING:
            await worker.starting.start_alone()
        elif wanted is Wanted.INITIALIZED:
            try:
                await worker.starting.initialize(Wanted.INITIALIZED)
            except PymanError as error:
                log.warning("cannot initialize", container=worker.container.id, error=str(error))
