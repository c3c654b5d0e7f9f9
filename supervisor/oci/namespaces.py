"""Which namespaces a container has of its own, and what follows from that.

A namespace option is empty (the configured default), `private` or a word that means the same here, `host`,
`container:NAME` for another container's, or `ns:PATH`. Where the last two are is known at a start only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.host import this_host
from supervisor.oci.spec import IdMapping, NamespaceEntry
from supervisor.rootless.splitting import split

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec, Namespace
    from supervisor.oci.request import BuildRequest
    from supervisor.settings.model import ContainersSettings

__all__ = [
    "FIELDS",
    "JOINED",
    "OPTIONS",
    "check_init",
    "id_mappings",
    "is_shared",
    "joins",
    "mode",
    "modes",
    "namespaces",
    "owners",
    "told",
]

OPTIONS = {"pid": "--pid", "network": "--network", "ipc": "--ipc", "uts": "--uts", "cgroup": "--cgroupns"}
"""By the specification's name of the kind."""
FIELDS = {"pid": "pidns", "network": "netns", "ipc": "ipcns", "uts": "utsns", "cgroup": "cgroupns"}
"""Of the create request."""
_OWN = {
    "pid": {"private"},
    "network": {"none", "private", "bridge", "pasta", "slirp4netns"},
    "ipc": {"private", "shareable", "none"},
    "uts": {"private"},
    "cgroup": {"private"},
}
JOINED = frozenset({"container", "ns"})
"""Modes of a namespace that is there before the container."""


def mode(kind: str, spec: ContainerSpec, defaults: ContainersSettings) -> str:
    """`host`, `container`, `ns`, or the word for a namespace of its own. `kind` is the specification's name.

    InvalidArgument and NotSupported name the option that asks for what cannot be.
    """
    wish: Namespace = getattr(spec, FIELDS[kind])
    chosen = wish.nsmode or _default(kind, defaults)
    if chosen == "host" or chosen in _OWN[kind]:
        return chosen
    option = f"{OPTIONS[kind]} {chosen}{f':{wish.value}' if wish.value else ''}"
    if chosen in JOINED:
        _check_joined(option, chosen, wish.value)
        return chosen
    if chosen == "pod":
        raise NotSupported(f"cannot use '{option}': there are no pods yet", subject=option)
    known = ", ".join([*sorted(_OWN[kind] | {"host"}), "container:NAME", "ns:PATH"])
    raise InvalidArgument(f"cannot use '{option}'", subject=option, hint=f"known are {known}")


def _default(kind: str, defaults: ContainersSettings) -> str:
    match kind:
        case "pid":
            return defaults.pidns
        case "network":
            return "host" if defaults.netns == "host" else "none"
        case "ipc":
            return defaults.ipcns
        case "uts":
            return defaults.utsns
        case _:
            return defaults.cgroupns or ("private" if this_host().unified else "host")


def _check_joined(option: str, chosen: str, value: str) -> None:
    if not value:
        what = "the name of a container" if chosen == "container" else "the path of a namespace"
        raise InvalidArgument(f"cannot use '{option}': {what} is missing", subject=option)
    if chosen == "ns" and not os.path.isabs(value):
        raise InvalidArgument(f"cannot use '{option}': the path is not absolute", subject=option)


def check_init(spec: ContainerSpec, chosen: str) -> None:
    """`chosen`: the mode of the PID namespace. InvalidArgument: an init would not be the first process in it."""
    if is_shared(chosen):
        raise InvalidArgument(
            f"cannot use --init with --pid {told('pid', spec, chosen)}: the init has to be the first process"
        )


def is_shared(mode: str) -> bool:
    """Others live in a namespace of that mode before the container does."""
    return mode == "host" or mode in JOINED


def joins(spec: ContainerSpec) -> bool:
    """A namespace is joined. User namespaces are another matter."""
    modes = (spec.pidns.nsmode, spec.netns.nsmode, spec.ipcns.nsmode, spec.utsns.nsmode, spec.cgroupns.nsmode)
    return not JOINED.isdisjoint(modes)


def owners(spec: ContainerSpec) -> dict[str, str]:
    """The containers whose namespaces are joined, by the specification's names of the kinds; of a container that was
    created their ids. User namespaces are another matter."""
    return {
        kind: wish.value
        for kind, field in FIELDS.items()
        if (wish := getattr(spec, field)).nsmode == "container" and wish.value
    }


def told(kind: str, spec: ContainerSpec, chosen: str) -> str:
    """A mode as it is given to the option, and as `inspect` shows it."""
    wish: Namespace = getattr(spec, FIELDS[kind])
    return f"{chosen}:{wish.value}" if chosen in JOINED else chosen


def modes(request: BuildRequest) -> dict[str, str]:
    """The mode of every kind of namespace."""
    return {kind: mode(kind, request.spec, request.settings.containers) for kind in OPTIONS}


def namespaces(request: BuildRequest, chosen: dict[str, str]) -> list[NamespaceEntry]:
    """The entries for `modes`; the mount namespace is always the container's own."""
    kinds = [kind for kind, word in chosen.items() if word != "host"]
    entries = [_ENTRIES[kind] for kind in (*kinds, "mount")]
    if request.joined:
        entries = [NamespaceEntry(each.type, request.joined.get(each.type, "")) for each in entries]
    if request.userns is not None:
        entries.insert(0, NamespaceEntry("user", request.userns.path))
    return entries


def id_mappings(request: BuildRequest) -> tuple[list[IdMapping], list[IdMapping]]:
    """Of uids and gids, where the container has a user namespace other than the engine's. They are told of one that
    is joined as well: OCI runtimes want them."""
    if request.userns is None:
        return [], []
    around = this_host().id_maps
    uids, gids = (
        [IdMapping(*line) for line in split(lines, there)]
        for lines, there in zip(request.userns.maps, around, strict=True)
    )
    return uids, gids


_ENTRIES = {kind: NamespaceEntry(kind) for kind in (*OPTIONS, "mount")}
