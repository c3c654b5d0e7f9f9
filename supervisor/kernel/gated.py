"""A program that is there, with its pid, and has not begun: until `release` it waits at a gate.

So what it is can be written down before it does anything. The gate is a pipe of the process that launched it: should
that be killed, the gate ends, and the program with it, without ever having begun.

It is a shell that waits, and becomes the program: the same process. It also sees to it that a program that outlives
everybody who reads what it says cannot fill a disk with that, and that a SIGHUP by which it is told to look again does
not end it while it comes up.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Self

import trio

from supervisor.kernel import children, inside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from supervisor.kernel.process import ProcessRef

__all__ = ["Gated", "launch"]

_BLOCKS = 512
"""Of 512 bytes: how long a file may be that it writes. More is refused, which does not end it."""
_SHELL = "/bin/sh"
_SCRIPT = f'trap "" XFSZ HUP; command ulimit -f {_BLOCKS}; read -r go && exec "$@" </dev/null'


class Gated:
    """Closed without a word, it never begins."""

    def __init__(self, ref: ProcessRef, gate: int) -> None:
        self.ref = ref
        self._gate = gate

    def release(self) -> None:
        """Let it go. What becomes of it, its pidfd tells."""
        try:
            os.write(self._gate, b"go\n")
        except BrokenPipeError:  # somebody has ended it
            pass
        finally:
            self.close()

    def close(self) -> None:
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def launch(
    argv: Sequence[str],
    *,
    output: int,
    env: Mapping[str, str],
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
    network: int | None = None,
) -> Gated:
    """Start one that outlives this process, in a session of its own. `argv`: with the program's path in front. `output`:
    a descriptor for what it prints. `network`: one of the network namespace that it begins in. OSError."""
    theirs, gate = os.pipe2(os.O_CLOEXEC)
    start = partial(
        children.launch,
        [_SHELL, "-c", _SCRIPT, os.path.basename(argv[0]), *argv],
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
        stdin=theirs,
        stdout=output,
        stderr=output,
    )
    try:
        if network is None:
            await trio.lowlevel.checkpoint_if_cancelled()
            ref = start()
        else:
            ref = await trio.to_thread.run_sync(partial(inside.joined, network, "network", start))
    except BaseException:
        os.close(gate)
        raise
    finally:
        os.close(theirs)
    return Gated(ref, gate)
