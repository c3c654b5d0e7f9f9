"""Who is at the other end of a connection, and whether they may talk to this engine.

The kernel tells uid, gid and pid of the process that connected (SO_PEERCRED). Inside a user namespace
it tells them as seen from there, so they are translated to the host's ids first. An id that has no
translation reads as 65534 (the kernel's overflow id) and is refused, and so is the host's own 65534:
the two cannot be told apart. The engine's owner and root are let in, nobody else.
"""

from __future__ import annotations

import socket
import struct

import msgspec

from supervisor.kernel import idmaps
from supervisor.kernel.idmaps import OVERFLOW_ID, IdRange

__all__ = ["Admission", "Peer", "peer_of"]

_CREDENTIALS = struct.Struct("3i")


class Peer(msgspec.Struct, frozen=True):
    """The process that made the connection, in the host's ids; `pid` as seen by the supervisor."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> tuple[int, int, int]:
    """pid, uid and gid as the kernel tells them; pid 0 and uid -1 where it does not know."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


class Admission(msgspec.Struct, frozen=True):
    """The rule who may connect: `owner` is the host's uid of the engine's user."""

    owner: int
    uid_map: tuple[IdRange, ...]
    gid_map: tuple[IdRange, ...]

    @classmethod
    def of_this_process(cls, uid: int) -> Admission:
        """For the engine of the user who is `uid` in the present user namespace."""
        uid_map, gid_map = idmaps.of_this_process()
        return cls(idmaps.outside(uid, uid_map), uid_map, gid_map)

    def peer(self, connection: socket.socket) -> Peer:
        pid, uid, gid = peer_of(connection)
        if uid == OVERFLOW_ID:
            return Peer(pid, OVERFLOW_ID, OVERFLOW_ID)
        return Peer(pid, idmaps.outside(uid, self.uid_map), idmaps.outside(gid, self.gid_map))

    def admits(self, peer: Peer) -> bool:
        return peer.uid != OVERFLOW_ID and peer.uid in (self.owner, 0)
