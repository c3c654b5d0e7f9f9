"""A name server is asked until it knows a container, and what is said of one that does not."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import NetworkFailed
from supervisor.kernel.process import ref_of
from supervisor.network.names import Guest, Zone
from supervisor.runtime.networks.programs import asking
from supervisor.runtime.networks.programs.asking import Asking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HERE, KNOWN = "127.0.0.1", "10.89.0.5"
ZONE = Zone("1" * 64, [HERE])
GUEST = Guest("2" * 64, [KNOWN], ["web"])


def answer(asked: bytes, *addresses: str) -> bytes:
    """As far as it is looked at."""
    return asked[:2] + b"\x80\0" + asked[4:] + b"".join(map(socket.inet_aton, addresses))


@asynccontextmanager
async def serving(answers: Callable[[bytes], list[bytes]]) -> AsyncIterator[int]:
    """A server's port."""

    async def serve() -> None:
        while True:
            asked, who = await server.recvfrom(1 << 12)
            for each in answers(asked):
                await server.sendto(each, who)

    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((HERE, 0))
    with trio.socket.from_stdlib_socket(bound) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield bound.getsockname()[1]
            nursery.cancel_scope.cancel()


async def wait_known(port: int, *, tell_again: Callable[[], object] = int, pid: int = 0) -> None:
    async def again() -> None:
        tell_again()

    disk = trio.CapacityLimiter(1)
    server = Asking(port, None, disk, tell_again=again, server=lambda: ref_of(pid) if pid else None)
    await server.wait_known(ZONE, GUEST)


async def test_what_is_no_answer_to_the_question_does_not_count() -> None:
    def answers(asked: bytes) -> list[bytes]:
        other = bytes([asked[0] ^ 1]) + asked[1:]
        return [b"", b"\0", asked, answer(other), answer(asked, "10.89.0.4", KNOWN)]

    async with serving(answers) as port:
        await wait_known(port)


async def test_who_does_not_know_it_is_told_once_more_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PATIENCE", 60.0)
    monkeypatch.setattr(asking, "_ROUND", (0.01, 0.5))
    rounds: list[int] = []

    def answers(asked: bytes) -> list[bytes]:
        return [answer(asked, KNOWN)] if len(rounds) == 2 else [answer(asked)] * len(rounds)

    async with serving(answers) as port:
        await wait_known(port, tell_again=lambda: rounds.append(1))
    assert len(rounds) == 2


async def test_whoever_is_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PATIENCE", 0.3)
    monkeypatch.setattr(asking, "_ROUND", (0.1,))
    async with serving(lambda _: []) as port:
        with pytest.raises(
            NetworkFailed, match=rf"at {HERE}, port {port}: process {os.getpid()} \(.*has that"
        ):
            await wait_known(port)
        with pytest.raises(NetworkFailed, match="nobody answers"):
            await wait_known(port, pid=os.getpid())
