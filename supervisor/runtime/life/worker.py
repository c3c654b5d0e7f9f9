"""The one task that changes a container.

Requests, ended processes and timers reach it through its inbox, one at a time; whatever it does is
short or has a deadline. It follows one rule everywhere: commit what is intended, act, commit what was
seen. A supervisor that is killed in between finds enough to go on (`recovery`), and so does this one where
something failed in between (a full disk): it takes it up again after a while.

What it does stands beside it by topic: `starting`, `stopping`, `ending`, `changing`, `updating`, `mounting`. Here are the loop, the
record, the watchers and the timers.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from pyman.errors import EngineStopped, InternalError, NoSuchContainer, PymanError, WrongState
from pyman.names import STATES_WITH_PROCESS, State
from supervisor.kernel import cgroups, process
from supervisor.kernel.background import background
from supervisor.logging import log
from supervisor.runtime.health.checking import Checking
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.body import Body
from supervisor.runtime.life.changing import Changing
from supervisor.runtime.life.ending import Ending
from supervisor.runtime.life.requests import Notice, NoticeKind
from supervisor.runtime.life.starting import Starting
from supervisor.runtime.life.states import Fact, after
from supervisor.runtime.life.stopping import Stopping
from supervisor.runtime.life.updating import Updating
from supervisor.runtime.networks.wiring import NOT_WIRED
from supervisor.runtime.records import Wanted, encode, replaced
from supervisor.runtime.recovery.adopting import Recovery
from supervisor.runtime.rootfs.mounting import Mounting
from supervisor.state.database import PutDefinition, PutState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from pyman.api.event import Actor
    from pyman.names import EventStatus
    from supervisor.kernel.process import Pidfd, ProcessRef
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Definition, Observed
    from supervisor.runtime.services import Services
    from supervisor.state.database import Change, EventDraft

__all__ = ["Worker"]


ENDS = (Fact.CLEANED, Fact.UNDONE)
"""Of a run: it has nothing on networks any more, unless it is said."""
INBOX = 64
"""Requests that may wait for a container; a further one waits at its sender."""
PAUSE_LEAST, PAUSE_MOST = 1.0, 60.0
"""Seconds until what failed is taken up again; doubled from one failure to the next."""


class Worker:
    """Owns one container from its definition to its removal. `on_leaving` is told in the step in which
    its removal is committed where something of it is still there, `on_removed` when all of it is gone."""

    def __init__(
        self,
        services: Services,
        container: Container,
        on_removed: Callable[[Container], None],
        on_leaving: Callable[[Container], None],
    ) -> None:
        self.services = services
        self.container = container
        self.on_removed = on_removed
        self.on_leaving = on_leaving
        self.body = Body(services, container)
        self.starting = Starting(self)
        self.stopping = Stopping(self)
        self.ending = Ending(self)
        self.changing = Changing(self)
        self.updating = Updating(self)
        self.mounting = Mounting(self)
        self.checking = Checking(self)
        self.monitor_fd: Pidfd | None = None
        self.init_fd: Pidfd | None = None
        self._send, self._inbox = trio.open_memory_channel[Any](INBOX)
        self.unmet: PymanError | None = None
        """Why what it depends on could not be made ready."""
        self._awaits_needs = False
        self._timers: dict[NoticeKind, trio.CancelScope] = {}
        self._watches: list[trio.CancelScope] = []
        self._leases: trio.CancelScope | None = None
        self._pause = PAUSE_LEAST
        self._bug = ""
        """The last internal error: the same one is told with its traceback but once."""
        self._nursery: trio.Nursery
        self._on_request: dict[type[rq.Request[Any]], Callable[[Any], Awaitable[None]]] = {
            rq.Init: self.starting.init,
            rq.Start: self.starting.start,
            rq.Stop: self.stopping.stop,
            rq.Restart: self.stopping.restart,
            rq.Kill: self.stopping.kill,
            rq.Pause: self.changing.pause,
            rq.Unpause: self.changing.unpause,
            rq.Remove: self.stopping.remove,
            rq.Rename: self.changing.rename,
            rq.Connect: self.changing.connect,
            rq.Disconnect: self.changing.disconnect,
            rq.ReloadNetworks: self.changing.reload_networks,
            rq.Update: self.updating.update,
            rq.Mount: self.mounting.mount,
            rq.Unmount: self.mounting.unmount,
            rq.Checked: self.checking.checked,
        }
        self._on_notice: dict[NoticeKind, Callable[[], Awaitable[None]]] = {
            NoticeKind.MONITOR_GONE: self.ending.monitor_gone,
            NoticeKind.INIT_GONE: self.ending.init_gone,
            NoticeKind.MONITOR_LATE: self.ending.monitor_late,
            NoticeKind.STOP_LATE: self.stopping.stop_late,
            NoticeKind.KILL_LATE: self.stopping.kill_late,
            NoticeKind.RESTART_DUE: self.starting.restart_due,
            NoticeKind.LEASE_CHANGED: self.changing.leases_changed,
            NoticeKind.NEEDS_READY: self.starting.needs_ready,
            NoticeKind.TAKE_UP: Recovery(self).adopt,
        }

    # ------------------------------------------------------------------ the loop

    async def run(self, adopted: trio.Event) -> None:
        """Adopt what is there, then serve the inbox until the container is removed."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._attempt(Recovery(self).adopt)
                await self._attempt(self.checking.adopt)
                adopted.set()
                while not self.container.removed:
                    message = await self._inbox.receive()
                    # A change once begun is finished: every wait inside it has a deadline of its own.
                    with trio.CancelScope(shield=True), background.ahead():
                        await self._handle(message)
                self._nursery.cancel_scope.cancel()
        finally:
            adopted.set()
            self._close()

    async def ask(self, request: rq.Request[Any]) -> Any:
        """Put a request and wait for its answer. Cancelling the wait does not withdraw the request."""
        try:
            await self._send.send(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._too_late(request)
        return await request.answer.get()

    def _too_late(self, request: rq.Request[Any]) -> None:
        """The container is gone or the supervisor ends. Who asked for a removal has got it."""
        if self._is_gone and isinstance(request, rq.Remove):
            request.answer.give(True)
        else:
            request.answer.fail(self._gone())

    @property
    def _is_gone(self) -> bool:
        """For everybody but this worker."""
        return self.container.removed or self.observed.leaving

    def _gone(self) -> PymanError:
        name = self.container.name
        if self._is_gone:
            return NoSuchContainer(f"cannot find container '{name}': it was removed", subject=name)
        return EngineStopped("cannot do that: the runtime is stopped", subject=name)

    def _close(self) -> None:
        """Whoever still waits is told; nobody hangs."""
        self.unwatch()
        self.body.wiring.close()
        self.checking.stop()
        self.stopping.fail_waiting(self._gone())
        try:
            while True:
                message = self._inbox.receive_nowait()
                if isinstance(message, rq.Request):
                    self._too_late(message)
        except trio.WouldBlock:
            self._inbox.close()

    async def _handle(self, message: rq.Request[Any] | Notice) -> None:
        if isinstance(message, rq.Request):
            if self.observed.leaving:
                self._too_late(message)
                return
            if self.services.ending and isinstance(message, (rq.Init, rq.Start, rq.Restart)):
                message.answer.fail(self._gone())
                return
            await self._attempt(partial(self._on_request[type(message)], message), message)
        elif message.run == self.observed.run:
            self._timers.pop(message.kind, None)
            await self._attempt(self._on_notice[message.kind], again=message.kind is NoticeKind.TAKE_UP)

    def take_up_later(self) -> None:
        """Something was left half done: look again after a pause, as a next supervisor would at once."""
        self.arm(NoticeKind.TAKE_UP, self._pause)
        self._pause = min(self._pause * 2, PAUSE_MOST)

    async def _attempt(
        self,
        work: Callable[[], Awaitable[None]],
        request: rq.Request[Any] | None = None,
        *,
        again: bool = False,
    ) -> None:
        """The boundary of one container: whatever goes wrong in it must not take the others along.

        A failure goes to whoever asked; where nobody did, into the log. What is half done is taken up again, ever
        more rarely. `again`: that is being done; where the end is still to come, it may fail as before.
        """
        error: PymanError
        try:
            await work()
            still_open = again and self.observed.state in STATES_WITH_PROCESS
            if NoticeKind.TAKE_UP not in self._timers and not still_open:
                self._pause = PAUSE_LEAST
            return
        except PymanError as expected:
            error = expected
            if request is None:
                log.warning("container", container=self.container.id, error=str(error), code=error.code)
            if request is None or not self._at_rest():
                self.take_up_later()
        except Exception as bug:  # noqa: BLE001 - it goes into the log and to whoever waits
            error = InternalError("cannot do that: internal error", subject=self.container.name)
            self._tell(bug)
            # Nobody knows whether what they wait for still comes.
            self.stopping.fail_waiting(error)
            self.take_up_later()
        if request is not None:
            request.answer.fail(error)

    def _tell(self, bug: Exception) -> None:
        """Into the log."""
        said = repr(bug)
        known, self._bug = said == self._bug, said
        log.error("container", container=self.container.id, error=said, exc_info=None if known else bug)

    def _at_rest(self) -> bool:
        """The container is where it is wanted, or a descriptor or timer will tell."""
        observed = self.observed
        if observed.state in (State.CREATED, State.EXITED):
            return observed.monitor is None and (observed.wanted is Wanted.STOPPED or observed.restart_at > 0)
        if observed.state is State.INITIALIZED:
            return observed.wanted is Wanted.INITIALIZED
        return observed.state in STATES_WITH_PROCESS

    # ------------------------------------------------------------------ the record

    @property
    def observed(self) -> Observed:
        return self.container.observed

    async def note(
        self,
        fact: Fact | None = None,
        *,
        events: Sequence[EventDraft] = (),
        durable: bool = False,
        **changes: Any,
    ) -> None:
        """Commit what was observed or is intended; only then is it so in memory, and told to waiters.

        With `leaving` the container gives its name away and nobody sees it from then on.
        """
        observed = self.container.observed
        if fact is not None:
            changes["state"] = after(observed.state, fact, subject=self.container.name)
            if fact in ENDS:
                changes = NOT_WIRED | changes
        new = replaced(observed, **changes)
        change: list[Change] = [PutState("container", self.container.id, encode(new))]
        leaves = new.leaving and not observed.leaving
        if leaves:
            definition = self.container.definition
            change.append(PutDefinition("container", definition.id, "", encode(definition)))

        def take_over(_events: object) -> None:
            self.container.observe(new)
            if observed.holds and not new.holds:
                self.services.allocation.give_back(self.container.id)
            if leaves:
                self.on_leaving(self.container)

        await self.services.database.commit(change, events, durable=durable or leaves, apply=take_over)
        self.checking.follow()

    async def redefine(self, new: Definition, events: Sequence[EventDraft], **changes: Any) -> None:
        """Commit another definition and what changes with it in the record, or nothing of it."""
        observed = replaced(self.observed, **changes)
        records: list[Change] = [PutDefinition("container", new.id, new.name, encode(new))]
        if changes:
            records.append(PutState("container", new.id, encode(observed)))

        def take_over(_events: object) -> None:
            self.container.definition = new
            self.container.observe(observed)

        await self.services.database.commit(records, events, durable=True, apply=take_over)

    def event(self, status: EventStatus, actor: Actor | None = None, **attributes: Any) -> EventDraft:
        return self.container.event(status, actor, **attributes)

    def require(self, states: Collection[State], verb: str) -> None:
        """Refuse a request that the present state does not permit."""
        if self.observed.state not in states:
            name = self.container.name
            raise WrongState(f"cannot {verb} container '{name}': it is {self.observed.state}", subject=name)

    # ------------------------------------------------------------------ watchers and timers

    def watch(self) -> None:
        """Wait for the end of conmon and of the container's first process."""
        self.unwatch()
        observed = self.observed
        self.monitor_fd = _open(observed.monitor)
        self.init_fd = _open(observed.init)
        for pidfd, kind in ((self.monitor_fd, NoticeKind.MONITOR_GONE), (self.init_fd, NoticeKind.INIT_GONE)):
            scope = trio.CancelScope()
            self._watches.append(scope)
            self._nursery.start_soon(self._tell_end, scope, pidfd, Notice(kind, observed.run))
        self.watch_leases()

    def watch_leases(self) -> None:
        """Follow what DHCP servers give, if they do; what is watched already is watched on."""
        if self.observed.leased and self._leases is None:
            self._leases = trio.CancelScope()
            self._nursery.start_soon(self._tell_leases, self._leases, self.observed.run)

    async def _tell_leases(self, scope: trio.CancelScope, run: int) -> None:
        from supervisor.runtime.networks.wired.leasing import Leasing

        notice = Notice(NoticeKind.LEASE_CHANGED, run)
        with scope:
            await Leasing(self.services, self.container).watch(partial(self._send.send, notice))

    def unwatch(self) -> None:
        """No end and no timer is told from here on."""
        for scope in (*self._watches, *self._timers.values()):
            scope.cancel()
        if self._leases is not None:
            self._leases.cancel()
            self._leases = None
        self._watches.clear()
        self._timers.clear()
        for pidfd in (self.monitor_fd, self.init_fd):
            if pidfd is not None:
                pidfd.close()
        self.monitor_fd = self.init_fd = None

    async def _tell_end(self, scope: trio.CancelScope, pidfd: Pidfd | None, notice: Notice) -> None:
        with scope:
            try:
                if pidfd is not None:
                    await pidfd.wait()
            except trio.ClosedResourceError:
                return
            await self._send.send(notice)

    def arm(self, kind: NoticeKind, seconds: float) -> None:
        """Tell the worker after a time; a second call replaces the first."""
        self.disarm(kind)
        scope = self._timers[kind] = trio.CancelScope()
        self._nursery.start_soon(self._tell_later, scope, Notice(kind, self.observed.run), seconds)

    def await_needs(self) -> None:
        """Have what the container depends on started, and be told when it is there: that may take long."""
        if not self._awaits_needs:
            self._awaits_needs = True
            self._nursery.start_soon(self._await_needs, Notice(NoticeKind.NEEDS_READY, self.observed.run))

    async def _await_needs(self, notice: Notice) -> None:
        try:
            await self.services.dependencies.ready(self.container, None)
        except PymanError as error:
            self.unmet = error
        finally:
            self._awaits_needs = False
        await self._send.send(notice)

    def expect_move(self) -> None:
        """A monitor will be placed in its cgroup soon: what the kernel needs for that begins now."""
        self._nursery.start_soon(self._expect_move)

    async def _expect_move(self) -> None:
        with suppress(RuntimeError):  # no more threads: it only saves time
            await trio.to_thread.run_sync(cgroups.expect_move, limiter=self.services.disk)

    def disarm(self, kind: NoticeKind) -> None:
        scope = self._timers.pop(kind, None)
        if scope is not None:
            scope.cancel()

    async def _tell_later(self, scope: trio.CancelScope, notice: Notice, seconds: float) -> None:
        with scope:
            await trio.sleep(max(0.0, seconds))
            await self._send.send(notice)


def _open(ref: ProcessRef | None) -> Pidfd | None:
    return process.open_pidfd(ref) if ref is not None else None
