"""The book of helper programs: what works for networks beside the supervisor, and outlives it.

Name servers, user-mode networks, port forwarders. Whoever needs one says what it is (a `Helper`) and has it `ensure`d;
from then on it is there until its `end`. Rules:

- A helper is written down before it begins: it waits at a gate until then (`kernel/gated.py`). The next supervisor
  finds it by pid and start time. One that was killed before the helper was ready leaves a record that says so; what
  that has become is found by a mark in its environment, and ended.
- One that ends unasked is noticed by its pidfd: event `helper-lost`. It is begun again at once, and if it keeps ending,
  after growing delays: event `helper-restarted`. What it works for is not touched.
- A supervisor that comes up has those that are recorded, and waits for their owners. What nobody has asked for once
  everything is adopted is ended (`end_unasked`).
- It has a cgroup of its own; the rest of how it is begun is in `helper_start`.
"""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import trio

from pyman.errors import DeadlineExceeded, PymanError, StateDamaged
from pyman.names import EventStatus, EventType
from supervisor.kernel import cgroups, process
from supervisor.kernel.process import ProcessRef
from supervisor.logging import log
from supervisor.runtime.networks.programs.helper_start import (
    cgroup_of,
    clear,
    ended,
    failed,
    kill_all,
    launched,
    ready,
    status_of,
)
from supervisor.state.changes import DeleteRecord, EventDraft, PutRecord, PutState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from supervisor.kernel.gated import Gated
    from supervisor.kernel.process import Pidfd
    from supervisor.runtime.answers import Answer
    from supervisor.runtime.networks.programs.helper_program import Helper, Program
    from supervisor.runtime.services import Reaped
    from supervisor.settings.layout import Layout
    from supervisor.state.changes import Record
    from supervisor.state.database import Database

__all__ = ["KIND", "Helpers"]

KIND = "helper"
"""Of the records."""
_KEY = re.compile(r"[a-z0-9][a-z0-9.-]{0,120}")
_READY = 10.0
"""Seconds that a program has to become ready."""
_PATIENCE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
_DEATH = 5.0
"""Seconds for the kernel to let a killed one go."""
_WORKED = 10.0
"""Seconds after which one that ends has worked: the next delay is the first again."""
_FIRST, _LONGEST = 0.1, 30.0
"""Delays. The very first time there is none."""


class _Definition(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    subject_id: str = ""
    subject_name: str = ""


class _State(msgspec.Struct, frozen=True, omit_defaults=True):
    process: ProcessRef | None = None
    ready: bool = False
    lost: bool = False
    """It was told that it has ended, and not yet that it is there again."""


class _Recorded(NamedTuple):
    """As an earlier supervisor has left it."""

    definition: _Definition
    state: _State


class _Kept:
    """A helper that is wanted, whether it is there or not."""

    def __init__(self, helper: Helper) -> None:
        self.helper = helper
        self.pidfd: Pidfd | None = None
        """None: it is not there."""
        self.lost = False
        self.recorded = False
        self.turn = trio.Lock()
        self.tending = trio.CancelScope()
        self.tended = False

    def take(self, pidfd: Pidfd | None) -> None:
        if self.pidfd is not None:
            self.pidfd.close()
        self.pidfd = pidfd

    @property
    def process(self) -> ProcessRef | None:
        """None also between its end and the moment in which that is noticed."""
        if self.pidfd is None or self.pidfd.exited():
            return None
        return self.pidfd.ref


class Helpers:
    """One for an engine."""

    def __init__(
        self,
        layout: Layout,
        database: Database,
        reaped: Reaped,
        spawn: Callable[[Callable[[], Awaitable[Any]]], Answer[Any]],
        disk: trio.CapacityLimiter,
    ) -> None:
        """`spawn` begins work that lives as long as the engine; `disk` has threads."""
        self._layout = layout
        self._database = database
        self._reaped = reaped
        self._spawn = spawn
        self._disk = disk
        self._kept: dict[str, _Kept] = {}
        self._recorded: dict[str, _Recorded] = {}
        self._unasked: dict[str, trio.Event] = {}
        """Those that nobody has asked for and that are being ended, and when they are."""

    def load(self, records: Iterable[Record]) -> None:
        """What an earlier supervisor of this boot has left. StateDamaged."""
        for record in records:
            if record.kind != KIND:
                continue
            try:
                definition = msgspec.json.decode(record.definition, type=_Definition)
                state = msgspec.json.decode(record.state, type=_State)
            except msgspec.DecodeError as error:
                raise StateDamaged(
                    f"cannot read the record of helper '{record.id}': {error}", subject=record.id
                ) from None
            self._recorded[record.id] = _Recorded(definition, state)

    async def end_unasked(self) -> None:
        """Whoever needs a helper has said so by now: end the others that were found."""
        for key in list(self._recorded):
            if key in self._recorded and key not in self._kept:  # somebody may have asked for it meanwhile
                await self.end(key)

    def process_of(self, key: str) -> ProcessRef | None:
        """The helper's, if it is there now."""
        kept = self._kept.get(key)
        return kept.process if kept is not None else None

    def signal(self, key: str, number: int) -> bool:
        """False: it is not there; once it is, it has its `begun`."""
        kept = self._kept.get(key)
        return kept is not None and kept.pidfd is not None and kept.pidfd.send_signal(number)

    # ------------------------------------------------------------------ beginning

    async def ensure(self, helper: Helper) -> ProcessRef:
        """It is there, and ready: one that was, one that an earlier supervisor has left, or a new one.

        NetworkFailed, DeadlineExceeded and what its owner raises; then there is none. A change of `helper` counts
        from the next time that it is begun.
        """
        assert _KEY.fullmatch(helper.key), helper.key  # noqa: S101 - the engine's own words
        while True:
            await self._ended(helper.key)
            kept = self._kept.setdefault(helper.key, _Kept(helper))
            async with kept.turn:
                if self._kept.get(helper.key) is not kept:
                    continue  # ended while this waited
                kept.helper = helper
                try:
                    if kept.pidfd is not None and kept.process is None:
                        await self._lost(kept, kept.pidfd)
                    ref = kept.process or await self._adopted(kept) or await self._begin(kept)
                except BaseException:
                    if not kept.tended:
                        del self._kept[helper.key]
                        if kept.lost:
                            await self._forget_quietly(helper.key)
                    raise
                if not kept.tended:
                    kept.tended = True
                    self._spawn(partial(self._tend, kept))
                return ref

    async def insist(self, helper: Helper) -> None:
        """As `ensure`, for an owner that goes on without it: one that cannot be begun now is begun as soon as it can be."""
        try:
            await self.ensure(helper)
        except PymanError as error:
            log.warning("cannot bring back a helper", helper=helper.key, error=str(error))
            kept = self._kept.setdefault(helper.key, _Kept(helper))
            if not kept.tended:
                kept.lost = kept.tended = True
                self._spawn(partial(self._tend, kept))

    async def _adopted(self, kept: _Kept) -> ProcessRef | None:
        recorded = self._recorded.pop(kept.helper.key, None)
        if recorded is None:
            return None
        state = recorded.state
        kept.recorded = True
        kept.lost = state.lost
        if not state.ready or state.process is None:
            await self._kill(kept.helper.key, state.process)
            return None
        pidfd = process.open_pidfd(state.process)
        if pidfd is not None and not pidfd.exited():
            kept.take(pidfd)
            return pidfd.ref
        status = pidfd.exit_status() if pidfd is not None else None
        if pidfd is not None:
            pidfd.close()
        await self._note_lost(kept, state.process, status)
        return None

    async def _begin(self, kept: _Kept) -> ProcessRef:
        """With its turn. NetworkFailed, DeadlineExceeded and what its owner raises; nothing of it is there then."""
        with ExitStack() as stack:
            program = await kept.helper.program(stack)
            waiting, readable = await launched(self._layout, kept.helper, program, stack)
            try:
                pidfd = await self._complete(kept, program, waiting, readable)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._undo(kept, waiting.ref)
                raise
        kept.take(pidfd)
        return pidfd.ref

    async def _complete(self, kept: _Kept, program: Program, waiting: Gated, readable: int) -> Pidfd:
        """From a program at its gate to one that is ready."""
        helper = kept.helper
        definition = _Definition(helper.name, helper.subject_id, helper.subject_name)
        state = _State(waiting.ref, lost=kept.lost)
        record = PutRecord(KIND, helper.key, "", None, _encode(definition), _encode(state))
        await self._database.commit([record])
        kept.recorded = True
        await self._in_thread(partial(cgroups.place, waiting.ref.pid, cgroup_of(self._layout, helper.key)))
        waiting.release()
        with trio.move_on_after(_READY) as scope:
            ref = await ready(self._layout, helper, program, waiting.ref, readable, self._reaped)
        if scope.cancelled_caught:
            raise DeadlineExceeded(
                f"cannot wait any longer for {helper.name}: it has not become ready within {_READY:g} s",
                subject=helper.name,
            )
        await helper.begun(ref)
        pidfd = process.open_pidfd(ref)
        if pidfd is None:
            raise failed(self._layout, helper, None)
        events = [_event(helper, EventStatus.HELPER_RESTARTED, pid=str(ref.pid))] if kept.lost else []
        try:
            await self._database.commit(
                [PutState(KIND, helper.key, _encode(_State(ref, ready=True)))], events
            )
        except BaseException:
            pidfd.close()
            raise
        kept.lost = False
        return pidfd

    async def _undo(self, kept: _Kept, first: ProcessRef) -> None:
        key = kept.helper.key
        await self._kill(key, first)
        if not kept.lost:
            await self._forget_quietly(key)
            return
        try:  # it is still to be told that it is there again
            await self._database.commit([PutState(KIND, key, _encode(_State(lost=True)))])
        except PymanError as error:
            log.warning("cannot record the end of a helper", helper=key, error=str(error))

    # ------------------------------------------------------------------ its end

    async def end(self, key: str) -> None:
        """It is not wanted any more. One that there is not is no error. PymanError: it is there still, or recorded."""
        with trio.CancelScope(shield=True):
            while (kept := self._kept.get(key)) is not None:
                kept.tending.cancel()
                async with kept.turn:
                    if self._kept.get(key) is kept:
                        try:
                            await self._end(key, kept.process, recorded=kept.recorded)
                        finally:
                            del self._kept[key]
                            kept.take(None)
            await self._ended(key)
            recorded = self._recorded.pop(key, None)
            if recorded is not None:
                self._unasked[key] = trio.Event()
                try:
                    if not recorded.state.ready:
                        await self._kill(key, recorded.state.process)
                    await self._end(key, recorded.state.process)
                finally:
                    self._unasked.pop(key).set()

    async def _ended(self, key: str) -> None:
        """Nobody is ending one that nobody had asked for: it and the next one have the same record."""
        if (unasked := self._unasked.get(key)) is not None:
            await unasked.wait()

    async def _end(self, key: str, ref: ProcessRef | None, *, recorded: bool = True) -> None:
        pidfd = process.open_pidfd(ref) if ref is not None else None
        if pidfd is not None:
            with pidfd:
                pidfd.send_signal(signal.SIGTERM)
                if not await pidfd.ends_within(_PATIENCE):
                    pidfd.send_signal(signal.SIGKILL)
                    if not await pidfd.ends_within(_DEATH):
                        raise DeadlineExceeded(f"cannot end '{key}': the kernel holds it", subject=key)
        if recorded:  # else it could not be begun yet
            await self._forget(key)

    async def _forget(self, key: str) -> None:
        """Nothing of it is left."""
        await self._in_thread(partial(clear, self._layout, key))
        await self._database.commit([DeleteRecord(KIND, key)])

    async def _forget_quietly(self, key: str) -> None:
        try:
            with trio.CancelScope(shield=True):
                await self._forget(key)
        except PymanError as error:
            log.warning("cannot forget a helper", helper=key, error=str(error))

    async def _kill(self, key: str, ref: ProcessRef | None) -> None:
        """One of which nobody knows how far it has come."""
        known = [ref] if ref is not None else []
        if not await self._in_thread(partial(kill_all, self._layout, key, known)):
            log.warning("cannot end a helper", helper=key)

    # ------------------------------------------------------------------ while it is there

    async def _tend(self, kept: _Kept) -> None:
        """For as long as it is wanted."""
        delay = 0.0
        try:
            with kept.tending:
                while True:
                    since, pidfd = trio.current_time(), kept.pidfd
                    if pidfd is not None:
                        with suppress(trio.ClosedResourceError):
                            await pidfd.wait()
                        if kept.pidfd is pidfd and not await self._is_wanted(kept):
                            if await self._let_go(kept):
                                return
                            continue
                        await self._guarded(kept, partial(self._lost, kept, pidfd))
                    if trio.current_time() - since >= _WORKED:
                        delay = 0.0
                    while kept.pidfd is None:
                        await trio.sleep(delay)
                        delay = min(_LONGEST, max(_FIRST, delay * 2))
                        await self._guarded(kept, partial(self._again, kept))
        finally:
            if not kept.tending.cancel_called:  # the engine ends, the helper stays
                kept.take(None)

    async def _is_wanted(self, kept: _Kept) -> bool:
        try:
            return await kept.helper.wanted()
        except (PymanError, OSError) as error:
            log.warning("cannot tell whether a helper is wanted", helper=kept.helper.key, error=str(error))
            return True

    async def _let_go(self, kept: _Kept) -> bool:
        """It has ended as it should. False: it was asked for once more, and is there again."""
        with trio.CancelScope(shield=True):
            async with kept.turn:
                if kept.process is not None:
                    return False
                kept.take(None)
                if self._kept.get(kept.helper.key) is kept:
                    del self._kept[kept.helper.key]
                    await self._forget_quietly(kept.helper.key)
        return True

    async def _guarded(self, kept: _Kept, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever the host lacks just now, as descriptors: it is tried again."""
        try:
            async with kept.turn:
                await work()
        except (PymanError, OSError) as error:
            log.warning("cannot bring back a helper", helper=kept.helper.key, error=str(error))

    async def _lost(self, kept: _Kept, pidfd: Pidfd) -> None:
        if kept.pidfd is pidfd:  # else somebody was faster, and has one that is there
            try:
                status = status_of(pidfd, self._reaped)
            finally:
                kept.take(None)
            await self._note_lost(kept, pidfd.ref, status)

    async def _again(self, kept: _Kept) -> None:
        if kept.pidfd is None:
            await self._begin(kept)

    async def _note_lost(self, kept: _Kept, ref: ProcessRef, status: int | None) -> None:
        """Raises nothing but what a commit does; it is to be begun again all the same."""
        helper = kept.helper
        status = self._reaped.status_of(ref) if status is None else status
        reason = ended(self._layout, helper, status)
        log.warning("a helper has ended", helper=helper.key, pid=ref.pid, reason=reason)
        event = _event(helper, EventStatus.HELPER_LOST, pid=str(ref.pid), reason=reason)
        kept.lost = True
        await self._database.commit([PutState(KIND, helper.key, _encode(_State(lost=True)))], [event])

    # ------------------------------------------------------------------ small parts

    async def _in_thread(self, work: Callable[[], bool]) -> bool:
        return await trio.to_thread.run_sync(work, limiter=self._disk)


_encode = msgspec.json.Encoder().encode


def _event(helper: Helper, status: EventStatus, **attributes: str) -> EventDraft:
    return EventDraft(
        type=EventType.NETWORK.value,
        status=status.value,
        id=helper.subject_id,
        name=helper.subject_name,
        attributes={"helper": helper.name, **attributes},
    )
