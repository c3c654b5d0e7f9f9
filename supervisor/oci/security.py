"""What a container may see and call: hidden parts of /proc and /sys, system calls, profiles of the host.

A privileged container sees everything and may call everything, unless it asks for a seccomp profile or for paths to be
masked. The texts of --security-opt that decide here were taken apart by the client.
"""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci import capabilities, seccomp
from supervisor.oci.host import this_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from pyman.api.spec import ContainerSpec
    from supervisor.oci.request import BuildRequest

__all__ = [
    "MASKED_PATHS",
    "READONLY_PATHS",
    "RELEASE_AGENT",
    "UNCONFINED",
    "hidden_paths",
    "proc_options",
    "system_calls",
]

UNCONFINED = "unconfined"
_ALL = "all"
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
RELEASE_AGENT = "/sys/fs/cgroup/systemd/release_agent"
"""A program that the host's kernel runs as root. It is writable in systemd mode, on cgroup v1."""
READONLY_PATHS = [
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
]
_PROC_FLAGS = frozenset(
    (
        "nosuid",
        "noexec",
        "nodev",
        "suid",
        "exec",
        "dev",
        "ro",
        "rw",
        "relatime",
        "noatime",
        "strictatime",
        "subset=pid",
    )
)
_HIDEPID = frozenset(("0", "1", "2", "4", "off", "noaccess", "invisible", "ptraceable"))


def system_calls(request: BuildRequest) -> msgspec.Raw | None:
    """The seccomp profile, ready to be written; none without one, and for a privileged container that asks for none.
    InvalidArgument, NotSupported: the one that was asked for cannot be used. InvalidConfig: the configured one."""
    spec, configured = request.spec, request.settings.containers.seccomp_profile
    asked = spec.seccomp_profile_path
    if asked == UNCONFINED:
        return None
    if spec.seccomp_profile:
        if not this_host().seccomp:
            raise NotSupported(
                f"cannot use --security-opt seccomp={asked}: this kernel has no seccomp", subject=asked
            )
        return seccomp.of_text(spec.seccomp_profile, asked, _capabilities(request))
    if asked:
        raise InvalidArgument(
            f"cannot use --security-opt seccomp={asked}: its text is missing",
            subject=asked,
            hint="the text of the profile goes along in seccomp_profile",
        )
    if request.privileged or configured in ("", UNCONFINED) or not this_host().seccomp:
        return None
    return seccomp.profile(configured, _capabilities(request))


def _capabilities(request: BuildRequest) -> tuple[str, ...]:
    return tuple(capabilities.bounding(request))


def hidden_paths(request: BuildRequest) -> tuple[list[str], list[str]]:
    """Paths in the container that nothing can be read of, and paths that are read-only. InvalidArgument."""
    spec = request.spec
    for option, paths in (("mask", spec.mask), ("unmask", spec.unmask)):
        for path in paths:
            if not path.startswith("/") and not (option == "unmask" and path.lower() == _ALL):
                raise InvalidArgument(
                    f"cannot use --security-opt {option}={path}: the path is not absolute", subject=path
                )
    always = [RELEASE_AGENT] if request.systemd else []
    if request.privileged:
        return [*spec.mask, *always], []
    if not spec.mask and not spec.unmask:
        return [*MASKED_PATHS, *always], READONLY_PATHS
    masked = [path for path in MASKED_PATHS if not _is_shown(path, spec.unmask)]
    read_only = [path for path in READONLY_PATHS if not _is_shown(path, spec.unmask)]
    return [*masked, *spec.mask, *always], read_only


def _is_shown(path: str, patterns: Sequence[str]) -> bool:
    return any(pattern.lower() == _ALL or _matches(path, pattern) for pattern in patterns)


def _matches(path: str, pattern: str) -> bool:
    """As a shell's: a star is no slash."""
    names, globs = path.split("/"), posixpath.normpath(pattern).split("/")
    return len(names) == len(globs) and all(
        fnmatchcase(name, glob.replace("[^", "[!")) for name, glob in zip(names, globs, strict=True)
    )


def proc_options(spec: ContainerSpec) -> list[str]:
    """The options of the container's /proc, instead of the usual ones; empty: none were asked for. InvalidArgument."""
    for option in spec.procfs_opts:
        key, _, value = option.partition("=")
        if option in _PROC_FLAGS or (key == "hidepid" and value in _HIDEPID):
            continue
        if key != "gid" or not value.isdecimal() or len(value) > 10:
            raise InvalidArgument(
                f"cannot use --security-opt proc-opts={option}: /proc has no such option",
                subject=option,
                hint="it has hidepid=, gid= and subset=pid, and the flags that every mount has",
            )
    return list(spec.procfs_opts)
