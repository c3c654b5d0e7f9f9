"""Marking directories of a layer as opaque, for a program that may not do it itself.

The kernel reads the mark in `trusted.overlay.opaque`, which needs CAP_SYS_ADMIN to write. What reads the archive does
not have it: a second process does, which reads nothing. It gets a descriptor and sets one attribute to one value.
Standard library only.
"""

from __future__ import annotations

import _socket
import array
import errno
import os

from supervisor.archive import confinement
from supervisor.archive.program import end_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Marker", "own"]

_SIZE = 4
_DESCRIPTORS = 1024


def own(user: bool) -> Callable[[int], None]:
    """Marks that need no other process. `user`: those that overlays of a user namespace read."""
    name = b"user.overlay.opaque" if user else b"trusted.overlay.opaque"
    return lambda fd: os.setxattr(fd, name, b"y")


class Marker:
    """The other process. It ends with this one, or when `close` is called."""

    def __init__(self) -> None:
        self._ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self._pid = os.fork()  # before there is any thread
        if not self._pid:
            _become_server(theirs, parent)
        theirs.close()

    def __call__(self, directory: int) -> None:
        """OSError."""
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [directory]))
        self._ours.sendmsg([b"\0"], [rights])
        answer = self._ours.recv(_SIZE)
        number = int.from_bytes(answer, "little") if len(answer) == _SIZE else errno.EIO
        if number:
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        self._ours.close()
        os.waitpid(self._pid, 0)


def _become_server(requests: _socket.socket, parent: int) -> None:
    """Does not return."""
    try:
        end_with(parent)
        kept = requests.fileno()
        os.closerange(0, kept)
        os.closerange(kept + 1, _DESCRIPTORS)
        confinement.to((confinement.SYS_ADMIN,))
        _serve(requests)
    finally:
        os._exit(1)


def _serve(requests: _socket.socket) -> None:
    """Until the other end is closed. Does not return."""
    mark = own(user=False)
    while True:
        message, ancillary, _, _ = requests.recvmsg(1, _socket.CMSG_LEN(array.array("i").itemsize))
        if not message:
            os._exit(0)
        number = 0
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        for fd in fds:
            try:
                mark(fd)
            except OSError as error:
                number = error.errno or errno.EIO
            os.close(fd)
        requests.send(number.to_bytes(_SIZE, "little"))
