"""The forwarder: a program that leads ports of the host into the containers of a sandbox.

    python -m supervisor.network.relay.forwarder PATH CONTROL [transparent] [until=PIPE]

It is started in the sandbox's network namespace. CONTROL is a descriptor: a listening unix socket (SOCK_SEQPACKET) on
which it is told what to lead where. Ports of the host come as sockets that somebody outside has bound, so it needs no way
out, and no rights but one: to speak to containers under their clients' addresses (`transparent`), when the sandbox leads
the answers back to it. PIPE is a descriptor, too: when its other end is closed, the program ends. One for each sandbox, or for
a container with a namespace of its own; it outlives the supervisor that started it. What a message looks like:
`forwarding`. PATH is where that socket is, for those who look at processes. Standard library only.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress

from supervisor.network.relay.datagrams import Receiver, Sessions
from supervisor.network.relay.relays import Acceptor, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.network.relay.datagrams import Client

__all__ = ["Forwarder", "main"]

_MESSAGE = 1 << 17
_DESCRIPTORS = 250
"""At most, with a message."""
_CALLERS = 32
_HIGHEST = 65535
_BAD = (OSError, ValueError, LookupError, TypeError, RecursionError)
"""What comes of messages that nobody should send."""
_IP_TRANSPARENT = (socket.IPPROTO_IP, 19)
_IPV6_TRANSPARENT = (socket.IPPROTO_IPV6, 75)
_NET_RAW = 13
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


class _Target:
    """A container's port."""

    def __init__(self, addresses: list[str], port: int, *, transparent: bool) -> None:
        """`addresses`: one, or one of each family. `transparent`: it sees its clients' addresses."""
        self._addresses = [ipaddress.ip_address(each) for each in addresses]
        self._first = self._addresses[0]
        if not 0 < port <= _HIGHEST:
            raise ValueError(f"there is no port {port}")
        self._port = port
        self._transparent = transparent

    def connect(self, client: socket.socket) -> socket.socket:
        """On its way there."""
        return self._socket(socket.SOCK_STREAM, client.getpeername())

    def reach(self, client: Client) -> socket.socket:
        return self._socket(socket.SOCK_DGRAM, client)

    def _socket(self, kind: int, client: Client) -> socket.socket:
        peer = ipaddress.ip_address(client[0].partition("%")[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        to = next((each for each in self._addresses if each.version == peer.version), self._first)
        family = socket.AF_INET6 if to.version == 6 else socket.AF_INET
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            # A host's own loopback address is another one's there.
            is_own = peer.is_loopback or peer.is_link_local
            if self._transparent and to.version == peer.version and not is_own:
                _disguise(made, (str(peer), client[1]))
            with suppress(BlockingIOError):
                made.connect((str(to), self._port))
        except BaseException:
            made.close()
            raise
        return made


def _disguise(made: socket.socket, client: tuple[str, int]) -> None:
    """As the client, whom the container sees then. Where that cannot be, it sees the sandbox."""
    option = _IPV6_TRANSPARENT if made.family == socket.AF_INET6 else _IP_TRANSPARENT
    with suppress(OSError):
        made.setsockopt(*option, 1)
        # The same client's port may lead to several containers.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(client)


class Forwarder:
    """What is led where, by whose it is."""

    def __init__(self, loop: Loop, control: socket.socket, *, transparent: bool) -> None:
        """`transparent`: containers see their clients' addresses."""
        self._loop = loop
        self._transparent = transparent
        self._control = control
        self._sessions = Sessions()
        self._led: dict[str, list[Acceptor | Receiver]] = {}
        self._checksums: dict[str, int] = {}
        self._callers: set[socket.socket] = set()
        loop.tick = self._sessions.expire
        control.setblocking(False)
        loop.add(control.fileno(), lambda _: loop.again(self._accept))

    def _accept(self) -> None:
        """One caller at a time, and not more at once than a supervisor has."""
        try:
            caller, _ = self._control.accept()
        except OSError:
            return
        if len(self._callers) >= _CALLERS:
            caller.close()
            return
        caller.setblocking(False)
        self._callers.add(caller)
        self._loop.add(caller.fileno(), lambda _: self._loop.again(lambda: self._hear(caller)))

    def _hear(self, caller: socket.socket) -> None:
        if caller.fileno() < 0:
            return
        descriptors: list[int] = []
        ports: list[socket.socket] = []
        try:
            data, descriptors, flags, _ = socket.recv_fds(caller, _MESSAGE, _DESCRIPTORS)
            if data:
                if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                    raise ValueError("it is too long")
                ports.extend(socket.socket(fileno=each) for each in descriptors)  # some, if one is none
                caller.send(json.dumps(self._do(json.loads(data), ports)).encode())
                return
        except BlockingIOError:
            return
        except _BAD as error:
            with suppress(OSError):
                caller.send(json.dumps({"error": str(error)}).encode())
        finally:
            for each in descriptors[len(ports) :]:
                os.close(each)
        self._loop.discard(caller.fileno())
        self._callers.discard(caller)
        caller.close()

    def _do(self, message: dict[str, Any], ports: list[socket.socket]) -> dict[str, Any]:
        match message["do"]:
            case "lead":
                key = str(message["key"])
                self._lead(key, message["targets"], ports)
                self._checksums[key] = int(message["mark"])
            case "drop":
                self._drop(str(message["key"]))
            case "tell":
                key = str(message["key"])
                return {"led": [len(self._led.get(key, [])), self._checksums.get(key, 0)]}
            case other:
                raise ValueError(f"there is no '{other}'")
        return {}

    def _lead(self, key: str, targets: list[list[Any]], ports: list[socket.socket]) -> None:
        """All of them or none, besides those that this key has already."""
        made: list[Acceptor | Receiver] = []
        left = list(ports)
        try:
            for (addresses, number), port in zip(targets, ports, strict=True):
                target = _Target(addresses, number, transparent=self._transparent)
                if port.type == socket.SOCK_DGRAM:
                    made.append(Receiver(self._loop, self._sessions, port, target.reach))
                else:
                    made.append(Acceptor(self._loop, port, target.connect))
                left.remove(port)
        except BaseException:
            for each in made:
                each.close()
            for port in left:
                port.close()
            raise
        self._led.setdefault(key, []).extend(made)

    def _drop(self, key: str) -> None:
        self._checksums.pop(key, None)
        for each in self._led.pop(key, []):
            each.close()


def _give_up_rights(*kept: int) -> None:
    """Whatever somebody makes this process do, it can do no more than any program of the user's, but for capabilities that
    are kept: in the sandbox."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    mask = sum(1 << each for each in kept)
    if _libc.capset(header, struct.pack("=6I", mask, mask, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def main(words: list[str]) -> None:
    _, control, *options = words
    transparent = "transparent" in options
    _give_up_rights(*([_NET_RAW] if transparent else []))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # It has nothing to take back, and nothing to say about its end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    loop = Loop()
    Forwarder(loop, socket.socket(fileno=int(control)), transparent=transparent)
    for option in options:
        if option.startswith("until="):
            loop.add(int(option.removeprefix("until=")), lambda _: loop.stop())
    loop.run()


if __name__ == "__main__":
    main(sys.argv[1:])
