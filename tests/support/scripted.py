"""A supervisor that plays a script: the test says what happens on the wire, message by message.

Each method has a function that is given a `Talk` and answers as it likes, in a thread of the connection's.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from pyman.errors import to_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyman.errors import PymanError

__all__ = ["Scripted", "Talk"]


class Talk:
    """One call: what was asked, and the means to answer."""

    def __init__(self, connection: socket.socket, message: dict[str, Any], descriptors: list[int]) -> None:
        self.connection = connection
        self.message = message
        self.parameters: dict[str, Any] = message.get("parameters") or {}
        self.descriptors = descriptors

    def send(
        self, parameters: dict[str, Any], descriptors: Sequence[int] = (), *, continues: bool = False
    ) -> None:
        reply: dict[str, Any] = {"parameters": parameters}
        if continues:
            reply["continues"] = True
        if descriptors:
            reply["descriptors"] = len(descriptors)
        self.send_raw(json.dumps(reply).encode() + b"\0", descriptors)

    def send_raw(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        if descriptors:
            sent = socket.send_fds(self.connection, [data], list(descriptors))
            data = data[sent:]
        self.connection.sendall(data)

    def fail(self, error: PymanError) -> None:
        name, parameters = to_wire(error)
        self.send_raw(json.dumps({"error": name, "parameters": parameters}).encode() + b"\0")

    def hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def wait_for_end(self) -> None:
        """Until the client has closed its end (or sends something, which it should not)."""
        assert self.connection.recv(1) == b""


class Scripted:
    """Listens at `path`. `script` by short method name; `calls` are the (method, parameters) that came.

    A failure in a script is raised when it is closed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.script: dict[str, Callable[[Talk], None]] = {"System.Match": lambda talk: talk.send({})}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.came = threading.Condition()
        self._problems: list[BaseException] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(os.path.dirname(self.path), os.O_PATH)
        try:
            listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(self.path)}")
        finally:
            os.close(directory)
        listener.listen()
        self._listener = listener
        self._start(self._accept, listener)

    def stop_listening(self) -> None:
        """As if it were gone: connections are refused, those that there are end."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            os.unlink(self.path)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.stop_listening()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a script does not end"
        for connection in self._connections:
            connection.close()
        if self._problems:
            raise self._problems[0]

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The parameters of every call of the method so far."""
        return [parameters for name, parameters in self.calls if name == method]

    def wait_for(self, method: str, count: int = 1) -> list[dict[str, Any]]:
        with self.came:
            assert self.came.wait_for(lambda: len(self.asked(method)) >= count, 20), f"{method} never came"
        return self.asked(method)

    def _start(self, target: Callable[[socket.socket], None], argument: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(argument,))
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        waiting: list[int] = []
        try:
            while True:
                data, descriptors, _, _ = socket.recv_fds(connection, 65536, 16)
                waiting += descriptors
                if not data:
                    break
                buffer += data
                while b"\0" in buffer:
                    text, _, buffer = buffer.partition(b"\0")
                    message = json.loads(text)
                    count = message.get("descriptors", 0)
                    mine, waiting = waiting[:count], waiting[count:]
                    self._answer(Talk(connection, message, mine))
        except OSError:
            pass
        except BaseException as problem:  # noqa: BLE001 - told when it is closed
            self._problems.append(problem)
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, talk: Talk) -> None:
        method = talk.message["method"].removeprefix("io.pyman.")
        with self.came:
            self.calls.append((method, talk.parameters))
            self.came.notify_all()
        try:
            self.script[method](talk)
        finally:
            for descriptor in talk.descriptors:
                os.close(descriptor)
