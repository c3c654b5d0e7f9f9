"""File descriptors that travel with messages (SCM_RIGHTS).

Rules: a message that brings descriptors states their number and is sent with one sendmsg; the receiver
takes exactly that many. More than 16, more than were stated, fewer than were stated, or a control
message cut short end the connection. Whatever was received and not taken is closed on every path;
close-on-exec is set from the first instant.
"""

from __future__ import annotations

import array
import os
import socket
from typing import TYPE_CHECKING

from pyman.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["DESCRIPTOR_LIMIT", "Inbox", "close_all", "send_some"]

DESCRIPTOR_LIMIT = 16
_CONTROL_SPACE = socket.CMSG_SPACE(DESCRIPTOR_LIMIT * array.array("i").itemsize)


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Inbox:
    """Descriptors received on one connection and not yet taken by the message they came with."""

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def receive(self, connection: socket.socket, size: int) -> bytes:
        """Read up to `size` bytes and keep the descriptors that come with them; b"": the end.

        Raises BlockingIOError, OSError as recvmsg does, ProtocolError where there are too many.
        """
        data, ancillary, flags, _ = connection.recvmsg(size, _CONTROL_SPACE, socket.MSG_CMSG_CLOEXEC)
        if ancillary:
            self._keep(ancillary)
        if flags & socket.MSG_CTRUNC or len(self._waiting) > DESCRIPTOR_LIMIT:
            self.close()
            raise ProtocolError(f"cannot take more than {DESCRIPTOR_LIMIT} descriptors")
        return data

    def _keep(self, ancillary: Sequence[tuple[int, int, bytes]]) -> None:
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._waiting.extend(numbers)

    def take(self, count: int, *, last: bool) -> list[int]:
        """The descriptors of a message that states `count` of them; they are the caller's from here.

        `last`: no byte of a further message has been received, so none may be left over.
        Raises ProtocolError; the connection must end then.
        """
        if not count and not self._waiting:
            return []
        if count > len(self._waiting) or (last and count < len(self._waiting)):
            came = len(self._waiting)
            self.close()
            raise ProtocolError(f"cannot match the descriptors: {count} were stated, {came} came")
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def close(self) -> None:
        waiting, self._waiting = self._waiting, []
        close_all(waiting)


def send_some(connection: socket.socket, data: memoryview, descriptors: Sequence[int]) -> int:
    """One non-blocking send; the descriptors go with the first byte. Raises as sendmsg does."""
    if not descriptors:
        return connection.send(data)
    rights = array.array("i", descriptors)
    return connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
