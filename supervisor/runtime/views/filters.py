"""Podman's `--filter` on containers: values of one key are alternatives (labels must all fit), keys must all fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyman.errors import AmbiguousId, InvalidArgument, NotFound
from pyman.names import RestartPolicy, State
from supervisor.images.moments import moment as time_of
from supervisor.patterns import expression

if TYPE_CHECKING:
    from supervisor.runtime.container import Container
    from supervisor.runtime.registry import Entry

__all__ = ["IMPLIES_ALL", "KNOWN", "compile_filters"]

Test = Callable[["Container"], bool]
Find = Callable[[str], "Entry"]

IMPLIES_ALL = frozenset({"status", "exited"})
"""Filters that make sense only together with containers that do not run."""


_SHORT_ID = 12
"""Digits from which on the beginning of an id is not taken for a name."""


def _any(tests: list[Test]) -> Test:
    return lambda container: any(test(container) for test in tests)


def _id(value: str, _find: Find) -> Test:
    if re.fullmatch(r"[0-9a-f]*", value):
        return lambda c: c.id.startswith(value)
    pattern = expression(value)
    return lambda c: pattern.search(c.id) is not None


def _name(value: str, _find: Find) -> Test:
    pattern = expression(value)
    return lambda c: pattern.search(c.name) is not None


def _label(value: str, _find: Find) -> Test:
    key, given, wanted = value.partition("=")
    if not given:
        return lambda c: key in c.definition.spec.labels
    return lambda c: c.definition.spec.labels.get(key) == wanted


def _status(value: str, _find: Find) -> Test:
    known = {str(state) for state in State} | {"configured", "unknown"}
    if value not in known:
        raise InvalidArgument(
            f"cannot filter by status '{value}'", hint=f"known are {', '.join(sorted(known))}"
        )
    if value in ("exited", "stopped"):  # Podman knows no difference
        return lambda c: c.state in (State.EXITED, State.STOPPED)
    if value == "configured":
        return lambda c: c.state is State.CREATED
    return lambda c: c.state.value == value


def _exited(value: str, _find: Find) -> Test:
    try:
        code = int(value)
    except ValueError:
        raise InvalidArgument(f"cannot filter by exit code '{value}': it is not a number") from None
    return lambda c: c.state in (State.EXITED, State.STOPPED) and c.exit_code == code


def _ancestor(value: str, _find: Find) -> Test:
    """The image's id, or a pattern for its name; without a tag in it, the tag `latest` is meant."""
    pattern = expression(value)

    def fits(container: Container) -> bool:
        image = container.definition.image
        if not image.id:
            return False
        name, _, tag = image.name.rpartition(":")
        return (
            value == image.id
            or (len(value) >= _SHORT_ID and image.id.startswith(value))
            or (bool(image.name) and pattern.search(image.name) is not None)
            or (tag == "latest" and pattern.search(name) is not None)
        )

    return fits


def _created_of(value: str, find: Find) -> int:
    try:
        return find(value).container.definition.created
    except NotFound:
        raise InvalidArgument(f"cannot filter by container '{value}': it does not exist") from None


def _before(value: str, find: Find) -> Test:
    created = _created_of(value, find)
    return lambda c: c.definition.created < created


def _since(value: str, find: Find) -> Test:
    created = _created_of(value, find)
    return lambda c: c.definition.created > created


def _until(value: str, _find: Find) -> Test:
    moment = int(time_of(value) * 1e9)
    return lambda c: c.definition.created < moment


def _restart_policy(value: str, _find: Find) -> Test:
    known = [str(policy) for policy in RestartPolicy]
    if value not in known:
        raise InvalidArgument(
            f"cannot filter by restart policy '{value}'", hint=f"known are {', '.join(known)}"
        )
    return lambda c: (c.definition.spec.restart_policy or "no") == value


def _command(value: str, _find: Find) -> Test:
    return lambda c: bool(c.definition.spec.command) and c.definition.spec.command[0] == value


def _network(value: str, find: Find) -> Test:
    """The name of one that it is on; its mode; or `container:NAME`, whose network it joins."""
    mode, _, name = value.partition(":")
    if mode == "container" and name:
        try:
            owner = find(name).container.id
        except (AmbiguousId, NotFound):
            return lambda _container: False
        return lambda c: c.definition.spec.netns.value == owner

    def fits(container: Container) -> bool:
        spec = container.definition.spec
        return value in spec.networks or value == (spec.netns.nsmode or "none")

    return fits


def _health(value: str, _find: Find) -> Test:
    known = ("starting", "healthy", "unhealthy", "none")
    if value not in known:
        raise InvalidArgument(f"cannot filter by health '{value}'", hint=f"known are {', '.join(known)}")
    return lambda c: (c.health_status or "none") == value


def _volume(value: str, _find: Find) -> Test:
    """The name of one, or where it is in the container; both as `NAME:PATH`."""
    name, colon, path = value.partition(":")

    def fits(container: Container) -> bool:
        volumes = container.definition.spec.volumes
        if colon:
            return any(volume.name == name and volume.dest == path for volume in volumes)
        return any(value in (volume.name, volume.dest) for volume in volumes)

    return fits


def _nothing(_value: str, _find: Find) -> Test:
    """Pods: no container has one."""
    return lambda _container: False


KNOWN: dict[str, Callable[[str, Find], Test]] = {
    "ancestor": _ancestor,
    "before": _before,
    "command": _command,
    "exited": _exited,
    "health": _health,
    "id": _id,
    "label": _label,
    "name": _name,
    "network": _network,
    "pod": _nothing,
    "restart-policy": _restart_policy,
    "since": _since,
    "status": _status,
    "until": _until,
    "volume": _volume,
}


def compile_filters(filters: dict[str, list[str]], find: Find) -> Test:
    """One test of a container. Raises InvalidArgument for an unknown key or a value that cannot be meant."""
    tests: list[Test] = []
    for key, values in filters.items():
        negated = key.endswith("!")
        make = KNOWN.get(key.removesuffix("!"))
        if make is None:
            raise InvalidArgument(f"cannot filter by '{key}'", hint=f"known are {', '.join(KNOWN)}")
        made = [make(value, find) for value in values]
        if key == "label":
            tests.extend(made)
        elif negated:
            one = _any(made)
            tests.append(lambda container, one=one: not one(container))  # type: ignore[misc]
        else:
            tests.append(_any(made))
    return lambda container: all(test(container) for test in tests)
