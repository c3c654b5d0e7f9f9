"""Which namespaces a container has of its own, and what follows from that.

A namespace option is empty (the configured default), `private` or a word that means the same here, `host`,
or the way to another container's; the last is refused until containers can share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.host import this_host
from supervisor.oci.spec import IdMapping, NamespaceEntry
from supervisor.rootless.splitting import split

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec, Namespace
    from supervisor.oci.request import BuildRequest
    from supervisor.settings.model import ContainersSettings

__all__ = ["id_mappings", "mode", "modes", "namespaces", "sysctls"]

_OPTIONS = {"pid": "--pid", "network": "--network", "ipc": "--ipc", "uts": "--uts", "cgroup": "--cgroupns"}
_OWN = {
    "pid": {"private"},
    "network": {"none", "private"},
    "ipc": {"private", "shareable", "none"},
    "uts": {"private"},
    "cgroup": {"private"},
}
_ELSEWHERE = {"container", "ns", "pod", "path"}
_NETWORKS = {"bridge", "slirp4netns", "pasta"}

_GROUP_SYSCTL = "net.ipv4.ping_group_range"
_NET_SYSCTLS = ("net.",)
_IPC_SYSCTLS = (
    "fs.mqueue.",
    "kernel.msg",
    "kernel.sem",
    "kernel.shm",
)
_UTS_SYSCTLS = ("kernel.domainname", "kernel.hostname")


def mode(kind: str, spec: ContainerSpec, defaults: ContainersSettings) -> str:
    """`host`, or the word for a namespace of its own. `kind` is the specification's name.

    NotSupported names the option that asks for another container's namespace or for a network.
    """
    wishes: dict[str, tuple[Namespace, str]] = {
        "pid": (spec.pidns, defaults.pidns),
        "network": (spec.netns, "host" if defaults.netns == "host" else "none"),
        "ipc": (spec.ipcns, defaults.ipcns),
        "uts": (spec.utsns, defaults.utsns),
        "cgroup": (spec.cgroupns, defaults.cgroupns or ("private" if this_host().unified else "host")),
    }
    wish, default = wishes[kind]
    chosen = wish.nsmode or default
    if chosen == "host" or chosen in _OWN[kind]:
        return chosen
    option = f"{_OPTIONS[kind]} {chosen}{f':{wish.value}' if wish.value else ''}"
    if chosen in _ELSEWHERE:
        raise NotSupported(f"cannot use '{option}': containers cannot share namespaces yet", subject=option)
    if kind == "network" and chosen in _NETWORKS:
        raise NotSupported(
            f"cannot use '{option}': there are no networks yet",
            subject=option,
            hint="use --network none or host",
        )
    known = ", ".join(sorted(_OWN[kind] | {"host"}))
    raise InvalidArgument(f"cannot use '{option}'", subject=option, hint=f"known are {known}")


def modes(request: BuildRequest) -> dict[str, str]:
    """The mode of every kind of namespace."""
    return {kind: mode(kind, request.spec, request.settings.containers) for kind in _OPTIONS}


def namespaces(request: BuildRequest, chosen: dict[str, str]) -> list[NamespaceEntry]:
    """The entries for `modes`; the mount namespace is always the container's own."""
    kinds = [kind for kind, word in chosen.items() if word != "host"]
    entries = [_ENTRIES[kind] for kind in (*kinds, "mount")]
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


_ENTRIES = {kind: NamespaceEntry(kind) for kind in (*_OPTIONS, "mount")}


def sysctls(request: BuildRequest, chosen: dict[str, str]) -> dict[str, str]:
    """The default sysctls that belong to a namespace of the container's own; the host's are left alone."""
    shared: tuple[str, ...] = ()
    if chosen["network"] == "host":
        shared += _NET_SYSCTLS
    if chosen["ipc"] == "host":
        shared += _IPC_SYSCTLS
    if chosen["uts"] == "host":
        shared += _UTS_SYSCTLS
    defaults = request.settings.containers.default_sysctls
    if request.userns is not None and not any(line.inside == 0 for line in request.userns.maps.gids):
        shared += (_GROUP_SYSCTL,)  # its groups do not exist there
    return (
        {name: value for name, value in defaults.items() if not name.startswith(shared)}
        if shared
        else defaults
    )
