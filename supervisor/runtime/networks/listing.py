"""Which networks filters mean: as in Podman, keys must all fit and of the values of one key any, but for labels, which
must all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from pyman.stamps import parse_stamp
from supervisor.images.moments import moment
from supervisor.patterns import expression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyman.api.network import Network

    Test = Callable[[Network], bool]

__all__ = ["FILTERS", "PRUNE_FILTERS", "selected"]

FILTERS = ("dangling", "driver", "id", "label", "label!", "name", "until")
PRUNE_FILTERS = ("label", "label!", "until")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def selected(
    networks: Iterable[Network],
    filters: Mapping[str, Sequence[str]],
    is_dangling: Test,
    known: Sequence[str] = FILTERS,
) -> list[Network]:
    """By their names. `is_dangling`: whether nothing is on a network. InvalidArgument: a key that is not `known`, or a
    value that cannot be."""
    tests = []
    for key, values in filters.items():
        if key not in known:
            raise InvalidArgument(f"cannot filter networks by '{key}'", hint=f"known are {', '.join(known)}")
        tests.append(_test(key, values, is_dangling))
    found = [network for network in networks if all(test(network) for test in tests)]
    return sorted(found, key=lambda network: network.name)


def _test(key: str, values: Sequence[str], is_dangling: Test) -> Test:
    match key:
        case "name":
            patterns = [expression(value) for value in values]
            return lambda network: any(pattern.search(network.name) for pattern in patterns)
        case "id":
            begins = [expression(_begin(value)) for value in values]
            return lambda network: any(pattern.search(network.id) for pattern in begins)
        case "driver":
            return lambda network: network.driver in values
        case "label":
            return lambda network: all(_has(network.labels, value) for value in values)
        case "label!":
            return lambda network: not any(_has(network.labels, value) for value in values)
        case "dangling":
            if len(values) != 1:
                raise InvalidArgument("cannot filter networks by 'dangling' more than once")
            wanted = _truth(values[0])
            return lambda network: is_dangling(network) is wanted
        case _:
            if len(values) != 1:
                raise InvalidArgument("cannot filter networks by 'until' more than once")
            before = int(moment(values[0]) * 1e9)
            return lambda network: (parse_stamp(network.created) or 0) < before


def _begin(value: str) -> str:
    """What is not hexadecimal is a pattern."""
    return value if re.search("[^0-9a-fA-F]", value) else f"^{value.lower()}"


def _has(pairs: Mapping[str, str], wanted: str) -> bool:
    key, _, value = wanted.partition("=")
    return key in pairs and (not value or pairs[key] == value)


def _truth(value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise InvalidArgument(
            f"cannot filter networks by 'dangling={value}'", hint="it must be true or false"
        )
    return value.lower() in _TRUE
