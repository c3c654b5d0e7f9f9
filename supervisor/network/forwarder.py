"""The forwarder: a program that leads ports of the host into the containers of a sandbox.

    python -m supervisor.network.forwarder CONTROL [keep]

It is started in the sandbox's network namespace. CONTROL is a descriptor: a listening unix socket (SOCK_SEQPACKET) on
which it is told what to lead where. Ports of the host come as sockets that somebody outside has bound, so it needs no way
out, and no rights but one: to speak to containers under their clients' addresses (`keep`), when the sandbox leads the
answers back to it. One for each sandbox; it outlives the supervisor that started it. What a message looks like:
`forwarding`. Standard library only.
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

from supervisor.network.datagrams import Receiver, Sessions
from supervisor.network.relays import Acceptor, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.network.datagrams import Client

__all__ = ["Forwarder", "main"]

_MESSAGE = 1 << 17
_DESCRIPTORS = 250
"""At most, with a message."""
_CALLERS = 32
_IP_TRANSPARENT = (socket.IPPROTO_IP, 19)
_IPV6_TRANSPARENT = (socket.IPPROTO_IPV6, 75)
_NET_RAW = 13
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


class _Target:
    """A container's port."""

    def __init__(self, address: str, port: int, *, keep: bool) -> None:
        self._at = (str(ipaddress.ip_address(address)), port)
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._keep = keep

    def connect(self, client: socket.socket) -> socket.socket:
        """On its way there."""
        return self._socket(socket.SOCK_STREAM, client.getpeername())

    def reach(self, client: Client) -> socket.socket:
        return self._socket(socket.SOCK_DGRAM, client)

    def _socket(self, kind: int, client: Client) -> socket.socket:
        made = socket.socket(self._family, kind | socket.SOCK_NONBLOCK)
        try:
            if self._keep:
                self._disguise(made, client)
            with suppress(BlockingIOError):
                made.connect(self._at)
        except BaseException:
            made.close()
            raise
        return made

    def _disguise(self, made: socket.socket, client: Client) -> None:
        """As the client, whom the container sees then. A host's own loopback address is another one's there."""
        address = ipaddress.ip_address(client[0].partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if (address.version == 6) != (self._family == socket.AF_INET6):
            return
        if address.is_loopback or address.is_link_local:
            return
        option = _IPV6_TRANSPARENT if address.version == 6 else _IP_TRANSPARENT
        with suppress(OSError):  # what cannot be bound has the sandbox's address
            made.setsockopt(*option, 1)
            # The same client's port may lead to several containers.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((str(address), client[1]))


class Forwarder:
    """What is led where, by whose it is."""

    def __init__(self, loop: Loop, control: socket.socket, *, keep: bool) -> None:
        """`keep`: clients' addresses."""
        self._loop = loop
        self._keep = keep
        self._control = control
        self._sessions = Sessions()
        self._led: dict[str, list[Acceptor | Receiver]] = {}
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
        try:
            data, descriptors, flags, _ = socket.recv_fds(caller, _MESSAGE, _DESCRIPTORS)
            if data:
                if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                    raise ValueError("it is too long")
                ports = [socket.socket(fileno=each) for each in descriptors]
                descriptors = []
                caller.send(json.dumps(self._do(json.loads(data), ports)).encode())
                return
        except BlockingIOError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            with suppress(OSError):
                caller.send(json.dumps({"error": str(error)}).encode())
        finally:
            for each in descriptors:
                os.close(each)
        self._loop.discard(caller.fileno())
        self._callers.discard(caller)
        caller.close()

    def _do(self, message: dict[str, Any], ports: list[socket.socket]) -> dict[str, Any]:
        match message["do"]:
            case "lead":
                self._lead(str(message["key"]), message["targets"], ports)
            case "drop":
                self._drop(str(message["key"]))
            case "tell":
                return {"led": {key: len(found) for key, found in self._led.items()}}
            case other:
                raise ValueError(f"there is no '{other}'")
        return {}

    def _lead(self, key: str, targets: list[list[Any]], ports: list[socket.socket]) -> None:
        """All of them or none, besides those that this key has already."""
        made: list[Acceptor | Receiver] = []
        left = list(ports)
        try:
            for (address, number), port in zip(targets, ports, strict=True):
                target = _Target(address, number, keep=self._keep)
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
    control, *more = words
    keep = more == ["keep"]
    _give_up_rights(*([_NET_RAW] if keep else []))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # It has nothing to take back, and nothing to say about its end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    loop = Loop()
    Forwarder(loop, socket.socket(fileno=int(control)), keep=keep)
    loop.run()


if __name__ == "__main__":
    main(sys.argv[1:])
