"""A door in front of a registry that the test opens and closes, and that counts what passes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Throttle"]

_PATIENCE = 20.0


class Throttle:
    """TCP on a port of its own, to another port on loopback. `limit`: bytes of answers after which nothing more
    passes until it is raised. `stop_at`: requests that are held."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._limit: int | None = None
        self._passed = 0
        self._pattern = b""
        self._held: dict[socket.socket, bytes] = {}
        self._refuse = False
        self._ended = False
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._wake.send(b"x")
        self._thread.join()
        for each in (self._listener, self._wake, self._woken):
            each.close()

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def passed(self) -> int:
        """Bytes that clients have been sent."""
        return self._passed

    def stop_after(self, count: int) -> None:
        """Let so many more bytes pass."""
        self._limit = self._passed + count
        self._wake.send(b"x")

    def stop_at(self, request: bytes) -> None:
        """Hold requests that begin so."""
        self._pattern = request

    def wait_held(self) -> None:
        """Until one is held."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._held, _PATIENCE), self._pattern

    def refuse(self) -> None:
        """Never let the requests pass that are held now."""
        self._pattern, self._refuse = b"", True
        self._wake.send(b"x")

    def open(self) -> None:
        self._limit = None
        self._pattern, self._refuse = b"", False
        self._wake.send(b"x")

    def wait_full(self) -> None:
        """Until the limit is reached."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._passed == self._limit, _PATIENCE), self._passed

    def _serve(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        selector.register(self._woken, selectors.EVENT_READ)
        pairs: dict[socket.socket, socket.socket] = {}
        answers: set[socket.socket] = set()

        def drop(one: socket.socket) -> None:
            for each in (one, pairs.get(one)):
                if each is not None and each in pairs:
                    with contextlib.suppress(KeyError):
                        selector.unregister(each)
                    del pairs[each]
                    answers.discard(each)
                    each.close()

        while not self._ended:
            for key, _ in selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._woken:
                    source.recv(100)
                    for answer in answers:
                        with contextlib.suppress(KeyError):
                            selector.register(answer, selectors.EVENT_READ)
                    self._go_on(pairs, selector, drop)
                elif source is self._listener:
                    client, _ = source.accept()
                    server = socket.create_connection(("127.0.0.1", self._target))
                    pairs[client], pairs[server] = server, client
                    answers.add(server)
                    selector.register(client, selectors.EVENT_READ)
                    selector.register(server, selectors.EVENT_READ)
                elif source in pairs and not self._pass(source, pairs[source], answers, selector):
                    drop(source)
        for one in list(pairs):
            drop(one)
        selector.close()

    def _go_on(
        self,
        pairs: dict[socket.socket, socket.socket],
        selector: selectors.BaseSelector,
        drop: Callable[[socket.socket], None],
    ) -> None:
        """With the requests that were held."""
        for client in [] if self._pattern else list(self._held):
            request = self._held.pop(client)
            if self._refuse:
                drop(client)
            else:
                pairs[client].sendall(request)
                selector.register(client, selectors.EVENT_READ)

    def _pass(
        self,
        source: socket.socket,
        sink: socket.socket,
        answers: set[socket.socket],
        selector: selectors.BaseSelector,
    ) -> bool:
        """False: this connection has ended."""
        size = 1 << 16
        if source in answers and self._limit is not None:
            size = min(size, self._limit - self._passed)
            if size <= 0:
                selector.unregister(source)
                return True
        try:
            data = source.recv(size)
            if self._pattern and data.startswith(self._pattern):
                selector.unregister(source)
                with self._changed:
                    self._held[source] = data
                    self._changed.notify_all()
                return True
            sink.sendall(data)
        except OSError:
            return False
        if source in answers:
            with self._changed:
                self._passed += len(data)
                self._changed.notify_all()
        return bool(data)
