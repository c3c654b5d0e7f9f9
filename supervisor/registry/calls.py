"""The supervisor's side of the registry program: starting it when it is needed, one call of it at a time.

A call that the program's end cuts short is made once more with a new program: reading can be repeated, a download
goes on where it was, and what is sent counts only when its last step has been taken. The second time it is an error.
"""

from __future__ import annotations

import array
import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import EngineStopped, RegistryFailed, from_wire
from supervisor.kernel import children
from supervisor.kernel.background import background
from supervisor.logging import log
from supervisor.registry.exchange import Exchange, ExchangeEnded
from supervisor.registry.messages import Answer, Failed, Progress, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from supervisor.kernel.children import Child

__all__ = ["Calls"]

IDLE = 60.0
"""Seconds without a call until the program ends."""
_decode: Callable[[bytes], msgspec.Struct] = msgspec.msgpack.Decoder(Answer).decode
_MOST_CALLS = 128
"""At once; others wait for their turn."""
_TIMES = 2
_END = 0.2
"""Seconds that the end of the program may take to be noticed."""
_REPORTED = "the program that talks to registries has ended unexpectedly"


class Calls:
    """`programs`: the nursery in which the program is waited for; its end ends the program."""

    def __init__(self, programs: trio.Nursery, environ: Mapping[str, str], idle: float = IDLE) -> None:
        self._programs = programs
        self._environ = dict(environ)
        self._idle = idle
        self._starting = trio.Lock()
        self._slots = trio.CapacityLimiter(_MOST_CALLS)
        self._program: _Program | None = None
        self._closed = False

    @property
    def pid(self) -> int:
        """Of the program; 0: there is none."""
        return self._program.pid if self._program is not None and not self._program.gone.is_set() else 0

    async def warm(self) -> None:
        """Start the program, if it does not run: a call will follow. Raises RegistryFailed."""
        await self._running()

    async def call(
        self,
        request: msgspec.Struct,
        fds: Sequence[int] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> msgspec.Struct:
        """The reply. Raises the errors of `pyman.errors`; cancellation ends the operation."""
        async with self._slots:
            for _ in range(_TIMES):
                program = await self._running()
                try:
                    return await self._once(program, request, fds, progress)
                except ExchangeEnded:
                    # If it is its end that this is, then it is seen at once. Else this operation alone has failed.
                    with trio.move_on_after(_END):
                        await program.gone.wait()
        raise RegistryFailed(f"cannot talk to the registry: {_REPORTED}")

    async def _once(
        self,
        program: _Program,
        request: msgspec.Struct,
        fds: Sequence[int],
        progress: Callable[[Progress], None] | None,
    ) -> msgspec.Struct:
        with _socket_pair() as (ours, theirs):
            if not await program.hand_over([theirs.fileno(), *fds]):
                # It has ended for want of work: that is not even a failure.
                program = await self._running()
                await program.hand_over([theirs.fileno(), *fds])
            theirs.close()
            exchange = Exchange(ours)
            try:
                await exchange.send(request)
                while True:
                    answer = await exchange.receive(_decode)
                    if isinstance(answer, Failed):
                        raise from_wire(answer.name, dict(answer.parameters))
                    if isinstance(answer, Progress):
                        if progress is not None:
                            progress(answer)
                    elif not isinstance(answer, Taken):
                        return answer
            finally:
                exchange.close()

    async def _running(self) -> _Program:
        """The program, started if need be. Raises RegistryFailed, EngineStopped."""
        async with self._starting:
            if self._program is None or self._program.refuses:
                self._program = await self._start()
            return self._program

    async def _start(self) -> _Program:
        if self._closed:
            raise EngineStopped("cannot talk to registries: the supervisor is shutting down")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            argv = [sys.executable, "-P", "-m", "supervisor.registry", str(os.getpid()), str(theirs.fileno())]
            child = await children.spawn(
                [*argv, f"{self._idle:g}"], env=self._environ, pass_fds=[theirs.fileno()], stderr=2
            )
        except OSError as error:
            ours.close()
            reason = (error.strerror or str(error)).lower()
            raise RegistryFailed(f"cannot start the program that talks to registries: {reason}") from error
        except trio.Cancelled:
            ours.close()
            raise
        finally:
            theirs.close()
        program = _Program(ours, child)
        self._programs.start_soon(program.watch)
        return program

    async def aclose(self) -> None:
        """End the program, and whatever it is doing."""
        self._closed = True
        if self._program is not None:
            await self._program.aclose()


@contextmanager
def _socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


class _Program:
    """One process of it, and our end of its socket. `gone`: it has been waited for. `child`: none is one that
    somebody else looks after."""

    def __init__(self, control: socket.socket, child: Child | None) -> None:
        control.setblocking(False)
        self._control = control
        self._child = child
        self._end = trio.CancelScope()
        self.gone = trio.Event()
        self.refuses = False
        """It takes no more operations."""

    @property
    def pid(self) -> int:
        return self._child.pid if self._child is not None else 0

    async def hand_over(self, fds: Sequence[int]) -> bool:
        """Give it an operation. False: it takes none any more."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        while not self.refuses:
            try:
                self._control.sendmsg([b"operation"], rights, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._control)
            except OSError:
                self.refuses = True
            else:
                return True
        return False

    async def watch(self) -> None:
        assert self._child is not None  # noqa: S101 - it is ours
        try:
            with self._end, background.program(self._child):
                code = await self._child.wait()
                if code:
                    log.warning("the registry program has ended", pid=self._child.pid, code=code)
        finally:
            await self._child.kill()
            self.refuses = True
            self.gone.set()
            self._close()

    def _close(self) -> None:
        if self._control.fileno() >= 0:
            trio.lowlevel.notify_closing(self._control)
            self._control.close()

    async def aclose(self) -> None:
        self.refuses = True
        if self._child is None:
            self._close()
            return
        self._end.cancel()
        await self.gone.wait()
