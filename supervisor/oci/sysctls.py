"""Kernel parameters of a container's namespaces: the configured ones, which yield, and those that were asked for.

A configured one is for namespaces of the container's own alone. One that was asked for is set in a namespace that is
joined as well, as Podman does, but never in the host's.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.oci.namespaces import OPTIONS, is_shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.oci.request import BuildRequest

__all__ = ["check_asked", "sysctls"]

_GROUPS = "net.ipv4.ping_group_range"
_OF_NETWORK = ("net.",)
_OF_IPC = ("fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")
_OF_UTS = ("kernel.domainname", "kernel.hostname")
_KNOWN_OF_IPC = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    }
)
_INSTEAD = {"kernel.domainname": "--domainname", "kernel.hostname": "--hostname"}
_OF_DEVICES = frozenset({"conf", "neigh"})
"""Below these are names of devices, which only the container may have."""
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")
_MOST, _LONGEST = 256, 4096
"""Of all, and of the characters of a value."""


def sysctls(request: BuildRequest, chosen: Mapping[str, str]) -> dict[str, str]:
    """By name. `chosen`: the modes of the namespaces. InvalidArgument."""
    shared: tuple[str, ...] = ()
    if is_shared(chosen["network"]):
        shared += _OF_NETWORK
    if is_shared(chosen["ipc"]):
        shared += _OF_IPC
    if is_shared(chosen["uts"]):
        shared += _OF_UTS
    found = request.settings.containers.default_sysctls
    if request.userns is not None and not any(line.inside == 0 for line in request.userns.maps.gids):
        shared += (_GROUPS,)  # its groups do not exist there
    if shared:
        found = {name: value for name, value in found.items() if not name.startswith(shared)}
    if not request.spec.sysctl:
        return found
    check_asked(request.spec.sysctl, chosen)
    return {**found, **request.spec.sysctl}


def check_asked(asked: Mapping[str, str], chosen: Mapping[str, str]) -> None:
    """InvalidArgument names what cannot be set."""
    if len(asked) > _MOST:
        raise InvalidArgument(f"cannot use --sysctl more than {_MOST} times")
    for name, value in asked.items():
        if name in _INSTEAD:
            raise _unusable(name, "it has an option of its own", hint=f"give {_INSTEAD[name]}")
        if _NAME.fullmatch(name) is None:
            raise _unusable(name, "it is no name of a kernel parameter")
        _check_place(name, _kind_of(name), chosen)
        if value != value.strip() or len(value) > _LONGEST or not value.replace("\t", " ").isprintable():
            raise _unusable(name, f"it cannot be '{value[:80]}'")


def _kind_of(name: str) -> str:
    if name.startswith(_OF_NETWORK):
        return "network"
    if name in _KNOWN_OF_IPC or name.startswith("fs.mqueue."):
        return "ipc"
    raise _unusable(
        name, "it is not of a namespace, but of the whole host", hint="those of net., fs.mqueue. and IPC are"
    )


def _check_place(name: str, kind: str, chosen: Mapping[str, str]) -> None:
    if chosen[kind] == "host":
        raise _unusable(
            name, f"it would be the host's, whose namespace the container shares ({OPTIONS[kind]} host)"
        )
    parts = name.split(".")
    if _OF_DEVICES.isdisjoint(parts) and not os.path.exists(f"/proc/sys/{'/'.join(parts)}"):
        raise _unusable(name, "this kernel has no such parameter")


def _unusable(name: str, reason: str, *, hint: str = "") -> InvalidArgument:
    return InvalidArgument(f"cannot use --sysctl {name[:80]}: {reason}", subject=name, hint=hint)
