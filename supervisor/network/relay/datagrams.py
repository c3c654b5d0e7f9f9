"""Datagrams that the forwarder leads on: UDP by sessions, one for each client of a port.

A session is a socket of its own towards the container, so that what comes back has its client; it ends when nothing has
passed for a while. Answers leave from the address that the client has sent to, whatever addresses the host has.
Standard library only.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from supervisor.network.relay.relays import Loop

    Client = tuple[Any, ...]
    Ancillary = tuple[tuple[int, int, bytes], ...]

__all__ = ["Receiver", "Sessions"]

_IDLE = 90.0
"""Seconds without a datagram after which a session is no more."""
_MOST = 4096
"""Sessions at once; another one ends the one that has been idle for longest."""

_DATAGRAMS = 64
"""At a turn."""
_LARGEST = 1 << 16
_BUFFER = 1 << 18
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_ANCILLARY = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(12)


class Sessions:
    """All of them, the one that has been idle for longest first."""

    def __init__(self, idle: float = _IDLE, most: int = _MOST) -> None:
        self._idle, self._most = idle, most
        self._used: OrderedDict[_Session, float] = OrderedDict()

    def touch(self, session: _Session) -> None:
        self._used[session] = time.monotonic()
        self._used.move_to_end(session)

    def make_room(self) -> None:
        while len(self._used) >= self._most:
            next(iter(self._used)).close()

    def forget(self, session: _Session) -> None:
        self._used.pop(session, None)

    def expire(self) -> float | None:
        """End those that are due: seconds until others are; None: there are none."""
        while self._used:
            session, used = next(iter(self._used.items()))
            left = used + self._idle - time.monotonic()
            if left > 0:
                return left
            session.close()
        return None

    def __len__(self) -> int:
        return len(self._used)


class _Session:
    def __init__(self, receiver: Receiver, key: tuple[Client, Ancillary], target: socket.socket) -> None:
        self._receiver, self.key, self._target = receiver, key, target
        receiver.loop.add(target.fileno(), self._on_answer)

    def send(self, data: bytes) -> None:
        self._receiver.sessions.touch(self)
        try:
            self._target.send(data)
        except BlockingIOError:
            pass  # the network drops datagrams, too
        except OSError:
            self.close()  # nobody is there, now: the next one tries again

    def _on_answer(self, _: int) -> None:
        for _ in range(_DATAGRAMS):
            try:
                data = self._target.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._receiver.sessions.touch(self)
            self._receiver.answer(self.key, data)
            if self._target.fileno() < 0:
                return

    def close(self) -> None:
        if self._target.fileno() < 0:
            return
        self._receiver.loop.discard(self._target.fileno())
        self._target.close()
        self._receiver.sessions.forget(self)
        self._receiver.forget(self)


class Receiver:
    """A port of the host, with UDP."""

    def __init__(
        self,
        loop: Loop,
        sessions: Sessions,
        port: socket.socket,
        connect: Callable[[Client], socket.socket],
    ) -> None:
        """`connect`: a socket towards the container, on behalf of a client. OSError: it has none."""
        self.loop = loop
        self.sessions = sessions
        self._port = port
        self._connect = connect
        self._mine: dict[tuple[Client, Ancillary], _Session] = {}
        port.setblocking(False)
        # Whoever has bound it may have left no room.
        port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if port.family == socket.AF_INET6:
            port.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        with suppress(OSError):  # of IPv4 in a socket of IPv6: not every kernel
            port.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        loop.add(port.fileno(), lambda _: loop.again(self._receive))

    def _receive(self) -> None:
        for _ in range(_DATAGRAMS):
            if self._port.fileno() < 0:
                return
            try:
                data, told, _, client = self._port.recvmsg(_LARGEST, _ANCILLARY)
            except OSError:  # no more; or what an earlier answer met
                return
            session = self._session((client, _from(told)))
            if session is not None:
                session.send(data)

    def _session(self, key: tuple[Client, Ancillary]) -> _Session | None:
        session = self._mine.get(key)
        if session is None:
            self.sessions.make_room()
            try:
                target = self._connect(key[0])
            except OSError:
                return None
            session = self._mine[key] = _Session(self, key, target)
        return session

    def answer(self, key: tuple[Client, Ancillary], data: bytes) -> None:
        client, told = key
        with suppress(OSError):
            self._port.sendmsg([data], told, 0, client)

    def forget(self, session: _Session) -> None:
        self._mine.pop(session.key, None)

    def close(self) -> None:
        if self._port.fileno() < 0:
            return
        self.loop.discard(self._port.fileno())
        self._port.close()
        for session in [*self._mine.values()]:
            session.close()


def _from(told: list[tuple[int, int, bytes]]) -> Ancillary:
    """What makes an answer leave from the address that was sent to."""
    for level, kind, data in told:
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return ((level, kind, data[:16] + bytes(4)),)
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            # Index, the host's address, the one in the header: what is sent to a group is answered from the host's.
            return ((level, kind, bytes(4) + data[4:8] + bytes(4)),)
    return ()
