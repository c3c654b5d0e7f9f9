"""Between keeper and daemon: messages with descriptors over a socket pair that only these two hold.

A message is one packet: a JSON object and the descriptors that belong to it. From the keeper:

    {"join": true}                      first of all to a daemon that was started outside of the user's namespaces:
                                        the user and the mount namespace to join
    {"hello": [NAME…], "lock": PATH, "environ": {…}}
                                        begin: the listening sockets by name, then, unless PATH is empty, the
                                        lock that an earlier daemon had taken; and what is to be added to the
                                        environment of one that the keeper has not started itself
    {"listeners": [NAME…]}              sockets that take the place of the earlier ones
    {"reaped": [PID, START, STATUS]}    an orphan of an earlier daemon has ended

and from the daemon:

    {"lock": PATH}                      with the descriptor that holds it: the keeper keeps a copy, so that
                                        no other supervisor gets in while there is no daemon
    {"reaped": PATH}                    where to write down how orphans ended
    {"ready": true}
    {"failed": {code, message, …}}      why it ends before it was ready
    {"ending": true}                    it ends for good: no more clients

Standard library only.
"""

from __future__ import annotations

import array
import json
import socket

from pyman.errors import ERRORS, InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyman.errors import PymanError

__all__ = ["CANNOT_START", "HELD", "Channel", "ChannelClosed", "described", "error_of"]

CANNOT_START = 78
"""Exit status of a daemon that has said why it cannot start."""
HELD = 75
"""Exit status of a daemon whose state directory belongs to another supervisor."""

_LARGEST = 1 << 16
_MOST_DESCRIPTORS = 16


class ChannelClosed(Exception):
    """The other one is gone."""


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def of(cls, descriptor: int) -> Channel:
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> bool:
        """Never waits. False: the other one is gone, or reads so little that the buffer is full."""
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        data = json.dumps(message).encode()
        try:
            self._end.sendmsg([data], rights, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except (BlockingIOError, BrokenPipeError, ConnectionError):
            return False
        return True

    def receive(self, *, wait: bool = False) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its descriptors; None: there is none now. Raises ChannelClosed."""
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
        try:
            data, ancillary, _, _ = self._end.recvmsg(_LARGEST, space, flags)
        except BlockingIOError:
            return None
        except ConnectionError:
            raise ChannelClosed from None
        if not data:
            raise ChannelClosed
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        message: dict[str, Any] = json.loads(data)
        return message, list(descriptors)


def described(error: PymanError) -> dict[str, str]:
    """An error as it travels; also what the launching command line reads from its pipe."""
    text = {"message": error.message, "subject": error.subject, "hint": error.hint}
    return {"code": error.code, **{key: value[:4096] for key, value in text.items()}}


def error_of(description: Mapping[str, str]) -> PymanError:
    """The error again, as the class that it was."""
    kind = ERRORS.get(str(description.get("code")), InternalError)
    message, subject, hint = (str(description.get(key) or "") for key in ("message", "subject", "hint"))
    return kind(message, subject=subject, hint=hint)
