"""What a container needs of others: what is started before it, what of it is waited for, and who cannot be removed.

`needs_of` is the one place that says what a definition depends on: what its user has asked for (`--requires`, `--after`)
and what follows from the rest of it. Nobody can come to depend on itself but by `--replace`, for a container is there
before another one can name it; that is refused in `resolve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument, NoSuchContainer, WrongState
from pyman.names import State
from supervisor.oci import namespaces
from supervisor.runtime.life import requests as rq
from supervisor.runtime.records import Need, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyman.api.event import Actor
    from pyman.api.spec import ContainerSpec
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Definition
    from supervisor.runtime.registry import Entry, Registry, View

__all__ = ["CONDITIONS", "Dependencies", "Turns", "needs_of"]

CONDITIONS = ("started", "healthy", "completed")
UP = (State.RUNNING, State.PAUSED)
DOWN = (State.CREATED, State.STOPPED, State.EXITED, State.REMOVING)


def needs_of(definition: Definition) -> list[Need]:
    """Each container once, with what is asked of it."""
    if not definition.needs and not definition.joins:
        return []
    found = {need.id: need for need in definition.needs}
    for id in (definition.userns.container, *namespaces.owners(definition.spec).values()):
        if id:
            found.setdefault(id, Need(id))
    return list(found.values())


class Dependencies:
    """Of all containers on one another."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    # ------------------------------------------------------------------ at creation

    def resolve(self, spec: ContainerSpec, view: View, *, replaces: bool) -> list[Need]:
        """What a spec asks for, by ids. `replaces`: a container of the same name goes first. InvalidArgument,
        NoSuchContainer, AmbiguousId."""
        wishes = [(name, "started", "--requires") for name in spec.dependency_containers]
        wishes += [(one.container, one.condition, "--after") for one in spec.after]
        for option, name in _joined(spec):  # only checked: the spec says it
            self._resolved(spec.name, view, name, "started", option, replaces=replaces)
        found: dict[str, Need] = {}
        for name, condition, option in wishes:
            if condition not in CONDITIONS:
                raise InvalidArgument(
                    f"cannot use the condition '{condition}' of option {option}",
                    hint=f"known are {', '.join(CONDITIONS)}",
                )
            need = self._resolved(spec.name, view, name, condition, f"{option} ", replaces=replaces)
            former = found.get(need.id)
            if former is not None and {former.condition, condition} == {"healthy", "completed"}:
                raise InvalidArgument(f"cannot start after container '{name}' is both healthy and completed")
            if former is None or former.condition == "started":
                found[need.id] = need
        return list(found.values())

    def _resolved(
        self, own: str, view: View, name: str, condition: str, option: str, *, replaces: bool
    ) -> Need:
        if own and name == own and not replaces:
            raise InvalidArgument(f"cannot have container '{own}' depend on itself: {own} → {own}")
        other = view.find(name, option).container
        if own and replaces and (circle := self._way(other, own)):
            raise InvalidArgument(
                f"cannot have container '{own}' depend on itself: {' → '.join([own, *circle])}"
            )
        if condition == "healthy" and other.health_plan is None:
            raise InvalidArgument(
                f"cannot start after container '{other.name}' is healthy: it has no health check",
                subject=other.name,
            )
        return Need(other.id, condition)

    def _way(self, container: Container, name: str) -> list[str]:
        """The names from a container to that of one it depends on; none: it does not."""
        if container.name == name:
            return [name]
        for need in needs_of(container.definition):
            entry = self._registry.get(need.id)
            if entry is not None and (way := self._way(entry.container, name)):
                return [container.name, *way]
        return []

    # ------------------------------------------------------------------ who needs whom

    def dependents(self, id: str) -> list[Entry]:
        """The containers that need this one themselves."""
        found: list[Entry] = []
        for entry in self._registry:  # there may be thousands, and few need anything
            needs = needs_of(entry.container.definition)
            if needs and not entry.container.observed.leaving and any(need.id == id for need in needs):
                found.append(entry)
        return found

    def all_needed(self, container: Container) -> set[str]:
        """The ids of all that it needs, and that these need."""
        found: set[str] = set()
        left = [need.id for need in needs_of(container.definition)]
        while left:
            id = left.pop()
            if id not in found:
                found.add(id)
                entry = self._registry.get(id)
                left += [] if entry is None else [need.id for need in needs_of(entry.container.definition)]
        return found

    # ------------------------------------------------------------------ before a start

    def unmet(self, container: Container) -> Need | None:
        """The first need that is not met now."""
        for need in needs_of(container.definition):
            entry = self._registry.get(need.id)
            if entry is None or not _is_met(entry.container, need):
                return need
        return None

    def check(self, container: Container) -> None:
        """WrongState where a need is not met."""
        need = self.unmet(container)
        if need is not None:
            other = self._found(container, need).container
            raise _cannot(container, f"container '{other.name}', which it depends on, is not {_word(need)}")

    async def ready(self, container: Container, actor: Actor | None) -> None:
        """Start what is needed and wait until every condition is met. WrongState: that cannot be any more."""
        needs = needs_of(container.definition)
        for need in needs:
            await self._start(container, need, actor)
        for need in needs:
            if need.condition == "started":
                continue  # that it was: it may have ended by now
            other = self._found(container, need).container
            await other.until(lambda other=other, need=need: self._look(container, other, need))  # type: ignore[misc]

    def _found(self, container: Container, need: Need) -> Entry:
        entry = self._registry.get(need.id)
        if entry is None or entry.container.observed.leaving:
            raise NoSuchContainer(
                f"cannot start container '{container.name}': container {need.id[:12]}, which it depends on, was removed",
                subject=container.name,
            )
        return entry

    async def _start(self, container: Container, need: Need, actor: Actor | None) -> None:
        entry = self._found(container, need)
        other = entry.container
        if other.state in UP or _is_met(other, need):
            return
        if other.definition.log_driver == "passthrough" or other.definition.spec.preserve_fd:
            raise _cannot(
                container, f"container '{other.name}', which it depends on, can only be started by run"
            )
        await self.ready(other, actor)
        await entry.worker.ask(rq.Start(actor=actor, trigger="dependency"))

    def _look(self, container: Container, other: Container, need: Need) -> bool | None:
        """True: met; none: not yet. WrongState: it cannot be any more."""
        if _is_met(other, need):
            return True
        what = f"container '{other.name}', which it depends on,"
        over = other.removed or other.observed.leaving or other.state in DOWN
        if over and other.observed.wanted is not Wanted.RUNNING:
            ended = "was removed" if other.removed else f"ended with exit code {other.exit_code}"
            raise _cannot(container, f"{what} {ended}")
        if need.condition == "healthy" and other.gives_up_health:
            raise _cannot(container, f"{what} is unhealthy")
        return None


def _joined(spec: ContainerSpec) -> list[tuple[str, str]]:
    """The containers whose namespaces are asked for, each after the option that does."""
    owners = namespaces.owners(spec) if namespaces.joins(spec) else {}
    joined = [(f"{namespaces.OPTIONS[kind]} container:", name) for kind, name in owners.items()]
    if spec.userns.nsmode == "container" and spec.userns.value:
        joined.append(("--userns container:", spec.userns.value))
    return joined


def _is_met(other: Container, need: Need) -> bool:
    if need.condition == "completed":
        ended = other.state in (State.STOPPED, State.EXITED) or other.observed.leaving
        return ended and other.observed.started_at > 0 and other.observed.exit_known and not other.exit_code
    if other.state not in UP:
        return False
    return need.condition == "started" or other.health_status == "healthy"


def _word(need: Need) -> str:
    return "running" if need.condition == "started" else need.condition


def _cannot(container: Container, why: str) -> WrongState:
    return WrongState(f"cannot start container '{container.name}': {why}", subject=container.name)


class Turns:
    """Of several containers with which the same is done: who waits for whom. Every one has to say that it is done."""

    def __init__(
        self, entries: Iterable[Entry], needed: Callable[[Container], set[str]], *, last: bool
    ) -> None:
        """`needed`: the ids of what a container needs. `last`: these come after it, instead of before."""
        containers = [entry.container for entry in entries]
        self._done = {container.id: trio.Event() for container in containers}
        self._before: dict[str, list[str]] = {}
        for container in containers:
            for id in needed(container) & self._done.keys():
                first, second = (container.id, id) if last else (id, container.id)
                self._before.setdefault(second, []).append(first)

    async def come(self, id: str) -> None:
        """Wait for one's turn."""
        for other in self._before.get(id, ()):
            await self._done[other].wait()

    def done(self, id: str) -> None:
        self._done[id].set()
