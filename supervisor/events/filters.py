"""Filters on events, as `podman events --filter` has them.

The values of one key are alternatives; all keys must fit. Objects are meant by their name, or by their
id, which may be shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pyman.api.event import Event
from pyman.errors import InvalidArgument
from pyman.names import EventType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Filter", "compile_filters"]

Filter = Callable[[Event], bool]

_ALIASES = {"status": "event"}


def compile_filters(filters: Mapping[str, Sequence[str]]) -> Filter | None:
    """What an event must fit; None if every event does. InvalidArgument for an unknown key."""
    gathered: dict[str, list[str]] = {}
    for key, values in filters.items():
        known = _ALIASES.get(key.lower(), key.lower())
        if known not in _KEYS:
            raise InvalidArgument(
                f"cannot filter events by '{key}'",
                subject=key,
                hint=f"the filters are {', '.join(sorted(_KEYS))}",
            )
        gathered.setdefault(known, []).extend(values)
    tests = [_KEYS[key](values) for key, values in gathered.items() if values]
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda event: all(test(event) for test in tests)


def _by_status(values: Sequence[str]) -> Filter:
    wanted = frozenset(values)
    return lambda event: event.status in wanted


def _by_type(values: Sequence[str]) -> Filter:
    wanted = frozenset(values)
    return lambda event: event.type in wanted


def _by_label(values: Sequence[str]) -> Filter:
    """`key=value`, or `key` for any value."""
    wanted = [(key, value if equals else None) for key, equals, value in (v.partition("=") for v in values)]

    def test(event: Event) -> bool:
        labels = event.attributes
        return any(key in labels and (value is None or labels[key] == value) for key, value in wanted)

    return test


def _by_object(kind: EventType) -> Callable[[Sequence[str]], Filter]:
    def compile_values(values: Sequence[str]) -> Filter:
        names, prefixes = frozenset(values), tuple(values)
        return lambda event: event.type == kind and (event.name in names or event.id.startswith(prefixes))

    return compile_values


def _by_volume(values: Sequence[str]) -> Filter:
    """A volume's name is its id, so it may be shortened too."""
    prefixes = tuple(values)
    return lambda event: event.type == EventType.VOLUME and event.name.startswith(prefixes)


_KEYS: dict[str, Callable[[Sequence[str]], Filter]] = {
    "container": _by_object(EventType.CONTAINER),
    "event": _by_status,
    "image": _by_object(EventType.IMAGE),
    "label": _by_label,
    "pod": _by_object(EventType.POD),
    "type": _by_type,
    "volume": _by_volume,
}
