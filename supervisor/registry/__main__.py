"""`python -m supervisor.registry PARENT CONTROL IDLE`: the registry program; see `supervisor.registry.program`.

The supervisor starts it. PARENT is its pid, CONTROL the number of the socket's descriptor.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from supervisor.registry.confined import confine


def main() -> None:
    parent, control, idle = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    confine(parent)
    # httpx's command line, which it imports where it can, takes a quarter of the time to start.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    import trio

    from supervisor.registry.program import serve

    gc.freeze()
    trio.run(serve, socket.socket(fileno=control), dict(os.environ), idle)


if __name__ == "__main__":
    main()
