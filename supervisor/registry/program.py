"""The registry program: it takes operations from its socket and carries them out, all in one loop.

It ends when the supervisor is gone, and after `idle` seconds without an operation. Then it first closes its side of the
socket, so that the supervisor sees at once that it has to start another one, and takes what had been sent before.
"""

from __future__ import annotations

import array
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import httpx
import msgspec
import trio

from pyman.errors import InternalError, PymanError, to_wire
from supervisor.registry.exchange import Exchange, ExchangeEnded
from supervisor.registry.messages import Failed, Request, Taken
from supervisor.registry.operations import perform
from supervisor.registry.reports import Reports
from supervisor.registry.session import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["serve"]

_MOST_DESCRIPTORS = 4
_MOST_OPERATIONS = 256
"""At once; more are refused."""
_LONGEST = 8192
"""Characters of an error's sentence."""
_BUGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    httpx.HTTPError,
    httpx.StreamError,
)
_decode: Callable[[bytes], Request] = msgspec.msgpack.Decoder(Request).decode


async def serve(control: socket.socket, environ: Mapping[str, str], idle: float) -> None:
    """Until there is nothing more to do. `idle`: in seconds."""
    program = _Program(control, environ, idle)
    async with trio.open_nursery() as operations:
        await program.accept(operations)
    await program.pool.aclose()


class _Program:
    def __init__(self, control: socket.socket, environ: Mapping[str, str], idle: float) -> None:
        control.setblocking(False)
        self._control = control
        self._idle = idle
        self._running = 0
        self._idle_since = trio.current_time()
        self.pool = Pool(environ)

    async def accept(self, operations: trio.Nursery) -> None:
        while True:
            now = trio.current_time()
            with trio.move_on_at((now if self._running else self._idle_since) + self._idle):
                await trio.lowlevel.wait_readable(self._control)
            if not self._take(operations):
                operations.cancel_scope.cancel()
                return
            if not self._running and trio.current_time() >= self._idle_since + self._idle:
                # From here on nothing can be sent any more; what had been is carried out.
                self._control.shutdown(socket.SHUT_RD)
                self._take(operations)
                return

    def _take(self, operations: trio.Nursery) -> bool:
        """Everything that there is to take. False: the supervisor is gone."""
        while True:
            space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
            try:
                data, ancillary, _, _ = self._control.recvmsg(16, space, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            fds = array.array("i")
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            if not fds or self._running >= _MOST_OPERATIONS:
                for fd in fds:
                    os.close(fd)
                continue
            self._running += 1
            operations.start_soon(self._operation, list(fds))

    async def _operation(self, fds: list[int]) -> None:
        exchange = Exchange(socket.socket(fileno=fds[0]))
        try:
            async with trio.open_nursery() as nursery:
                request = await exchange.receive(_decode)
                await exchange.send(Taken())
                nursery.start_soon(partial(_cancel_when_closed, exchange, nursery.cancel_scope))
                reports = Reports(exchange)
                nursery.start_soon(reports.run)
                reply = await self._performed(request, fds[1:], reports)  # type: ignore[arg-type]
                await reports.finish()
                await exchange.send(reply)
                nursery.cancel_scope.cancel()
        except* ExchangeEnded:
            pass
        finally:
            exchange.close()
            for fd in fds[1:]:
                os.close(fd)
            self._running -= 1
            self._idle_since = trio.current_time()

    async def _performed(self, request: Request, fds: Sequence[int], reports: Reports) -> msgspec.Struct:
        try:
            reply = await perform(self.pool, request, fds, reports)
            await self.pool.trim()
        except PymanError as error:
            return _failed(error)
        except _BUGS as error:
            # It fails this operation alone, and is told without a word of what was transferred.
            return _failed(InternalError(f"cannot talk to the registry: {_place(error)}"))
        return reply


def _failed(error: PymanError) -> Failed:
    name, parameters = to_wire(error)
    return Failed(name, {key: str(value)[:_LONGEST] for key, value in parameters.items()})


def _place(error: BaseException) -> str:
    """Kind and place of an unexpected exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" in {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{where}"


async def _cancel_when_closed(exchange: Exchange, operation: trio.CancelScope) -> None:
    await exchange.wait_closed()
    operation.cancel()
