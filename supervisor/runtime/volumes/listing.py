"""Volumes as they are shown, and which of them filters mean: as in Podman, keys must all fit and of the values of one key
any, but for labels, which must all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.volume import InspectVolume
from pyman.errors import InvalidArgument, NotFound
from supervisor.images.moments import moment
from supervisor.patterns import expression
from supervisor.runtime.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.runtime.volumes.book import Volumes
    from supervisor.runtime.volumes.entry import Entry

__all__ = ["FILTERS", "PRUNE_FILTERS", "inspected", "selected"]

FILTERS = (
    *("after", "anonymous", "dangling", "driver", "label", "label!", "name", "opt", "scope", "since"),
    "until",
)
PRUNE_FILTERS = ("after", "anonymous", "label", "label!", "since", "until")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def inspected(entry: Entry) -> InspectVolume:
    definition, observed = entry.definition, entry.observed
    return InspectVolume(
        name=definition.name,
        driver=definition.driver,
        mountpoint=definition.mountpoint,
        created_at=rfc3339(definition.created),
        labels=definition.labels,
        scope="local",
        options=definition.options,
        mount_count=observed.count,
        needs_copy_up=observed.needs_copy_up and not definition.no_copy,
        needs_chown=observed.needs_chown,
        lock_number=definition.lock,
        anonymous=definition.anonymous,
        uid=definition.uid,
        gid=definition.gid,
    )


def selected(
    book: Volumes, filters: Mapping[str, Sequence[str]], known: Sequence[str] = FILTERS
) -> list[Entry]:
    """The volumes that fit, by their names. InvalidArgument: a key that is not `known`, or a value that cannot be."""
    tests = []
    for key, values in filters.items():
        if key not in known:
            raise InvalidArgument(f"cannot filter volumes by '{key}'", hint=f"known are {', '.join(known)}")
        tests.append(_test(book, key, values))
    entries = sorted(book.seen().values(), key=lambda entry: entry.name)
    return [entry for entry in entries if all(test(entry) for test in tests)]


def _test(book: Volumes, key: str, values: Sequence[str]) -> Callable[[Entry], bool]:
    match key:
        case "label":
            return lambda entry: all(_has(entry.definition.labels, value) for value in values)
        case "label!":
            return lambda entry: not any(_has(entry.definition.labels, value) for value in values)
        case "opt":
            return lambda entry: any(_has(entry.definition.options, value) for value in values)
        case "name":
            patterns = [expression(value) for value in values]
            return lambda entry: any(pattern.search(entry.name) for pattern in patterns)
        case "driver":
            return lambda entry: entry.definition.driver in values
        case "scope":
            return lambda _entry: "local" in values
        case "anonymous":
            wanted = {_truth(key, value) for value in values}
            return lambda entry: entry.definition.anonymous in wanted
        case "dangling":
            chosen, used = {_truth(key, value) for value in values}, book.used()
            return lambda entry: (entry.name not in used) in chosen
        case "until":
            if len(values) != 1:
                raise InvalidArgument("cannot filter volumes by 'until' more than once")
            before = int(moment(values[0]) * 1e9)
            return lambda entry: entry.definition.created < before
        case _:
            created = min(_created(book, value) for value in values)
            return lambda entry: entry.definition.created > created


def _has(pairs: Mapping[str, str], wanted: str) -> bool:
    key, _, value = wanted.partition("=")
    return key in pairs and (not value or pairs[key] == value)


def _truth(key: str, value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise InvalidArgument(f"cannot filter volumes by '{key}={value}'", hint="it must be true or false")
    return value.lower() in _TRUE


def _created(book: Volumes, name: str) -> int:
    try:
        return book.look_up(name).definition.created
    except NotFound:
        raise InvalidArgument(f"cannot filter by volume '{name}': it does not exist") from None
