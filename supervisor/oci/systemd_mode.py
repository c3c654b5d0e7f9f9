"""systemd mode: whether a container has it, and what follows from that but for its mounts (`systemd_mounts`).

Where the command is one by which systemd is known, this is so unless it is refused; or for any command, on demand.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec

__all__ = ["MODES", "check", "is_on", "stop_signal"]

MODES = ("true", "false", "always")

_COMMANDS = frozenset({"/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"})


def is_on(spec: ContainerSpec, *, init: bool) -> bool:
    """`init`: an init program is the first process, and starts the command."""
    if spec.systemd in ("", "true"):
        return not init and _is_systemd([*(spec.entrypoint or []), *spec.command])
    return spec.systemd == "always"


def _is_systemd(words: list[str]) -> bool:
    if len(words) > 2 and words[:2] == ["/bin/sh", "-c"]:
        words = words[2:]  # as an entrypoint in its short form begins
    return bool(words) and (words[0] in _COMMANDS or os.path.basename(words[0]) == "systemd")


def check(spec: ContainerSpec, *, init: bool) -> None:
    """InvalidArgument names the option."""
    if spec.systemd and spec.systemd not in MODES:
        raise InvalidArgument(
            f"cannot use --systemd {spec.systemd}", subject=spec.systemd, hint=f"known are {', '.join(MODES)}"
        )
    if init and spec.systemd == "always":
        raise InvalidArgument(
            "cannot use --init with --systemd always: both would be the first process",
            hint="leave --init away; systemd is an init itself",
        )
    size = spec.shm_size_systemd
    if size is not None and size < 0:
        raise InvalidArgument(f"cannot use --shm-size-systemd {size}: the size is negative")


def stop_signal() -> int:
    """By which systemd halts in good order."""
    return int(signal.SIGRTMIN) + 3
