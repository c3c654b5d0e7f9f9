"""Descriptors that travel with messages: exactly as many as stated, and none is ever left open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio.testing

from tests.rpc.contract import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rpc.client import Client, Service

PROTOCOL = "io.pyman.ProtocolError"
WHO = b'{"method":"io.pyman.Trial.Who"}\0'


@pytest.fixture
def files() -> Iterator[list[int]]:
    """Twenty readable descriptors, which count how often they are still open elsewhere."""
    made = []
    for number in range(20):
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.write(writing, f"file {number}".encode())
        os.close(writing)
        made.append(reading)
    yield made
    for descriptor in made:
        os.close(descriptor)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def texts(client: Client) -> list[str]:
    return [os.read(descriptor, 100).decode() for descriptor in client.descriptors]


async def test_descriptors_go_in_and_come_out(service: Service, files: list[int]) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Pass", {"number": 2}, more=True, descriptors=3, pass_descriptors=files[:3])
        reply = await client.reply()
        assert reply == {
            "parameters": {"number": 1, "padding": ""},
            "continues": True,
            "descriptors": 2,
        }
        assert texts(client) == ["first 0", "first 1"]
        assert all(not os.get_inheritable(descriptor) for descriptor in client.descriptors)
        assert await client.reply() == {"parameters": {"number": 2, "padding": ""}, "descriptors": 2}
        assert texts(client) == ["last 0", "last 1"]
    assert service.trial.received == [b"file 0", b"file 1", b"file 2"]


async def test_descriptors_arrive_with_a_reply_larger_than_the_buffer(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Pass", {"number": 2, "padding": "x" * 900_000}, more=True)
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.reply())["descriptors"] == 2
        assert texts(client) == ["first 0", "first 1"]
        assert (await client.reply())["descriptors"] == 2
        assert texts(client) == ["last 0", "last 1"]


async def test_sixteen_descriptors_are_the_most(service: Service, files: list[int]) -> None:
    async with await service.connect() as client:
        await client.send(
            f"{NAME}.Pass", {"number": 0}, more=True, descriptors=16, pass_descriptors=files[:16]
        )
        await client.reply()
        await client.reply()
        assert len(service.trial.received) == 16
        before = open_descriptors()
        await client.send(
            f"{NAME}.Pass", {"number": 0}, more=True, descriptors=17, pass_descriptors=files[:17]
        )
        assert (await client.reply())["error"] == PROTOCOL
        assert await client.ended()
    await trio.testing.wait_all_tasks_blocked()
    assert open_descriptors() <= before
    assert await service.alive()


@pytest.mark.parametrize("stated, brought", [(0, 1), (1, 2), (1, 0), (3, 2), (200, 0), (1 << 40, 1)], ids=str)
async def test_a_count_that_does_not_fit_ends_the_connection(
    service: Service, files: list[int], stated: int, brought: int
) -> None:
    before = open_descriptors()
    async with await service.connect() as client:
        await client.send(
            f"{NAME}.Pass", {"number": 0}, more=True, descriptors=stated, pass_descriptors=files[:brought]
        )
        assert (await client.reply())["error"] == PROTOCOL
        assert await client.ended()
    await trio.testing.wait_all_tasks_blocked()
    assert open_descriptors() == before
    assert service.trial.received == []
    assert await service.alive()


async def test_a_flood_of_descriptors_ends_the_connection(service: Service, files: list[int]) -> None:
    before = open_descriptors()
    async with await service.connect() as client:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await client.send_until_refused(b" ", files)
        assert (await client.reply())["error"] == PROTOCOL
    await trio.testing.wait_all_tasks_blocked()
    assert open_descriptors() == before
    assert await service.alive()


async def test_descriptors_one_by_one_without_a_message_are_bounded(
    service: Service, files: list[int]
) -> None:
    before = open_descriptors()
    async with await service.connect() as client:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await client.send_until_refused(b" ", files[:1])
        assert (await client.reply())["error"] == PROTOCOL
    await trio.testing.wait_all_tasks_blocked()
    assert open_descriptors() == before


async def test_descriptors_with_half_a_message_are_closed_with_the_connection(
    service: Service, files: list[int]
) -> None:
    before = open_descriptors()
    async with await service.connect() as client:
        await client.send_bytes(b'{"method":', files[:5])
        await trio.testing.wait_all_tasks_blocked()
    await trio.testing.wait_all_tasks_blocked()
    assert open_descriptors() == before


async def test_descriptors_that_a_method_does_not_take_are_refused_by_name(
    service: Service, files: list[int]
) -> None:
    async with await service.connect() as client:
        await client.call(f"{NAME}.Who")
        before = open_descriptors()
        reply = await client.call(f"{NAME}.Change", descriptors=1, pass_descriptors=files[:1])
        assert reply["error"] == "org.varlink.service.InvalidParameter"
        assert reply["parameters"]["parameter"] == "descriptors"
        assert open_descriptors() == before
        assert await client.call(f"{NAME}.Change") == {"parameters": {}}


async def test_descriptors_that_a_handler_leaves_are_closed(service: Service, files: list[int]) -> None:
    async with await service.connect() as client:
        await client.call(f"{NAME}.Who")
        before = open_descriptors()
        await client.call(f"{NAME}.Careless", descriptors=3, pass_descriptors=files[:3])
        assert open_descriptors() == before


async def test_descriptors_belong_to_their_own_message_among_several(
    service: Service, files: list[int]
) -> None:
    async with await service.connect() as client:
        await client.send_bytes(WHO + WHO)
        await client.send(f"{NAME}.Pass", {"number": 0}, more=True, descriptors=1, pass_descriptors=files[:1])
        await client.send_bytes(WHO)
        await client.send(
            f"{NAME}.Pass", {"number": 0}, more=True, descriptors=2, pass_descriptors=files[1:3]
        )
        replies = [await client.reply() for _ in range(7)]
    assert all("error" not in reply for reply in replies)
    assert service.trial.received == [b"file 0", b"file 1", b"file 2"]
