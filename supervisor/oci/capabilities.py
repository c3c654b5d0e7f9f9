"""The capabilities of a container: the configured ones, what is added and dropped, and who has them in effect.

What is added or dropped is `ALL` or a name, with or without CAP_, in any case. Of what is asked for nothing is left out in
silence: a capability that this engine does not have itself, and so cannot pass on, is refused by name.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.host import CAPABILITIES, this_host
from supervisor.oci.spec import Capabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.oci.request import BuildRequest

__all__ = ["added_and_dropped", "bounding", "of_command", "of_container"]

_ALL = "ALL"
_REQUIRED = "io.containers.capabilities"
"""A label, of the image most of the time, with the only capabilities that are needed."""


def bounding(request: BuildRequest) -> list[str]:
    """The most that a process of the container can ever have, sorted. InvalidArgument and NotSupported name the option
    and the capability."""
    possible = this_host().capabilities
    spec = request.spec
    added, dropped = _named("--cap-add", spec.cap_add), _named("--cap-drop", spec.cap_drop)
    if request.privileged:
        if dropped:
            raise InvalidArgument(
                "cannot use --cap-drop together with --privileged: it gives every capability",
                hint="give --cap-add ALL and --cap-drop instead",
            )
        return list(possible)
    usual = _usual(request.settings.containers.default_capabilities, possible)
    merged = sorted(_merged(usual, added, dropped)) if added or dropped else sorted(usual)
    return _needed(spec.labels, merged)


def of_container(request: BuildRequest, uid: int) -> Capabilities:
    """Of its command. `uid` is the user's in the container: root has all in effect, anybody else what was added."""
    most = bounding(request)
    return _of_user(most, most if uid == 0 else _for_others(request, most), ambient=uid != 0)


def of_command(request: BuildRequest, uid: int, *, privileged: bool, same_user: bool) -> Capabilities:
    """Of a further command in the container. `same_user`: it runs as the container's own user, and has what that has."""
    most = list(this_host().capabilities) if privileged else bounding(request)
    active = most if uid == 0 else _for_others(request, most) if same_user else []
    return _of_user(most, active, ambient=uid != 0)


def added_and_dropped(request: BuildRequest, most: Iterable[str]) -> tuple[list[str], list[str]]:
    """How `bounding` differs from what a container has by default, for showing it."""
    settings = request.settings.containers
    usual = set(CAPABILITIES if request.privileged else settings.default_capabilities)
    there = set(most)
    return sorted(there - usual), sorted(usual - there)


@lru_cache(maxsize=16)
def _usual(configured: tuple[str, ...], possible: tuple[str, ...]) -> frozenset[str]:
    return frozenset(configured) & frozenset(possible)


def _of_user(most: list[str], active: list[str], *, ambient: bool) -> Capabilities:
    """Whoever is not root keeps across an exec only what is ambient."""
    kept = active if ambient else []
    return Capabilities(bounding=most, effective=active, permitted=active, inheritable=kept, ambient=kept)


def _for_others(request: BuildRequest, most: Sequence[str]) -> list[str]:
    added = _named("--cap-add", request.spec.cap_add)
    return list(most) if _ALL in added else [name for name in most if name in added]


def _merged(usual: frozenset[str], added: set[str], dropped: set[str]) -> set[str]:
    if _ALL in dropped:
        if _ALL in added:
            raise InvalidArgument("cannot use --cap-add ALL together with --cap-drop ALL")
        return _possible(added)
    if _ALL in added:
        return set(this_host().capabilities) - dropped
    for name in sorted(added & dropped):
        raise InvalidArgument(f"cannot use --cap-add {name} together with --cap-drop {name}", subject=name)
    return (set(usual) - dropped) | _possible(added)


def _possible(added: set[str]) -> set[str]:
    for name in sorted(added - set(this_host().capabilities)):
        raise NotSupported(
            f"cannot use --cap-add {name}: this engine does not have the capability itself", subject=name
        )
    return added


def _named(option: str, names: Sequence[str]) -> set[str]:
    return {_name(option, name) for name in names}


def _name(option: str, text: str) -> str:
    name = text.upper()
    if name == _ALL:
        return name
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in CAPABILITIES:
        raise InvalidArgument(
            f"cannot use {option} '{text}': there is no such capability",
            subject=text,
            hint="capabilities(7) has the names; ALL means all",
        )
    return name


def _needed(labels: dict[str, str], most: list[str]) -> list[str]:
    """What is left where the container's label names what it needs: no more than that, if it is all there."""
    text = labels.get(_REQUIRED)
    if text is None:
        return most
    wanted = _named(f"the label {_REQUIRED}", text.split(",")) if text else set()
    return sorted(wanted) if wanted <= set(most) else most
