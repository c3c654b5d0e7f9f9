"""All containers of the supervisor in memory: found by name, id or short id, selected, filtered."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import AmbiguousId, InvalidArgument, NameInUse, NoSuchContainer, PymanError
from supervisor.runtime.views.filters import compile_filters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyman.api.container import Selection
    from supervisor.runtime.container import Container
    from supervisor.runtime.life.worker import Worker

__all__ = ["NAME", "Entry", "Registry", "View", "check_name"]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
NAME_LONGEST = 253
LEAVING = 10.0
"""Seconds that somebody waits for what is left of containers that were removed."""


def check_name(name: str) -> None:
    """Refuse a name that Podman would refuse."""
    if not NAME.fullmatch(name) or len(name) > NAME_LONGEST:
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        raise InvalidArgument(
            f"cannot use the name '{shown}'",
            subject=shown,
            hint="names are letters, digits, '_', '.' and '-', beginning with a letter or digit",
        )


class Entry:
    """A container and its worker."""

    __slots__ = ("container", "worker")

    def __init__(self, container: Container, worker: Worker) -> None:
        self.container = container
        self.worker = worker


class Registry:
    """Containers by id and by name. A name is reserved before its container is in the state."""

    def __init__(self) -> None:
        self._by_id: dict[str, Entry] = {}
        self._sorted: list[str] = []
        """The ids, so that the beginning of one is found without looking at all."""
        self._names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._by_id.values()))

    @property
    def containers(self) -> list[Container]:
        return [entry.container for entry in self._by_id.values()]

    def get(self, id: str) -> Entry | None:
        """By its whole id, whoever may see it."""
        return self._by_id.get(id)

    async def settled(self, ids: Iterable[str]) -> None:
        """What is left of those of these containers that were removed is gone, too; or LEAVING is over."""
        leaving = [
            entry.container for entry in map(self.get, ids) if entry and entry.container.observed.leaving
        ]
        with trio.move_on_after(LEAVING):
            for container in leaving:
                await container.until(partial(_vanished, container))

    def reserve(self, name: str, id: str) -> None:
        """Take a name, or raise NameInUse with its owner's id."""
        owner = self._names.get(name)
        if owner is not None and owner != id:
            raise NameInUse(
                f"cannot use the name '{name}': container {owner[:12]} has it",
                subject=name,
                hint="remove or rename that container, or use --replace",
            )
        self._names[name] = id

    def release(self, name: str, id: str) -> None:
        """A reserved or former name is free again; the one that the container has stays its own."""
        entry = self._by_id.get(id)
        if self._names.get(name) == id and (entry is None or entry.container.name != name):
            del self._names[name]

    def taken(self, name: str) -> bool:
        return name in self._names

    def add(self, entry: Entry) -> None:
        self._by_id[entry.container.id] = entry
        insort(self._sorted, entry.container.id)
        if not entry.container.observed.leaving:
            self._names[entry.container.name] = entry.container.id

    def let_go(self, container: Container) -> None:
        """Its name is free; what is left of it is found by nobody."""
        for name in [name for name, id in self._names.items() if id == container.id]:
            del self._names[name]

    def forget(self, container: Container) -> None:
        del self._by_id[container.id]
        del self._sorted[bisect_left(self._sorted, container.id)]
        self.let_go(container)

    def within(self, namespace: str) -> View:
        """What a client sees that may see one namespace only; empty: everything."""
        return View(self._by_id, self._sorted, self._names, namespace)


class View:
    """The containers of one namespace: found, listed and selected as if there were no others."""

    def __init__(
        self, by_id: Mapping[str, Entry], ids: Sequence[str], names: Mapping[str, str], namespace: str
    ) -> None:
        self._by_id = by_id
        self._sorted = ids
        self._names = names
        self.namespace = namespace

    def __iter__(self) -> Iterator[Entry]:
        return iter([entry for entry in self._by_id.values() if self._sees(entry)])

    @property
    def containers(self) -> list[Container]:
        return [entry.container for entry in self]

    def _sees(self, entry: Entry) -> bool:
        container = entry.container
        if container.observed.leaving:
            return False
        return not self.namespace or container.definition.spec.namespace == self.namespace

    def find(self, name: str, option: str = "") -> Entry:
        """By name, id, or the beginning of an id. `option`: what was given it, for the error, as `--requires `.
        NoSuchContainer, AmbiguousId."""
        id = self._names.get(name, name)
        entry = self._by_id.get(id)
        if entry is not None and self._sees(entry):
            return entry
        found = [entry for entry in self._beginning_with(name) if self._sees(entry)] if name else []
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousId(
                f"cannot tell which container '{name}' is: {len(found)} ids begin with it",
                subject=name,
                hint="give more digits",
            )
        if option:
            raise NoSuchContainer(f"cannot use {option}{name}: there is no such container", subject=name)
        raise NoSuchContainer(f"cannot find container '{name}'", subject=name)

    def _beginning_with(self, digits: str) -> Iterator[Entry]:
        for at in range(bisect_left(self._sorted, digits), len(self._sorted)):
            if not self._sorted[at].startswith(digits):
                return
            yield self._by_id[self._sorted[at]]

    def latest(self) -> Entry:
        entries = list(self)
        if not entries:
            raise NoSuchContainer("cannot find the latest container: there is none")
        return max(entries, key=lambda entry: entry.container.definition.created)

    def select(self, selection: Selection) -> list[tuple[str, Entry | PymanError]]:
        """What a request means, in its order, each once; a name that is not found stands with its error."""
        ways = [bool(selection.names), selection.all, selection.latest, bool(selection.filters)]
        if sum(ways) > 1 and not (selection.all and selection.filters and sum(ways) == 2):
            raise InvalidArgument("cannot combine names, --all, --latest and --filter")
        if not any(ways):
            raise InvalidArgument("cannot tell which container is meant", hint="give a name or an id")
        if selection.latest:
            entry = self.latest()
            return [(entry.container.name, entry)]
        if selection.names:
            return list(self._named(selection.names))
        keep = self._filter(selection.filters)
        return [(e.container.id, e) for e in self if keep(e.container)]

    def _named(self, names: Iterable[str]) -> Iterator[tuple[str, Entry | PymanError]]:
        seen: set[str] = set()
        for name in names:
            try:
                entry = self.find(name)
            except PymanError as error:
                yield name, error
                continue
            if entry.container.id not in seen:
                seen.add(entry.container.id)
                yield name, entry

    def _filter(self, filters: dict[str, list[str]]) -> Callable[[Container], bool]:
        return compile_filters(filters, self.find)


def _vanished(container: Container) -> bool | None:
    """True; None while anything is left of it."""
    return container.removed or None
