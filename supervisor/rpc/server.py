"""Accepts connections on the listening sockets it is given and watches for clients that go away.

The sockets come from outside (inherited, or made by the daemon) and can be replaced while it runs.
An idle connection costs a task and a descriptor, no timer and no wake-up. Connections are bounded by
what the process may open: at the bound, and when the system has no descriptor left, further clients
wait in the backlog until a connection has closed.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from typing import TYPE_CHECKING, Self

import msgspec
import trio

from pyman.api import INTERFACES, Access
from supervisor.logging import log
from supervisor.rpc.connection import Connection
from supervisor.rpc.dispatch import Routes
from supervisor.rpc.framing import MESSAGE_LIMIT
from supervisor.rpc.peer import Admission
from supervisor.rpc.service import introspected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trio import TaskStatus

    from pyman.api import Interface
    from supervisor.rpc.dispatch import Handler

__all__ = ["Limits", "Listener", "Server", "serve"]


_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PASSING = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR}
_ACCEPT_AT_ONCE = 32
_EXHAUSTION_PAUSE = 1.0
"""Seconds until another try where others than our connections hold the descriptors."""


class Listener(msgspec.Struct, frozen=True):
    """A listening unix socket and the rights of who comes through it."""

    socket: socket.socket
    access: Access


class Limits(msgspec.Struct, frozen=True):
    message: int = MESSAGE_LIMIT
    """Bytes of one request."""
    connections: int = 0
    """Open at the same time; 0: half of the descriptors this process may open."""

    def most_connections(self) -> int:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return self.connections or (1 << 16 if soft == resource.RLIM_INFINITY else max(soft // 2, 16))


_DEFAULT_LIMITS = Limits()


async def serve(
    listeners: Sequence[Listener],
    handlers: Mapping[str, Handler],
    *,
    owner: int | None = None,
    interfaces: Sequence[Interface] = INTERFACES,
    limits: Limits = _DEFAULT_LIMITS,
    complete: bool = True,
    task_status: TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer calls until cancelled; starts with the `Server`, whose `replace` takes other listeners.

    `owner`: uid of the engine's user in the present user namespace; default: the process's own.
    `complete`: see `dispatch.Routes`. Raises ValueError where handlers and contract do not match.
    """
    uid = os.geteuid() if owner is None else owner
    all_interfaces, all_handlers = introspected(interfaces, handlers)
    routes = Routes(all_interfaces, all_handlers, complete=complete)
    with Server(routes, Admission.of_this_process(uid), limits) as server:
        await server.run(listeners, task_status=task_status)


class Server:
    """Made by `serve`."""

    def __init__(self, routes: Routes, admission: Admission, limits: Limits) -> None:
        self._routes = routes
        self._admission = admission
        self._limits = limits
        self._most = limits.most_connections()
        self._hangups = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._room = trio.Event()
        self._listening: list[tuple[Listener, trio.CancelScope]] = []
        self._nursery: trio.Nursery | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for listener, _scope in self._listening:
            listener.socket.close()
        self._hangups.close()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def run(self, listeners: Sequence[Listener], *, task_status: TaskStatus[Server]) -> None:
        async with trio.open_nursery() as connections:
            self._nursery = connections
            connections.start_soon(self._watch_hangups)
            self.replace(listeners)
            task_status.started(self)

    def replace(self, listeners: Sequence[Listener]) -> None:
        """Listen on these from now on. Others are closed, open connections stay.

        The server owns the sockets that it is given and closes them in the end.
        """
        if self._nursery is None:
            raise RuntimeError("the server does not run")
        kept = {listener.socket for listener in listeners}
        present = {listener.socket for listener, _ in self._listening}
        for listener, scope in self._listening:
            if listener.socket not in kept:
                scope.cancel()
        self._listening = [entry for entry in self._listening if entry[0].socket in kept]
        for listener in listeners:
            if listener.socket not in present:
                scope = trio.CancelScope()
                listener.socket.setblocking(False)
                self._listening.append((listener, scope))
                self._nursery.start_soon(self._accept_all, listener, scope)

    async def _accept_all(self, listener: Listener, scope: trio.CancelScope) -> None:
        with scope, listener.socket:
            while True:
                while len(self._connections) >= self._most:
                    await self._room_wanted()
                await trio.lowlevel.wait_readable(listener.socket.fileno())
                try:
                    self._accept_waiting(listener)
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        log.warning("cannot accept a connection", reason=str(error))
                        with trio.move_on_after(_EXHAUSTION_PAUSE):
                            await self._room_wanted()
                    elif error.errno not in _PASSING:
                        log.error("listening socket lost", reason=str(error))
                        return

    async def _room_wanted(self) -> None:
        """Until a connection has closed."""
        if self._room.is_set():
            self._room = trio.Event()
        await self._room.wait()

    def _accept_waiting(self, listener: Listener) -> None:
        for _ in range(min(_ACCEPT_AT_ONCE, self._most - len(self._connections))):
            try:
                accepted, _address = listener.socket.accept()
            except BlockingIOError:
                return
            self._admit(accepted, listener.access)

    def _admit(self, accepted: socket.socket, access: Access) -> None:
        assert self._nursery is not None  # noqa: S101 - accepting happens inside the nursery
        try:
            peer = self._admission.peer(accepted)
        except OSError:
            accepted.close()
            return
        if not self._admission.admits(peer):
            log.warning("connection of another user refused", uid=peer.uid, pid=peer.pid)
            accepted.close()
            return
        connection = Connection(accepted, peer, access, self._routes, message_limit=self._limits.message)
        self._connections[connection.fileno()] = connection
        self._nursery.start_soon(self._converse, connection, connection.fileno())

    async def _converse(self, connection: Connection, number: int) -> None:
        try:
            # No events but the hang-up, which is always told; once, because nobody will read what is left.
            self._hangups.register(number, select.EPOLLET)
            await connection.run()
        except OSError as error:
            log.warning("cannot watch a connection", reason=str(error))
        finally:
            # The number is free for another connection once it is closed: forget it first.
            del self._connections[number]
            connection.close()
            self._room.set()

    async def _watch_hangups(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._hangups.fileno())
            for number, _events in self._hangups.poll(0):
                connection = self._connections.get(number)
                if connection is not None:
                    connection.hang_up()
