"""A container in memory: what is known of it, who waits for it, and what is attached to it.

Only the container's worker replaces `definition` and `observed`; everybody may read them, and no await
lies between reading two fields of one frozen record.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from pyman.errors import InvalidArgument, WrongState
from pyman.names import EventType, State
from supervisor.conmon.attach import Attachments
from supervisor.runtime.answers import Answer
from supervisor.runtime.health.plan import plan_of
from supervisor.runtime.records import ExecObserved, Wanted
from supervisor.state.database import EventDraft

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyman.api.container import ListContainer
    from pyman.api.event import Actor
    from pyman.names import EventStatus
    from supervisor.runtime.health.plan import Plan
    from supervisor.runtime.records import Definition, ExecDefinition, Observed
    from supervisor.runtime.rootfs.layers import Layering

__all__ = ["Container", "ExecSession", "matches"]

T = TypeVar("T")

HEALTH = frozenset({"healthy", "unhealthy"})
"""Conditions to wait for."""
_OVER = frozenset({State.STOPPED, State.EXITED, State.REMOVING})
"""States in which its exit code is known."""

ENDED_EXECS_KEPT = 32
"""Ended exec sessions of a running container that can still be inspected, in memory only."""


def matches(state: State, wanted: frozenset[str]) -> bool:
    """Whether a state is one of those waited for; `configured` is Podman's other word for created, and what has
    exited is stopped."""
    other = {State.CREATED: "configured", State.EXITED: "stopped"}.get(state)
    return state.value in wanted or other in wanted


class ExecSession:
    """A further command in a container."""

    def __init__(self, definition: ExecDefinition) -> None:
        self.definition = definition
        self.observed = ExecObserved()
        self.over = trio.Event()
        """Its end is recorded, and nothing of it is left."""

    @property
    def running(self) -> bool:
        return self.observed.exit_code is None


class Container:
    """One container. `removed` is set once it is gone from the state."""

    def __init__(self, definition: Definition, observed: Observed) -> None:
        self.definition = definition
        self.observed = observed
        self.attachments = Attachments()
        self.execs: dict[str, ExecSession] = {}
        self.ended_execs: dict[str, ExecSession] = {}
        self.removed = False
        self.layer: Layering | None = None
        """Of its layer in the image store that is being made; none: it has been there for long, or there is none."""
        self.image_removal: Answer[str] | None = None
        """Of its image that goes with it: why that stays, or an empty text."""
        self.holds = 0
        """How often work that is under way needs its root filesystem mounted."""
        self.end_of_run: Answer[int] = Answer()
        """Exit code of the present run, or of the next if there is none."""
        self.line: tuple[object, ListContainer] | None = None
        """What `ps` was shown last, after what it was made of."""
        self._waiters: list[tuple[frozenset[str], Answer[int]]] = []
        self._plan: tuple[Definition, Plan | None] | None = None
        self._changed: trio.Event | None = None
        """Set at the next change, if somebody waits for it."""

    @property
    def health_plan(self) -> Plan | None:
        """Its health check; none: it has none."""
        definition = self.definition
        if self._plan is None or self._plan[0] is not definition:
            self._plan = definition, plan_of(definition.spec, definition.image.healthcheck)
        return self._plan[1]

    @property
    def health_status(self) -> str:
        """starting, healthy or unhealthy; empty without a check, or before the first run with one."""
        return self.observed.health.status if self.health_plan is not None else ""

    @property
    def gives_up_health(self) -> bool:
        """It is unhealthy, and is not restarted for that."""
        plan = self.health_plan
        return plan is not None and self.health_status == "unhealthy" and plan.on_failure != "restart"

    @property
    def id(self) -> str:
        return self.definition.id

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def state(self) -> State:
        return self.observed.state

    @property
    def held(self) -> bool:
        """Its root filesystem stays mounted when its run ends."""
        observed = self.observed
        if observed.leaving or observed.state is State.REMOVING or observed.wanted is Wanted.REMOVED:
            return False
        return self.holds > 0 or observed.mounts > 0

    @property
    def takes_volumes(self) -> bool:
        """Its anonymous volumes go with it when it is removed."""
        return self.definition.spec.remove or self.observed.volumes

    def observe(self, observed: Observed) -> None:
        """Take over what the database has just committed, and wake those who waited for it."""
        moved = observed.state is not self.observed.state
        if observed.run != self.observed.run and self.end_of_run.given:
            self.end_of_run = Answer()
        self.observed = observed
        self._tell_change()
        if observed.leaving:
            self._dismiss()
        elif moved:
            self._wake(observed.state)

    def gone(self) -> None:
        """Nothing is left of it."""
        self.removed = True
        self._tell_change()
        self._dismiss()

    def _tell_change(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def until(self, look: Callable[[], T | None]) -> T:
        """What `look` finds, once it finds something; it looks after every change, and may raise."""
        while (found := look()) is None:
            self._changed = self._changed or trio.Event()
            await self._changed.wait()
        return found

    def _dismiss(self) -> None:
        """The container was removed: everybody who still waits is told."""
        for wanted, answer in self._waiters:
            if "removed" in wanted or wanted & {"exited", "stopped", "removing"}:
                answer.give(self.exit_code)
            else:
                answer.give(-1)
        self._waiters.clear()

    @property
    def exit_code(self) -> int:
        """As Podman tells it: 0 before the first end, -1 where it could not be learnt."""
        if not self.observed.exit_known:
            return -1
        return self.observed.exit_code or 0

    def _code_of_wait(self) -> int:
        """As Podman tells who waited: -1 as long as the container has not ended."""
        return self.exit_code if self.removed or self.observed.leaving or self.state in _OVER else -1

    async def wait(self, conditions: frozenset[str]) -> int:
        """The exit code, once the container has been in one of the conditions; -1 if that was not its end."""
        if conditions & HEALTH:
            return await self.until(partial(self._look_for, conditions))
        if self.removed or self.observed.leaving or matches(self.state, conditions):
            return self._code_of_wait()
        entry = (conditions, Answer[int]())
        self._waiters.append(entry)
        try:
            return await entry[1].get()
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    def _look_for(self, conditions: frozenset[str]) -> int | None:
        """Of conditions some of which are about health."""
        if self.health_plan is None:
            health = next(iter(conditions & HEALTH))
            raise InvalidArgument(
                f"cannot wait until container '{self.name}' is {health}: it has no health check",
                subject=self.name,
            )
        over = self.removed or self.observed.leaving
        if matches(self.state, conditions) or (over and conditions - HEALTH):
            return self._code_of_wait()
        if self.state in (State.RUNNING, State.PAUSED) and self.health_status in conditions:
            return self._code_of_wait()
        down = self.state in _OVER
        if over or (down and self.observed.wanted is not Wanted.RUNNING and not conditions - HEALTH):
            health = " or ".join(sorted(conditions))
            raise WrongState(
                f"cannot wait until container '{self.name}' is {health}: it has ended", subject=self.name
            )
        return None

    def _wake(self, state: State) -> None:
        still = []
        for wanted, answer in self._waiters:
            if matches(state, wanted):
                answer.give(self._code_of_wait())
            else:
                still.append((wanted, answer))
        self._waiters[:] = still

    def remember_exec(self, session: ExecSession) -> None:
        """Keep an ended exec session for a while, so that its exit code can be asked for."""
        self.execs.pop(session.definition.id, None)
        self.ended_execs[session.definition.id] = session
        while len(self.ended_execs) > ENDED_EXECS_KEPT:
            del self.ended_execs[next(iter(self.ended_execs))]

    async def execs_over(self) -> None:
        """Wait until no exec session is left."""
        while self.execs:
            await next(iter(self.execs.values())).over.wait()

    def event(self, status: EventStatus, actor: Actor | None = None, **attributes: Any) -> EventDraft:
        """An event about this container: its labels, then what belongs to the event."""
        spec = self.definition.spec
        return EventDraft(
            type=EventType.CONTAINER.value,
            status=status.value,
            id=self.id,
            name=self.name,
            image=self.definition.image_name,
            attributes={**spec.labels, **attributes},
            actor=actor,
        )

    async def end_of(self, run: int) -> int:
        """Exit code of a run. A run that is over answers at once."""
        if self.observed.run != run or self.removed:
            return self.exit_code
        return await self.end_of_run.get()
