"""An attached container or exec session: its streams pumped, its signals and terminal size sent, to its end.

conmon's attach socket is a SOCK_SEQPACKET: a packet is a byte that names the stream (2 stdout, 3 stderr)
and data. It was handed over by the supervisor, which is not in the data path: output goes on while the
supervisor is being restarted, and the exit code is then taken from the journal of events.
Signals, terminal sizes and the like are calls on a second connection whose answers nobody waits for.
"""

from __future__ import annotations

import os
import select
import time

from pyman.cli.signals import ENDING, Interrupted, signal
from pyman.errors import EngineStopped, EngineUnavailable, NotFound, PymanError, StorageFailed, WrongState
from pyman.wire import connect, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.keys import KeyFilter
    from pyman.cli.signals import Signals
    from pyman.cli.terminal import Terminal
    from pyman.wire import Connection, Reply, Socket

__all__ = ["Session", "Side", "write_all"]

STDOUT, STDERR = 2, 3
"""Stream names of conmon's packets."""
TO_CONTAINER = 32 << 10
"""conmon reads at most as much at once and loses the rest of a packet."""
_ROOM = 1 << 16
"""More than any packet of conmon's (8 KiB and its first byte)."""
_BATCH = 4 * _ROOM
_TURN = 16
"""Batches before stdin and signals have their turn."""
IN_WRITE = 1.0
"""Seconds to wait for answers while a write blocks, so that a further signal can be sent."""
AFTER_EXIT = 2.0
"""Seconds of silence after the exit code before a socket that does not end is given up: a process that
left the container may hold it."""


PATIENCE = 2
"""Signals without an answer after which the next one ends this command."""
_ENDING = {str(int(number)) for number in ENDING}


class Side:
    """Calls beside the one under way: sent in their order, one at a time, answers read when they come."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._connection: Connection | None = None
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._busy = False
        self._last: tuple[str, dict[str, Any]] = ("", {})

    def push(self, method: str, parameters: dict[str, Any]) -> None:
        """Send it as soon as the calls before it are answered. Of several sizes only the last one matters."""
        if method == "Container.Resize":
            self._waiting = [call for call in self._waiting if call[0] != method]
        self._waiting.append((method, parameters))
        self._send()

    @property
    def unanswered(self) -> int:
        """Signals that end a command, sent or waiting, and not answered yet."""
        calls = [*self._waiting, self._last] if self._busy else self._waiting
        return sum(call[1].get("signal") in _ENDING for call in calls)

    def fileno(self) -> int:
        """-1 while no answer is awaited."""
        return self._connection.fileno() if self._connection is not None and self._busy else -1

    def service(self) -> None:
        """Read the answer if it has come, and send what waits. Failures are told, never raised."""
        connection = self._connection
        if connection is None or not self._busy or not _readable(connection.fileno()):
            return
        try:
            connection.feed()
            reply = connection.ready()
            if reply is None:
                return
            reply.close()
            for result in reply.parameters.get("results") or ():
                error = result.get("error")
                # It has ended meanwhile: the exit code is on its way.
                if error and error.get("code") not in ("WrongState", "NoSuchContainer"):
                    self._ctx.warn(str(error.get("message")))
        except (WrongState, NotFound):
            pass
        except EngineUnavailable:
            connection.close()  # a new one is made for the next call
        except PymanError as error:
            self._ctx.warn(str(error))
        self._busy = False
        self._send()

    def _send(self) -> None:
        while self._waiting and not self._busy:
            method, parameters = self._waiting[0]
            try:
                if self._connection is None:
                    self._connection = self._ctx.connect_again()
                self._connection.send(method, parameters, more=False)
            except PymanError as error:
                self._ctx.warn(str(error))
                self._waiting.clear()
                return
            self._last = self._waiting.pop(0)
            self._busy = True

    def settle(self, seconds: float) -> None:
        """Wait at most so long, until everything is sent."""
        until = time.monotonic() + seconds
        while self._waiting and self._busy and (left := until - time.monotonic()) > 0:
            if _readable(self.fileno(), int(left * 1000)):
                self.service()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _readable(descriptor: int, milliseconds: int = 0) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(milliseconds))


def write_all(descriptor: int, data: memoryview | bytes) -> None:
    """Write all of it, also to what was left non-blocking by somebody else. BrokenPipeError, StorageFailed."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()
        except BrokenPipeError:
            raise
        except OSError as problem:
            where = {1: "standard output", 2: "standard error"}.get(descriptor, "a file")
            raise StorageFailed(f"cannot write to {where}: {problem.strerror}") from problem


class Session:
    """Set its attributes, then `run` it until the container ends or the user detaches."""

    def __init__(self, ctx: Context, signals: Signals, *, container: str, since: int) -> None:
        self._ctx = ctx
        self._control: Connection | None = None
        self._signals = signals
        self._container = container
        self.exec_id = ""
        self.streams = frozenset({STDOUT, STDERR})
        """What of its output is shown."""
        self.keys: KeyFilter | None = None
        """With it standard input is passed on."""
        self.stdin = False
        self.terminal: Terminal | None = None
        """Entered by the owner; here it is only given back and taken again around a stop."""
        self.resizes = False
        self.size = (0, 0)
        """Rows and columns that were told last."""
        self.proxy = False
        self._since = since
        """Nanoseconds since the epoch, before the start: the journal is searched for the end from here on."""
        self._side = Side(ctx)
        self._socket: Socket | None = None
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._buffer = bytearray(_BATCH + 1)
        self._view = memoryview(self._buffer)
        self._to_container = b""
        self._input_open = False
        self._journal = False
        self._finished = False
        self._detached = False
        self._exit_code: int | None = None

    # -- the loop ---------------------------------------------------------------------------------

    def run(self, control: Connection, attach: int | None) -> int | None:
        """Pump until the end; the exit code, or none after the user has detached.

        `control` is the connection with the call under way whose last reply brings the exit code; `attach`
        conmon's socket (closed here), none with a container that has our own descriptors.
        Raises what the supervisor raised, Interrupted, BrokenPipeError.
        """
        self._control = control
        try:
            if attach is not None:
                self._socket = sockets.socket(fileno=attach)
                self._watch(attach, select.POLLIN, self._on_output)
                if self.stdin:
                    self._input_open = True
                    self._watch(0, select.POLLIN, self._on_input)
            self._watch(control.fileno(), select.POLLIN, self._on_control)
            self._watch(self._signals.fileno(), select.POLLIN, self._on_signals)
            self._on_signals(0)  # those that came while it was being started
            self._replies()
            while not self._done():
                self._turn()
        finally:
            self._side.close()
            if self._socket is not None:
                self._socket.close()
        return None if self._detached else self._exit_code

    def _done(self) -> bool:
        return self._detached or (self._finished and self._socket is None)

    def _turn(self) -> None:
        side = self._side.fileno()
        if side >= 0:
            self._poll.register(side, select.POLLIN)
        silence = AFTER_EXIT * 1000 if self._finished and self._socket is not None else None
        ready = self._poll.poll(silence)
        if side >= 0:
            self._poll.unregister(side)  # it may be another one the next time
        if not ready and silence is not None:
            self._end_of_output()
        for descriptor, _event in ready:
            handler = self._handlers.get(descriptor)
            if descriptor == side:
                self._side.service()
            elif handler is not None and not self._detached:
                handler(descriptor)

    def _watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        self._poll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def _ignore(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    # -- output -----------------------------------------------------------------------------------

    def _on_output(self, _descriptor: int) -> None:
        if self._to_container:
            self._push_input()
        for _ in range(_TURN):
            if self._socket is None or not self._batch(self._socket):
                return

    def _batch(self, socket: Socket) -> bool:
        """Read packets until there are none or the buffer is full, and write each stream's run at once.

        A packet is read so that its first byte falls on the last byte of the one before, which is then put
        back: the data of one stream lies together without having been copied. False: nothing is left.
        """
        buffer, view, receive = self._buffer, self._view, socket.recv_into
        begin = end = 1
        stream = STDOUT
        more = True
        while end <= _BATCH - _ROOM:
            kept = buffer[end - 1]
            try:
                size = receive(view[end - 1 :], 0, sockets.MSG_DONTWAIT)
            except BlockingIOError:
                more = False
                break
            except OSError:
                size = 0
            if not size:
                buffer[end - 1] = kept
                self._write(stream, view[begin:end])
                self._end_of_output()
                return False
            name = buffer[end - 1]
            buffer[end - 1] = kept
            if name != stream:
                self._write(stream, view[begin:end])
                begin, stream = end, name
            end += size - 1
        self._write(stream, view[begin:end])
        return more

    def _write(self, stream: int, data: memoryview) -> None:
        if not data or stream not in self.streams:
            return
        self._signals.urgent = self._while_writing
        try:
            if self._signals.pending:
                self._while_writing()
            write_all(2 if stream == STDERR else 1, data)
        finally:
            self._signals.urgent = None

    def _end_of_output(self) -> None:
        if self._socket is not None:
            self._ignore(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._close_input()

    # -- input ------------------------------------------------------------------------------------

    def _on_input(self, _descriptor: int) -> None:
        try:
            data = os.read(0, TO_CONTAINER - 256)  # room for keys that were held back
        except BlockingIOError:
            return
        except OSError:
            data = b""  # closed, or its terminal has gone
        keys = self.keys
        if not data:
            self._to_container = keys.end() if keys is not None else b""
            self._input_open = False
        else:
            self._to_container = keys.feed(data) if keys is not None else data
        self._ignore(0)
        self._push_input()
        if keys is not None and keys.detached:
            self._detached = True

    def _push_input(self) -> None:
        """Send what waits, then let standard input be read again, or tell the container of its end."""
        if self._socket is None:
            return
        descriptor = self._socket.fileno()
        if self._to_container:
            try:
                self._socket.send(self._to_container, sockets.MSG_DONTWAIT)
            except BlockingIOError:
                self._poll.register(descriptor, select.POLLIN | select.POLLOUT)
                return
            except OSError:
                self._input_open = False  # nobody reads it any more; its output still counts
                self._to_container = b""
                self._poll.register(descriptor, select.POLLIN)
                return
            self._to_container = b""
            self._poll.register(descriptor, select.POLLIN)
        if self._input_open:
            self._watch(0, select.POLLIN, self._on_input)
        else:
            try:
                self._socket.shutdown(sockets.SHUT_WR)
            except OSError:
                pass

    def _close_input(self) -> None:
        self._input_open = False
        self._to_container = b""
        self._ignore(0)

    # -- the supervisor ---------------------------------------------------------------------------

    def _on_control(self, descriptor: int) -> None:
        try:
            if self._control is not None:
                self._control.feed()
            self._replies()
        except (EngineUnavailable, EngineStopped):
            self._ignore(descriptor)
            self._follow_journal()
        except PymanError:
            self._drain()
            raise

    def _replies(self) -> None:
        while self._control is not None and (reply := self._control.ready()) is not None:
            reply.close()
            if self._journal:
                self._journal_reply(reply)
            elif reply.parameters.get("phase") == "exited" or not reply.continues:
                for warning in reply.parameters.get("warnings") or ():
                    self._ctx.warn(warning)
                self.finish(reply.parameters.get("exit_code"))

    def finish(self, code: int | None) -> None:
        if self._finished:
            return  # the event of the end is followed by that of the removal
        if code is None:
            self._ctx.warn(f"the exit code of {self.exec_id or self._container} could not be learnt")
        self._exit_code = 125 if code is None else code & 0xFF
        self._finished = True
        if self._control is not None:
            self._ignore(self._control.fileno())

    def _drain(self) -> None:
        """The output that came before an error."""
        while self._socket is not None and self._batch(self._socket):
            pass

    def _follow_journal(self) -> None:
        """The supervisor went away: ask the next one for the event of the end, from the start on."""
        ends = ["exec_died", "died", "remove"] if self.exec_id else ["died", "remove"]
        request = {
            "filters": {"container": [self._container], "event": ends},
            "since": self._since,
        }
        self._journal = True
        self._control = None
        while self._control is None and not self._detached:
            # While the container goes on it needs no supervisor, and one that was stopped on purpose stays
            # so; at the end its exit code is wanted, and another one is started.
            needed = self._socket is None
            try:
                control = connect(self._ctx.selection, start=needed)
                control.send("Event.Subscribe", request)
            except EngineUnavailable:
                if needed:
                    raise
                self._until_output_ends()
                continue
            self._control = control
            self._watch(control.fileno(), select.POLLIN, self._on_control)

    def _until_output_ends(self) -> None:
        while self._socket is not None and not self._detached:
            self._turn()

    def _journal_reply(self, reply: Reply) -> None:
        event = reply.parameters.get("event")
        if not event:
            return
        attributes = event.get("Attributes") or {}
        if self.exec_id and event.get("Status") == "exec_died" and attributes.get("execID") != self.exec_id:
            return
        code = attributes.get("containerExitCode", "")
        known = code.removeprefix("-").isdigit() and event.get("Status") != "remove"
        if self.exec_id and event.get("Status") != "exec_died":
            known = False
        self.finish(int(code) if known else None)

    # -- signals ----------------------------------------------------------------------------------

    def _on_signals(self, _descriptor: int) -> None:
        for number in self._signals.take():
            self._act_on(number)

    def _while_writing(self) -> None:
        """Called by the handler while a write blocks: nobody reads what the container writes."""
        self._signals.urgent = None  # not within itself
        while self._signals.pending:
            self._side.service()
            self._on_signals(0)
            self._side.settle(IN_WRITE)
        self._signals.urgent = self._while_writing

    def _act_on(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self.send_size()
        elif self.terminal is not None and number == signal.SIGCONT:
            self.terminal.resume()
            self.send_size()
        elif self.terminal is not None and number == signal.SIGTSTP:
            self.terminal.restore()
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.proxy:
            if not self._finished:
                if number in ENDING and self._side.unanswered >= PATIENCE:
                    self._ctx.warn("the supervisor does not answer: the container is left as it is")
                    raise Interrupted(number)
                names = {"selection": {"names": [self._container]}, "signal": str(number)}
                self._side.push("Container.Kill", names)
        else:
            raise Interrupted(number)

    def send_size(self) -> None:
        """Tell the container's terminal the size of ours, if that is news."""
        from pyman.cli.terminal import size

        rows, columns = size()
        if self.resizes and rows and columns and (rows, columns) != self.size and not self._finished:
            self.size = rows, columns
            request: dict[str, Any] = {"rows": rows, "columns": columns}
            request.update({"exec_id": self.exec_id} if self.exec_id else {"name": self._container})
            self._side.push("Container.Resize", request)
