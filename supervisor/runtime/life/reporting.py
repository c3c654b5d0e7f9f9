"""What the service manager is told that runs a container as its service (sd_notify), and who tells it.

A service manager believes those processes of which it knows that they belong to the service. So it is never the
supervisor that speaks to it: conmon is moved into the service's cgroup and passes on that the container is ready, as
the container says, or the supervisor for it; and a caller who leaves tells that conmon is the main process.
conmon outlives the supervisor, and passes on nothing but READY=1 and WATCHDOG=1.
"""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import cgroups

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyman.api.spec import Caller, ContainerSpec
    from supervisor.oci.placement import Placement
    from supervisor.oci.request import BuildRequest

__all__ = [
    "HEALTHY",
    "MODES",
    "Reporting",
    "asked_by",
    "check",
    "lines",
    "listened_to",
    "passes_on",
    "place_of_monitor",
    "tell_ready",
]

CONTAINER, CONMON, HEALTHY, IGNORE = MODES = ("container", "conmon", "healthy", "ignore")
_LONGEST = 107
"""Bytes of a socket's path."""


class Reporting(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one run."""

    socket: str
    """The service manager's; a path, or abstract and with `@` in front."""
    cgroup: str = ""
    """Contents of /proc/self/cgroup of whoever started it."""


def mode_of(spec: ContainerSpec) -> str:
    return spec.sdnotify_mode or CONTAINER


def asked_by(spec: ContainerSpec, caller: Caller) -> Reporting | None:
    """Nobody asked to be told, or the container is to keep quiet: none. NotSupported, InvalidArgument."""
    mode, path = mode_of(spec), caller.notify_socket
    if not path or mode == IGNORE:
        return None
    hint = "use --sdnotify ignore, and nobody is told"
    if path[0] not in "/@" or len(path) < 2 or len(path.encode(errors="replace")) > _LONGEST:
        raise InvalidArgument(
            f"cannot use the NOTIFY_SOCKET '{path}': it is no path of a socket", subject=path, hint=hint
        )
    if path[0] == "@" and mode != CONMON:
        raise NotSupported(
            f"cannot use --sdnotify {mode} with the NOTIFY_SOCKET '{path}': conmon reaches no abstract socket",
            subject=path,
            hint=hint.replace("ignore, and nobody is told", "conmon or ignore"),
        )
    return Reporting(path, caller.cgroup)


def check(spec: ContainerSpec, caller: Caller, *, has_check: bool) -> None:
    """InvalidArgument, NotSupported. `has_check`: the container has a health check."""
    mode = mode_of(spec)
    if mode not in MODES:
        raise InvalidArgument(
            f"cannot use --sdnotify {mode}", subject=mode, hint=f"known are {', '.join(MODES)}"
        )
    if mode == HEALTHY and not has_check:
        raise InvalidArgument(
            "cannot use --sdnotify healthy: the container has no health check", hint="give a --health-cmd"
        )
    asked_by(spec, caller)


def passes_on(spec: ContainerSpec, reporting: Reporting | None) -> str:
    """The socket to which conmon is to pass on that the container is ready; empty: to none."""
    return reporting.socket if reporting is not None and mode_of(spec) in (CONTAINER, HEALTHY) else ""


def listened_to(request: BuildRequest, reporting: Reporting | None, bundle: str) -> BuildRequest:
    """With a directory for the socket that conmon makes, which is in the container if that speaks for itself."""
    if not passes_on(request.spec, reporting):
        return request
    directory = f"{bundle}/notify"
    os.makedirs(directory, mode=0o755, exist_ok=True)
    if mode_of(request.spec) == HEALTHY:
        return request
    return msgspec.structs.replace(request, notify_directory=directory)


def place_of_monitor(
    pid: int, mode: str, placement: Placement, reporting: Reporting | None
) -> Callable[[], object] | None:
    """What moves conmon to where it belongs; none: it stays. `mode`: that of the container's cgroup."""
    own = partial(cgroups.place, pid, placement.monitor) if placement.monitor else None
    if reporting is None or not reporting.cgroup or mode == "split":
        return own

    def join() -> None:
        # Not if the service is there no more, as at a restart by policy, or not the user's to divide.
        if not cgroups.join(pid, reporting.cgroup) and own is not None:
            own()

    return join


def lines(spec: ContainerSpec, reporting: Reporting | None, monitor: int, *, stays: bool) -> list[str]:
    """What the caller is to tell. `monitor`: the pid of conmon. `stays`: the caller is there as long as the container,
    and ends as it does: a better main process than conmon, whose exit status only the supervisor sees."""
    if reporting is None or not monitor:
        return []
    main = [] if stays else [f"MAINPID={monitor}"]
    return [*main, "READY=1"] if mode_of(spec) == CONMON else main


def tell_ready(bundle: str) -> bool:
    """Have conmon say that a healthy container is ready. False: it does not listen. Does not block."""
    try:
        # Below an open directory: the path of a socket may not be long.
        directory = os.open(f"{bundle}/notify", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            out.sendto(b"READY=1", flags, f"/proc/self/fd/{directory}/notify.sock")
    except OSError:
        return False
    finally:
        os.close(directory)
    return True
