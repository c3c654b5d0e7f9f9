"""What this host and this process permit: facts that do not change while the supervisor runs."""

from __future__ import annotations

import os
import re
import resource
from functools import cache

import msgspec

from pyman.wire import in_user_namespace
from supervisor.kernel import idmaps
from supervisor.kernel.abi import has_x32
from supervisor.kernel.idmaps import IdMaps

__all__ = ["CAPABILITIES", "Host", "least_oom_score", "this_host"]

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""By the kernel's number."""


class Host(msgspec.Struct, frozen=True):
    unified: bool
    """cgroup v2 alone."""
    controllers: frozenset[str]
    """Of cgroups, in whichever hierarchy."""
    capabilities: tuple[str, ...]
    """That a child of this process can have."""
    hard_limits: dict[str, int]
    """RLIMIT_NOFILE and so on to the highest value that a child can be given; -1: unlimited."""
    id_maps: IdMaps
    """Of the user namespace that this process is in, and with it every OCI runtime."""
    seccomp: bool
    apparmor: bool
    selinux: bool
    x32: bool
    """Programs of the x32 ABI can run."""


@cache
def this_host() -> Host:
    bounding = _bounding_set()
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return Host(
        unified=unified,
        controllers=_controllers(unified),
        capabilities=bounding,
        hard_limits=_hard_limits(_may_raise_limits(bounding)),
        id_maps=idmaps.of_this_process(),
        seccomp=os.path.exists("/proc/sys/kernel/seccomp"),
        apparmor=_has_apparmor(),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        x32=has_x32(),
    )


@cache
def least_oom_score() -> int:
    """The lowest oom_score_adj that a child of this process can have."""
    if _may_raise_limits():
        return -1000
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def _may_raise_limits(bounding: tuple[str, ...] | None = None) -> bool:
    return "CAP_SYS_RESOURCE" in (bounding or _bounding_set()) and not in_user_namespace()


def _has_apparmor() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii", errors="replace") as file:
            return file.read().startswith("Y")
    except OSError:
        return False


def _bounding_set() -> tuple[str, ...]:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        match = re.search(r"^CapBnd:\s*([0-9a-f]+)", file.read(), re.MULTILINE)
    bits = int(match[1], 16) if match else 0
    return tuple(sorted(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1))


def _controllers(unified: bool) -> frozenset[str]:
    if unified:
        with open("/sys/fs/cgroup/cgroup.controllers", encoding="ascii") as file:
            return frozenset(file.read().split())
    found: set[str] = set()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, _, described = line.partition(" - ")
            kind, _, options = described.partition(" ")
            if kind == "cgroup":
                found.update(options.split()[-1].split(","))
    return frozenset(found)


def _hard_limits(may_raise: bool) -> dict[str, int]:
    """Raising a hard limit takes CAP_SYS_RESOURCE, which some virtual machines withhold from root."""
    limits: dict[str, int] = {}
    for name in dir(resource):
        if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE":
            hard = resource.getrlimit(getattr(resource, name))[1]
            limits[name] = -1 if may_raise or hard == resource.RLIM_INFINITY else hard
    if may_raise:
        with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
            limits["RLIMIT_NOFILE"] = int(file.read())
    return limits
