"""Connections to a container's standard streams: conmon's attach socket.

The socket is SOCK_SEQPACKET. What conmon sends begins with a byte that names the stream (2 stdout, 3
stderr); what it receives goes to standard input; `shutdown(SHUT_WR)` ends that. The supervisor connects,
hands the descriptor to the client and reads nothing itself.

conmon writes to its clients with blocking writes: one that does not read stops it, and with it the news of
the container's end. The supervisor therefore keeps a duplicate of every descriptor that it handed out, sees
whether all was read, and can shut the connection down. The duplicate also means that a client's close() is not seen by conmon: `drop`
is what ends an attachment.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

import trio

from pyman.errors import ConmonFailed, DeadlineExceeded

__all__ = ["Attachments", "connect"]

_DEADLINE = 5.0
_limiter = trio.CapacityLimiter(8)


async def connect(
    socket_dir: str,
    id: str,
    bundle: str,
    *,
    deadline: float = _DEADLINE,
) -> socket.socket:
    """A new connection to the monitor of a container (or exec session); a blocking socket.

    The attach socket is in the bundle; where that is not known, the link in `socket_dir` leads to it. Raises ConmonFailed
    if there is no monitor, DeadlineExceeded if it has not accepted for `deadline` seconds and its queue is full.
    """
    await trio.lowlevel.checkpoint()
    directory = -1
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # The way through /proc has a fixed length; a socket's address has at most 107 bytes.
        directory = os.open(bundle or os.path.join(socket_dir, id), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        address = f"/proc/self/fd/{directory}/attach"
        connection.setblocking(False)
        try:
            connection.connect(address)
            connection.setblocking(True)
        except BlockingIOError:  # conmon has ten connections to accept
            await trio.to_thread.run_sync(_connect_slowly, connection, address, deadline, limiter=_limiter)
    except BlockingIOError as error:
        connection.close()
        raise DeadlineExceeded(
            f"cannot attach to '{id}': its monitor has accepted nobody for {deadline:g} s", subject=id
        ) from error
    except OSError as error:
        connection.close()
        raise ConmonFailed(f"cannot attach to '{id}': {error.strerror}", subject=id) from error
    except BaseException:
        connection.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return connection


def _connect_slowly(connection: socket.socket, address: str, deadline: float) -> None:
    connection.setblocking(True)
    limit = struct.pack("ll", int(deadline), int(deadline % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.connect(address)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))


class Attachments:
    """Duplicates of the attach connections that were handed to clients."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[socket.socket, int]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, fd: int, client: int = 0) -> int:
        """Keep a duplicate of `fd`; the answer is its handle for `drop`. `client`: the pid of who has the other one; 0: not
        known."""
        self._next += 1
        self._held[self._next] = socket.socket(fileno=os.dup(fd)), client
        return self._next

    def behind(self, handle: int = 0) -> list[int]:
        """The clients that have not read all that they were sent, by their pids. `handle`: of one attachment; 0: of all."""
        some = self._held.values() if handle == 0 else filter(None, [self._held.get(handle)])
        return [client for connection, client in some if _has_data(connection)]

    def drop(self, handle: int) -> None:
        """End one attachment, for its client and for conmon. A handle that is gone is not an error."""
        held = self._held.pop(handle, None)
        if held is not None:
            _end(held[0])

    def shut_all(self) -> None:
        """End all of them, as when conmon must get on with the container's end."""
        while self._held:
            _end(self._held.popitem()[1][0])


def _has_data(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:  # nothing, or not any more
        return False


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # the other side was first
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
