"""What is done to images elsewhere, and told exactly once: a push, a save, a build.

As with the store an intent is committed first, and the event together with the intent's end. What shows afterwards that
it was done is a `Trace`. Unlike the store, what is elsewhere may answer late, or not at all: whoever finds an intent
that is nobody's any more finds out beside everything else, in bounded time. That is the next supervisor, if this one is
killed, or this one, if a caller leaves in the middle.

What leaves no trace of its own, an archive that is written to a client's descriptor, is told when all of it has been
written. If the supervisor is killed before that, the client gets no answer, and does not keep what it has got.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import outcome
import trio

from pyman.errors import PymanError, StateDamaged
from supervisor.images.events import Busy
from supervisor.images.traces import Built, Question, Sent, Trace, Traces
from supervisor.logging import log
from supervisor.state.changes import DropIntent, EventDraft, PutIntent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from supervisor.registry.client import Registries
    from supervisor.state.changes import Change
    from supervisor.state.database import Database
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["Deed", "Deeds"]

GRACE = 10.0
"""Seconds that a last step gets to end, when whoever wanted it has left;"""
ENDING = 3.0
"""when the supervisor ends."""
FIRST = 1.0
"""Seconds that a start waits for the answers that are to be had on this machine."""
_PREFIX = "deed-"


class Intent(msgspec.Struct, frozen=True):
    """As it is recorded."""

    trace: Trace
    events: list[EventDraft]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Intent).decode


class Deed:
    """Made by `Deeds.deed`. Without an intent it is done when its block ends well; with one, when it says so."""

    def __init__(self, deeds: Deeds, events: Sequence[EventDraft], stack: ExitStack) -> None:
        self._deeds = deeds
        self._stack = stack
        self.events = list(events)
        self.trace: Trace | None = None
        self.key = ""
        self.done = False
        self.failed = False

    async def intend(self, trace: Trace) -> None:
        """Record that this is going to be there; again, when more of it is known. What is still to be found out of the
        same place is found out before."""
        if trace == self.trace:
            return
        if not self.key:
            await self._deeds.wait_settled(trace.place)
        key = self.key or f"{_PREFIX}{secrets.token_hex(16)}"
        await self._deeds.record(key, Intent(trace, self.events))
        self.key, self.trace = key, trace

    async def carry_out(self, trace: Trace, act: Callable[[], Awaitable[object]]) -> None:
        """The last step, after which it is there. When the caller leaves, it gets some seconds to end. Whatever it
        raises, it has not happened then."""
        self._stack.enter_context(self._deeds.busy.at_work())
        await self.intend(trace)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as scope:
                nursery.start_soon(self._deeds.limit, scope)
                done = await outcome.acapture(act)
                if isinstance(done, outcome.Error) and isinstance(done.error, Exception):
                    failure = done.error
                else:
                    done.unwrap()
                self.done, self.failed = failure is None, failure is not None
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def made(self, id: str) -> None:
        """It is done, and this is the image that has come of it."""
        self.events = _with_id(self.events, id)
        self.done = True


class Deeds:
    """One for an engine. `builds`: a directory for what is known of builds, which outlives this boot."""

    def __init__(self, database: Database, store: Store, limiter: trio.CapacityLimiter, builds: str) -> None:
        self._database = database
        self._traces = Traces(store, limiter)
        self._builds = builds
        self._questions: dict[str, Question] = {}
        self._nursery: trio.Nursery | None = None
        self.busy = Busy()
        """With last steps, which are still to be told."""

    def open(
        self, registries: Registries, images_in: Callable[[str], list[Image]], nursery: trio.Nursery
    ) -> None:
        """`images_in`: of the store of a graph root, blocking. `nursery`: where things are found out, longer than any
        caller lives."""
        self._traces.registries = registries
        self._traces.images_in = images_in
        self._nursery = nursery

    def close(self) -> None:
        """Nothing is found out any more: the next supervisor does."""
        self._nursery = None

    async def wait_idle(self) -> None:
        """Until nothing is at its last step; some seconds at most."""
        with trio.move_on_after(ENDING):
            await self.busy.wait_idle()

    async def limit(self, scope: trio.CancelScope) -> None:
        """Once this task is cancelled, the shielded scope of a last step has some seconds."""
        try:
            await trio.sleep_forever()
        finally:
            scope.deadline = trio.current_time() + (0.0 if self._nursery is None else GRACE)

    # -- doing --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def deed(self, *events: EventDraft) -> AsyncIterator[Deed]:
        """The block does something, which its events tell when it has ended: once, also if it was cancelled when it
        had been done. DiskFull, StorageFailed: it is done, and the next supervisor tells it."""
        with ExitStack() as stack:
            deed = Deed(self, events, stack)
            try:
                yield deed
            except BaseException as error:
                try:
                    await self._finish(deed, failed=isinstance(error, Exception))
                except PymanError as further:
                    log.warning("cannot tell what was done elsewhere", error=str(further))
                raise
            await self._finish(deed, well=True)

    async def _finish(self, deed: Deed, *, well: bool = False, failed: bool = False) -> None:
        """Neither: it was given up."""
        trace = deed.trace
        with trio.CancelScope(shield=True), self.busy.at_work():
            if deed.done or (well and trace is None):
                await self._end(deed.key, trace, deed.events)
            elif trace is None:
                return
            elif deed.failed or (failed and not isinstance(trace, Built)):
                await self._end(deed.key, trace, [])
            else:
                self._settle(deed.key, Intent(trace, deed.events))

    async def record(self, key: str, intent: Intent) -> None:
        await self._database.commit([PutIntent(key, _encode(intent))])

    async def _end(self, key: str, trace: Trace | None, events: Sequence[EventDraft]) -> None:
        changes: list[Change] = [DropIntent(key)] if key else []
        await self._database.commit(changes, events)
        if isinstance(trace, Built):
            await self._clear(trace)

    async def _clear(self, trace: Trace) -> None:
        try:
            await self._traces.clear(trace)
        except PymanError as error:
            log.warning("cannot remove what is left of an image", place=trace.place, error=str(error))

    def new_build(self) -> Built:
        """Of a directory that has still to be made."""
        return Built(f"{self._builds}/{secrets.token_hex(16)}")

    # -- finding out --------------------------------------------------------------------------------

    async def recover(self, intents: Mapping[str, bytes]) -> None:
        """What a supervisor that was killed has left: found out in the background. StateDamaged."""
        kept: set[str] = set()
        for key, body in intents.items():
            if not key.startswith(_PREFIX):
                continue
            try:
                intent = _decode(body)
            except msgspec.DecodeError as error:
                raise StateDamaged(f"cannot read what was about to be done elsewhere: {error}") from None
            kept.add(intent.trace.place)
            self._settle(key, intent)
        # What is on this machine answers at once, as a rule: before a client changes anything of it.
        with trio.move_on_after(FIRST):
            for question in list(self._questions.values()):
                if not isinstance(question.trace, Sent):
                    await question.looked.wait()
        for path in await trio.to_thread.run_sync(_directories, self._builds):
            if path not in kept:
                await self._clear(Built(path))

    def _settle(self, key: str, intent: Intent) -> None:
        if self._nursery is None:
            return
        question = self._questions[key] = Question(intent.trace)
        self._nursery.start_soon(self._find_out, key, intent, question)

    async def _find_out(self, key: str, intent: Intent, question: Question) -> None:
        try:
            seen = await self._traces.find_out(question)
            events = _with_id(intent.events, seen.id) if seen.id else intent.events
            if not isinstance(intent.trace, Built):
                await self._clear(intent.trace)
            await self._end(key, intent.trace, events if seen.done else [])
            log.info(
                "what was begun elsewhere",
                place=intent.trace.place,
                done=seen.done,
                events=[event.status for event in events],
            )
        except PymanError as error:  # it is found out once more by the next supervisor
            log.warning("cannot tell what was done elsewhere", place=intent.trace.place, error=str(error))
        finally:
            del self._questions[key]
            question.looked.set()
            question.ended.set()

    async def wait_settled(self, place: str) -> None:
        """Until nothing is to be found out of this place: what is done there now would answer for what was."""
        for question in list(self._questions.values()):
            if question.trace.place == place:
                question.hurried.set()
                await question.ended.wait()


def _with_id(events: Sequence[EventDraft], id: str) -> list[EventDraft]:
    return [msgspec.structs.replace(event, id=id) for event in events]


def _directories(builds: str) -> list[str]:
    try:
        return [f"{builds}/{name}" for name in os.listdir(builds)]
    except OSError:
        return []
