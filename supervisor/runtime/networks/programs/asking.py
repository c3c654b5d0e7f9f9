"""Whether a name server knows a container: it is asked as containers ask it, until it does."""

from __future__ import annotations

import secrets
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import NetworkFailed
from supervisor.network.kernel.place import in_place
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.names import Guest, Zone

    T = TypeVar("T")

__all__ = ["Asking"]

_PATIENCE = 5.0
"""Seconds for the program to answer to a name."""
_ROUND = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5)
"""Seconds for each question, until the program is told to try once more."""
_ROOM = 1 << 12
"""Bytes of an answer."""


class Asking:
    """In one network namespace, at one port."""

    def __init__(
        self,
        port: int,
        netns: int | None,
        disk: trio.CapacityLimiter,
        *,
        tell_again: Callable[[], Awaitable[None]],
        server: Callable[[], ProcessRef | None],
    ) -> None:
        """`netns`: a descriptor of it, None: this process's own. `tell_again`: has the program try once more to serve where it
        should. `server`: the program, if it is there."""
        self._port = port
        self._netns = netns
        self._disk = disk
        self._tell_again = tell_again
        self._server = server

    async def wait_known(self, zone: Zone, guest: Guest) -> None:
        """NetworkFailed: it does not know the guest, at some address at which it should serve."""
        for gateway in zone.gateways:
            with await self._socket(gateway) as asking:
                said = await self._said(asking, gateway, guest)
            if not said:
                raise await self._unserved(zone, gateway, answers=said is not None)

    async def _said(self, asking: trio.socket.SocketType, gateway: str, guest: Guest) -> bool | None:
        """True as soon as it knows the guest. Else, after a while, whether anybody answers: False, or None: nobody."""
        said: bool | None = None
        with trio.move_on_after(_PATIENCE):
            while True:
                for seconds in _ROUND:
                    said = await _ask(asking, (gateway, self._port), guest, seconds)
                    if said:
                        return True
                await self._tell_again()
        return said

    async def _unserved(self, zone: Zone, gateway: str, *, answers: bool) -> NetworkFailed:
        """With the name of whoever is in the way, if there is one."""
        from supervisor.kernel.udp_holders import holder_of

        own = self._server()
        other = await self._there(
            partial(holder_of, gateway, self._port, but=own.pid if own is not None else 0)
        )
        if other:
            why, hint = (
                f"{other} has that",
                "end it, or choose another port as dns_bind_port in containers.conf",
            )
        else:
            why = "it is another one that answers" if answers else "nobody answers"
            hint = "is another name server there, or does a packet filter stand in the way?"
        return NetworkFailed(
            f"cannot serve names at {gateway}, port {self._port}: {why}", subject=zone.network, hint=hint
        )

    async def _socket(self, gateway: str) -> trio.socket.SocketType:
        make = partial(socket.socket, _family(gateway), socket.SOCK_DGRAM)
        return trio.socket.from_stdlib_socket(make() if self._netns is None else await self._there(make))

    async def _there(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(partial(in_place, self._netns, work), limiter=self._disk)


async def _ask(
    asking: trio.socket.SocketType, server: tuple[str, int], guest: Guest, seconds: float
) -> bool | None:
    """Whether it knows the guest: True at once; else after so many seconds False, or None: nobody has answered."""
    name, address = guest.id[:12], guest.addresses[0]
    asked = _question(name, ipv6=is_ipv6(address))
    said: bool | None = None
    with trio.move_on_after(seconds):
        try:
            await asking.connect(server)
            await asking.send(asked)
            while said is None:
                said = _answer(asked, await asking.recv(_ROOM), address)
        except OSError:  # nobody is there yet
            pass
        if not said:
            await trio.sleep_forever()
    return said


# ---------------------------------------------------------------------- the protocol

_HEAD = struct.Struct("!6H")
_RECURSE, _ANSWER = 0x0100, 0x8000
_A, _AAAA, _IN = 1, 28, 1


def _question(name: str, *, ipv6: bool) -> bytes:
    """A message that asks for the addresses of a name, which has no empty parts."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    head = _HEAD.pack(secrets.randbelow(1 << 16), _RECURSE, 1, 0, 0, 0)
    return head + labels + b"\0" + struct.pack("!2H", _AAAA if ipv6 else _A, _IN)


def _answer(asked: bytes, said: bytes, address: str) -> bool | None:
    """Whether the one who was asked has an address for the name. None: it is not an answer to that."""
    if len(said) < _HEAD.size or said[:2] != asked[:2]:
        return None
    if not _HEAD.unpack_from(said)[1] & _ANSWER:
        return None
    return socket.inet_pton(_family(address), address) in said


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if is_ipv6(address) else socket.AF_INET
