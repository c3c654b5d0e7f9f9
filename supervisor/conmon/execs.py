"""Exec sessions: a second command in a container, watched by a conmon of its own.

A session has a directory that is its monitor's bundle, and a persist directory in it; it is never given the
container's exit directory, where conmon would write its exit as the container's. With `attach` the monitor
waits twice: `attach_exec` lets it make its attach socket and connects before the command exists, then
`release` lets the command run. Nothing of a session is outside its directory, so that `remove_exec` leaves
nothing behind.

The steps: `make_fifos`, `spawn_monitor` with `exec_id` and `process_spec`, record the monitor, (`attach_exec`,)
`release`, `read_sync`, and beside that place the monitor.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from pyman.errors import ConmonFailed
from supervisor.conmon import attach, exit
from supervisor.conmon.spawn import make_fifos, read_sync, release, wait_ready, waits
from supervisor.kernel import files
from supervisor.kernel.process import ref_of

if TYPE_CHECKING:
    import socket

    from supervisor.conmon.exit import Exit
    from supervisor.conmon.spawn import MonitorRequest
    from supervisor.kernel.process import ProcessRef

__all__ = [
    "attach_exec",
    "command_of",
    "make_fifos",
    "read_exit",
    "read_sync",
    "release",
    "remove_exec",
    "waits",
]


async def attach_exec(
    request: MonitorRequest, deadline: float, monitor: ProcessRef | None = None
) -> socket.socket:
    """Let the monitor go as far as its attach socket, and connect; the command has not begun.

    `deadline` in seconds. Raises ConmonFailed or DeadlineExceeded.
    """
    if not release(request):
        raise ConmonFailed(f"cannot begin exec session '{request.exec_id}': its monitor has gone")
    await wait_ready(request, deadline, monitor)
    return await attach.connect("", request.exec_id, request.bundle, deadline=deadline)


def read_exit(request: MonitorRequest) -> Exit | None:
    """How the session's command ended; None: it has not, or its monitor was killed."""
    return exit.read_exit(None, request.persist_dir, request.exec_id)


def command_of(request: MonitorRequest) -> ProcessRef | None:
    """The session's command as the OCI runtime has noted it, if it is there and in the container's cgroup.

    For a session whose monitor was ended before it said anything.
    """
    try:
        with open(request.pid_file, "rb") as file:
            found = ref_of(int(file.read(32)))
        if found is None:
            return None
        with open(f"/proc/{found.pid}/cgroup", "rb") as file:
            return found if request.id.encode() in file.read() else None
    except (OSError, ValueError):
        return None


def remove_exec(request: MonitorRequest) -> None:
    """Remove what a session that has ended left on disk. Blocks for a moment. StorageFailed."""
    paths = [request.bundle]
    if request.socket_dir:
        paths.append(os.path.join(request.socket_dir, request.exec_id))
    for path in paths:
        try:
            if os.path.islink(path):
                os.unlink(path)
            else:
                shutil.rmtree(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise files.storage_error(error, "remove", path) from error
