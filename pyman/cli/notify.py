"""What the service manager is told that runs this command as a service and waits until it is ready (sd_notify).

The command speaks for the container: the service manager believes it, which it would not the supervisor.
"""

from __future__ import annotations

import os

from pyman.cli.context import sentence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyman.cli.context import Context

__all__ = ["announce", "await_health", "reports"]


def reports() -> dict[str, Any]:
    """The caller of a start; empty where nobody asked to be told."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return {}
    try:
        with open("/proc/self/cgroup", encoding="ascii", errors="surrogateescape") as file:
            return {"notify_socket": path, "cgroup": file.read()}
    except OSError:
        return {"notify_socket": path}


def announce(ctx: Context, reply: Mapping[str, Any]) -> None:
    """Tell what the reply says is to be told, if anything."""
    lines = reply.get("notify")
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not lines or not path:
        return
    import socket

    address = b"\0" + os.fsencode(path[1:]) if path.startswith("@") else os.fsencode(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        try:
            out.sendto("\n".join(lines).encode(), socket.MSG_NOSIGNAL, address)
        except OSError as error:
            ctx.warn(f"cannot tell {path} that the container runs: {(error.strerror or str(error)).lower()}")


def await_health(ctx: Context, container: str) -> int:
    """Wait until a container is healthy, at the next supervisor if this one goes away; the exit status."""
    from pyman.cli.container import waited

    reply = waited(ctx, {"selection": {"names": [container]}, "conditions": ["healthy"]})
    for result in reply["results"]:
        if result.get("error"):
            ctx.fail(sentence(result["error"]))
            return 125
    return 0
