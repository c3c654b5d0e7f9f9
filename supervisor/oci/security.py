"""What a container's processes may do: capabilities, hidden parts of /proc and /sys, system calls.

A privileged container has every capability that this process can pass on, sees everything and may call
everything. The capabilities of a user other than root are only a bound: nothing is in effect at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.oci import seccomp
from supervisor.oci.host import this_host
from supervisor.oci.spec import Capabilities

if TYPE_CHECKING:
    import msgspec

    from supervisor.oci.request import BuildRequest

__all__ = ["MASKED_PATHS", "READONLY_PATHS", "capabilities", "system_calls"]

MASKED_PATHS = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
]
READONLY_PATHS = [
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
]


def _bounding(request: BuildRequest, privileged: bool) -> list[str]:
    possible = this_host().capabilities
    if privileged:
        return list(possible)
    return [name for name in request.settings.containers.default_capabilities if name in possible]


def capabilities(request: BuildRequest, uid: int, *, privileged: bool) -> Capabilities:
    """`uid` is the user's in the container."""
    bounding = _bounding(request, privileged)
    active = bounding if uid == 0 else []
    return Capabilities(bounding=bounding, effective=active, permitted=active)


def system_calls(request: BuildRequest) -> msgspec.Raw | None:
    """The seccomp profile, ready to be written; none for a privileged container or without a profile."""
    profile = request.settings.containers.seccomp_profile
    if request.privileged or profile in ("", "unconfined") or not this_host().seccomp:
        return None
    return seccomp.profile(profile, tuple(_bounding(request, privileged=False)))
