"""A call of the OCI runtime that has come up before it is wanted.

runc needs 4 of the 7 ms of a `start` to come up, and it opens its log before it looks at anything. Where the
log is a FIFO, that waits for a reader: the gate. So `start` begins while the container is being created,
waits there, and acts as soon as the gate is opened. crun comes up in 1 ms and would not wait at a FIFO.

A call that does not do what it should is simply made again in the ordinary way, which then tells why. One
whose supervisor was killed stays at its gate until the next one lets it go.
"""

from __future__ import annotations

import os
import select
import stat
from typing import TYPE_CHECKING

import trio

from supervisor.kernel import children, pipes

if TYPE_CHECKING:
    from supervisor.oci.runtimes import OciRuntime

__all__ = ["StartAhead", "let_go", "make_gate"]

_WAITING = frozenset({"runc"})
_PATIENCE = 2000
"""Milliseconds that a call of an earlier supervisor may take to end."""


def _gate(bundle: str) -> str:
    return os.path.join(bundle, "gate")


def make_gate(bundle: str) -> None:
    """A new gate for one run. OSError: it cannot be made."""
    pipes.make_fifo(_gate(bundle))


def let_go(bundle: str) -> None:
    """Let a call go that an earlier supervisor has left at the gate, and wait until it has ended.

    It starts what is there to be started, and nothing if the OCI runtime does not know the container any more.
    The gate goes: a call that comes to it later finds it open. Blocks, if there is a call.
    """
    reader = _open(_gate(bundle))
    if reader is None:
        return
    try:
        os.unlink(_gate(bundle))
        if _somebody_waits(reader):
            ended = select.poll()
            ended.register(reader, 0)
            ended.poll(_PATIENCE)
    finally:
        os.close(reader)


def _open(gate: str) -> int | None:
    """For reading, which lets those go who wait. None: there is no gate."""
    try:
        reader = os.open(gate, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    if stat.S_ISFIFO(os.fstat(reader).st_mode):
        return reader
    os.close(reader)
    return None


def _somebody_waits(reader: int) -> bool:
    """Or has come through. Without a writer a FIFO is at its end."""
    try:
        return bool(os.read(reader, 1))
    except BlockingIOError:
        return True


class StartAhead:
    """A `start` that waits at its gate. Somebody has to let it `go`, or `drop` it."""

    def __init__(self, child: children.Child, gate: str, runtime: OciRuntime, container_id: str) -> None:
        self._child = child
        self._gate = gate
        self._runtime = runtime
        self._id = container_id

    @classmethod
    async def begin(cls, runtime: OciRuntime, container_id: str, bundle: str) -> StartAhead | None:
        """None: this OCI runtime does not wait, or it cannot be called now."""
        gate = _gate(bundle)
        if runtime.kind not in _WAITING or not _is_fifo(gate):
            return None
        argv = [runtime.path, *runtime.arguments, "--log", gate, "start", container_id]
        try:
            return cls(await children.spawn(argv, env=runtime.environ), gate, runtime, container_id)
        except OSError:
            return None

    async def go(self) -> bool:
        """Let it act, and wait until it has. False: it has not started anything.

        Raises DeadlineExceeded as the ordinary call does, and has ended it then.
        """
        reader = _open(self._gate)
        if reader is None:
            await self.drop()
            return False
        try:
            with trio.move_on_after(self._runtime.deadline):
                return await self._child.wait() == 0
            raise self._runtime.too_late("start", self._id)
        finally:
            await self.drop()
            os.close(reader)

    async def drop(self) -> None:
        """End it where it is."""
        await self._child.kill()


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.lstat(path).st_mode)
    except OSError:
        return False
