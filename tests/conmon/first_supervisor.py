"""A supervisor that is killed after the step that its first argument names. Reads a request from stdin."""

from __future__ import annotations

import os
import signal
import sys

import msgspec
import trio

from supervisor.conmon.find import Conmon
from supervisor.conmon.spawn import MonitorRequest, make_fifos, read_sync, release, spawn_monitor


async def main(last: str, conmon: Conmon, request: MonitorRequest) -> None:
    make_fifos(request.bundle)
    await spawn_monitor(conmon, request)
    if last == "nothing recorded":
        os.unlink(request.conmon_pid_file)
    if last in ("released", "read"):
        release(request)
    if last == "read":
        await read_sync(request, 20)
    os.kill(os.getpid(), signal.SIGKILL)


trio.run(
    main,
    sys.argv[1],
    Conmon(sys.argv[2], "2.1.6"),
    msgspec.json.decode(sys.stdin.buffer.read(), type=MonitorRequest),
)
