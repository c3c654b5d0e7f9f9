"""Connections that the forwarder leads on: TCP by splice(2), so that no byte of them comes into this process.

    client ── accepted ═ pipe ═ connected ── container

A direction has a pipe only while something is in it: most connections have none most of the time, and a peer that does not
read holds up no other. Sockets are watched for edges, and a direction is moved on until the kernel has no more for it, or
it has had its turn. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from collections import deque
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Acceptor", "Loop", "Relay"]

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP

_PIPE_BYTES = 1 << 18
"""Of one pipe; the kernel lets a user have 64 MiB in all of them before it makes them small."""
_IDLE_PIPES = 16
_SPLICES = 16
"""At a turn."""
_ACCEPTS = 64
_AT_ONCE = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset."""
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Loop:
    """Waits for descriptors, and calls whoever is concerned; everybody has a turn before anybody has another one.

    Add descriptors only from work queued by `again`: during a poll, a new one could have the number of one just closed,
    and get its events.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._again: deque[Callable[[], None]] = deque()
        self._starving: set[Callable[[], None]] = set()
        self.tick: Callable[[], float | None] = lambda: None
        """Asked before each wait: seconds that it may take."""
        self.running = True

    def add(self, descriptor: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """`handler` is told the events."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def discard(self, descriptor: int) -> None:
        """Before it is closed: another process may have the same socket, and the kernel would go on watching it."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            self._again.extend(self._starving)
            self._starving.clear()

    def again(self, work: Callable[[], None]) -> None:
        """After all others have had a turn."""
        self._again.append(work)

    def once_there_is_room(self, work: Callable[[], None]) -> None:
        """When some descriptor has been closed."""
        self._starving.add(work)

    def run(self) -> None:
        while self.running:
            wait = self.tick()
            for descriptor, events in self._epoll.poll(0 if self._again else wait):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler(events)
            for _ in range(len(self._again)):
                self._again.popleft()()

    def stop(self) -> None:
        self.running = False

    def close(self) -> None:
        self._epoll.close()


class _Pipes:
    """Those that nothing is in."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        """OSError: there cannot be another one."""
        if self._idle:
            return self._idle.pop()
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with suppress(OSError):
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return pipe

    def give_back(self, pipe: tuple[int, int], held: int) -> None:
        """`held`: bytes that are still in it."""
        if held or len(self._idle) >= _IDLE_PIPES:
            for end in pipe:
                os.close(end)
        else:
            self._idle.append(pipe)


_pipes = _Pipes()


class _Flow:
    """One direction of a connection."""

    __slots__ = ("_pipe", "_sink", "_source", "held", "over")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source, self._sink = source, sink
        self._pipe: tuple[int, int] | None = None
        self.held = 0
        """Bytes in the pipe: the sink does not take them yet."""
        self.over = False

    def move(self) -> bool:
        """What there is. True: there may be more. OSError: the connection is broken."""
        if self.over:
            return False
        pipe = self._pipe = self._pipe or _pipes.take()
        source, sink = self._source.fileno(), self._sink.fileno()
        try:
            for _ in range(_SPLICES):
                if not self.held:
                    self.held = os.splice(source, pipe[1], _PIPE_BYTES, flags=_AT_ONCE)
                    if not self.held:
                        self.over = True
                        self._sink.shutdown(socket.SHUT_WR)
                        return False
                self.held -= os.splice(pipe[0], sink, self.held, flags=_AT_ONCE)
        except BlockingIOError:
            return False
        finally:
            if not self.held:
                self.drop()
        return True

    def drop(self) -> None:
        if self._pipe is not None:
            _pipes.give_back(self._pipe, self.held)
            self._pipe = None


class Relay:
    """A connection from a client, and one to the container for it."""

    __slots__ = ("_back", "_client", "_connected", "_ended", "_loop", "_queued", "_target", "_there")

    def __init__(
        self, loop: Loop, client: socket.socket, target: socket.socket, ended: Callable[[Relay], None]
    ) -> None:
        """`target`: on its way to be connected. `ended` is told once, when both are closed."""
        self._loop = loop
        self._client, self._target = client, target
        self._there, self._back = _Flow(client, target), _Flow(target, client)
        self._connected = self._queued = False
        self._ended = ended
        for end in (client, target):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        loop.add(client.fileno(), self._on_client, _EDGES)
        loop.add(target.fileno(), self._on_target, _EDGES)

    def _on_client(self, events: int) -> None:
        if events & select.EPOLLERR:
            self.abort()
        elif self._connected:
            self._move(events, self._there, self._back)

    def _on_target(self, events: int) -> None:
        if events & select.EPOLLERR:
            self.abort()
        elif self._connected:
            self._move(events, self._back, self._there)
        elif events & select.EPOLLOUT:
            self._connected = True
            self._turn()

    def _move(self, events: int, out: _Flow, into: _Flow) -> None:
        """One of the sockets can be read, or written."""
        try:
            more = bool(events & _READABLE) and out.move()
            if into.held and events & _WRITABLE:
                more |= into.move()
        except OSError:
            self.abort()
            return
        self._after(more=more)

    def _turn(self) -> None:
        self._queued = False
        if self._client.fileno() < 0:
            return
        try:
            more = self._there.move()
            more |= self._back.move()
        except OSError:
            self.abort()
            return
        self._after(more=more)

    def _after(self, *, more: bool) -> None:
        if self._there.over and self._back.over:
            self._close()
        elif more and not self._queued:
            self._queued = True
            self._loop.again(self._turn)

    def abort(self) -> None:
        """Both peers are told that the connection is broken."""
        for end in (self._client, self._target):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._close()

    def _close(self) -> None:
        if self._client.fileno() < 0:
            return
        for end in (self._client, self._target):
            self._loop.discard(end.fileno())
            end.close()
        self._there.drop()
        self._back.drop()
        self._ended(self)


class Acceptor:
    """A port of the host, with TCP."""

    def __init__(
        self, loop: Loop, listener: socket.socket, connect: Callable[[socket.socket], socket.socket]
    ) -> None:
        """`connect`: a socket on its way to the container, on behalf of a client. OSError: it has none."""
        self._loop = loop
        self._listener = listener
        self._connect = connect
        self._relays: set[Relay] = set()
        listener.setblocking(False)
        # Connections that have not ended keep nobody from listening with this socket once more.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen(socket.SOMAXCONN)
        loop.add(listener.fileno(), lambda _: loop.again(self._accept), select.EPOLLIN | select.EPOLLET)

    def _accept(self) -> None:
        if self._listener.fileno() < 0:
            return
        for _ in range(_ACCEPTS):
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._loop.once_there_is_room(self._accept)
                    return
                continue  # a client has gone
            self._begin(client)
        self._loop.again(self._accept)

    def _begin(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            target = self._connect(client)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            client.close()
            return
        self._relays.add(Relay(self._loop, client, target, self._relays.discard))

    def close(self) -> None:
        """The host refuses connections from now on, whoever else has the socket, and those that there are end."""
        if self._listener.fileno() < 0:
            return
        self._loop.discard(self._listener.fileno())
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for relay in [*self._relays]:
            relay.abort()
