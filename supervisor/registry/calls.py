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
_REPORTED = "the program that talks to registries has ended unexpectedly"


class Calls:
    """`programs`: the nursery in which the program is waited for; its end ends the program."""

    def __init__(self, programs: trio.Nursery, environ: Mapping[str, str], idle: float = IDLE) -> None:
        self._programs = programs
        self._environ = dict(environ)
        self._idle = idle
        self._control: socket.socket | None = None
        self._starting = trio.Lock()
        self._program: _Program | None = None
        self._closed = False

    @property
    def pid(self) -> int:
        """Of the program; 0: there is none."""
        return self._program.child.pid if self._program is not None and not self._program.gone.is_set() else 0

    async def warm(self) -> None:
        """Start the program, if it does not run: a call will follow. Raises RegistryFailed."""
        async with self._starting:
            if self._control is None:
                await self._start()

    async def call(
        self,
        request: msgspec.Struct,
        fds: Sequence[int] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> msgspec.Struct:
        """The reply. Raises the errors of `pyman.errors`; cancellation ends the operation."""
        for last in (False, True):
            try:
                return await self._once(request, fds, progress)
            except ExchangeEnded:
                self._forget()
                if last:
                    break
        raise RegistryFailed(f"cannot talk to the registry: {_REPORTED}")

    async def _once(
        self, request: msgspec.Struct, fds: Sequence[int], progress: Callable[[Progress], None] | None
    ) -> msgspec.Struct:
        with self._socket_pair() as (ours, theirs):
            await self._hand_over([theirs.fileno(), *fds])
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

    @contextmanager
    def _socket_pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            yield ours, theirs
        finally:
            ours.close()
            theirs.close()

    async def _hand_over(self, fds: Sequence[int]) -> None:
        """Raises ExchangeEnded: the program that there was has just ended; and RegistryFailed: there is none."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        for last in (False, True):
            await self.warm()
            control = self._control
            assert control is not None  # noqa: S101 - it has been started
            try:
                while True:
                    try:
                        control.sendmsg([b"operation"], rights, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                        return
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(control)
            except OSError as error:
                # It has ended for want of work: that is not even a failure.
                if self._control is control:
                    self._forget()
                if last:
                    raise ExchangeEnded(str(error)) from error

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    async def _start(self) -> None:
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
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._program = _Program(child)
        self._programs.start_soon(self._program.watch)

    async def aclose(self) -> None:
        """End the program, and whatever it is doing."""
        self._closed = True
        self._forget()
        if self._program is not None:
            self._program.end.cancel()
            await self._program.gone.wait()


class _Program:
    """One process of it. `end` cancelled: it is killed; `gone`: it has been waited for."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.end = trio.CancelScope()
        self.gone = trio.Event()

    async def watch(self) -> None:
        try:
            with self.end:
                code = await self.child.wait()
                if code:
                    log.warning("the registry program has ended", pid=self.child.pid, code=code)
        finally:
            await self.child.kill()
            self.gone.set()
