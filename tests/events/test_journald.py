"""Events as entries of the system's journal."""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.api.event import Actor
from supervisor.events.journal import Journal
from supervisor.events.journald import JournaldSink
from supervisor.state.database import EventDraft
from tests.events.samples import commit, draft
from tests.support.logs import captured_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.state.database import Database

_MOST = 1 << 20


@pytest.fixture
def address() -> Iterator[str]:
    """Short, as a socket's path has to be."""
    path = f"/tmp/pm-journald-{os.getpid()}"
    yield path
    if os.path.exists(path):
        os.unlink(path)


def listening(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(address)
    made.setblocking(False)
    return made


def entries(journald: socket.socket) -> list[dict[str, str]]:
    """What has come, as journald would take it apart."""
    found: list[dict[str, str]] = []
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(journald, _MOST, 1)
        except BlockingIOError:
            return found
        for fd in fds:
            with open(fd, "rb") as file:
                file.seek(0)
                data = file.read()
        found.append(fields(data))


def fields(data: bytes) -> dict[str, str]:
    taken = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[9 + size :]
        taken[name.decode()] = value.decode()
    return taken


async def test_an_entry_has_podmans_fields(database: Database, journal: Journal, address: str) -> None:
    sink = JournaldSink(database, address)
    with closing(listening(address)) as journald:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run, journal)
            await trio.testing.wait_all_tasks_blocked(0.01)
            labels = {"containerExitCode": "3", "app": "two\nlines"}
            image = EventDraft("image", "pull", id="abc", name="registry.example/a:1", actor=Actor(7, 8))
            await database.commit([], [draft("died", **labels), image])
            journal.close()
        died, pulled = entries(journald)
    assert died["PODMAN_TYPE"] == "container"
    assert (died["PODMAN_EVENT"], died["PODMAN_EXIT_CODE"]) == ("died", "3")
    assert (died["PODMAN_ID"], died["PODMAN_NAME"], died["PODMAN_IMAGE"]) == ("one" * 20, "one", "image")
    assert json.loads(died["PODMAN_LABELS"]) == {"app": "two\nlines"}
    assert died["SYSLOG_IDENTIFIER"] == "podman"
    assert died["MESSAGE"] == f"container died {'one' * 20} (image=image, name=one)"
    assert (died["PYMAN_SEQ"], died["PYMAN_JOURNAL"]) == ("1", journal.id)
    assert pulled["PODMAN_NAME"] == "registry.example/a:1"
    assert (pulled["PYMAN_ACTOR_UID"], pulled["PYMAN_ACTOR_PID"]) == ("7", "8")
    assert "PODMAN_EXIT_CODE" not in pulled


async def test_an_event_of_a_network_names_it(database: Database, journal: Journal, address: str) -> None:
    with closing(listening(address)) as journald:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(JournaldSink(database, address).run, journal)
            await trio.testing.wait_all_tasks_blocked(0.01)
            made = draft("create", "web", "network", driver="bridge")
            await database.commit([], [made, draft("connect", "box", "network", network="web")])
            journal.close()
        created, connected = entries(journald)
    assert (created["PODMAN_ID"], created["PODMAN_NETWORK_NAME"]) == ("web" * 20, "web")
    assert (connected["PODMAN_ID"], connected["PODMAN_NETWORK_NAME"]) == ("box" * 20, "web")
    assert "PODMAN_LABELS" not in connected


async def test_a_change_of_health_has_podmans_fields(
    database: Database, journal: Journal, address: str
) -> None:
    told = {"health_status": "unhealthy", "health_failing_streak": "3", "health_log": "{}"}
    with closing(listening(address)) as journald:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(JournaldSink(database, address).run, journal)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await database.commit([], [draft("health_status", app="shop", **told), draft("start", **told)])
            journal.close()
        changed, other = entries(journald)
    assert (changed["PODMAN_HEALTH_STATUS"], changed["PODMAN_HEALTH_LOG"]) == ("unhealthy", "{}")
    assert changed["PODMAN_HEALTH_FAILING_STREAK"] == "3"
    assert json.loads(changed["PODMAN_LABELS"]) == {"app": "shop"}
    assert json.loads(other["PODMAN_LABELS"]) == told, "labels of the same names stay labels"


async def copy(database: Database, address: str) -> None:
    """Let a sink send all there is."""
    journal = Journal(database)
    journal.close()
    await JournaldSink(database, address).run(journal)


async def test_it_goes_on_where_it_has_ended(database: Database, address: str) -> None:
    await commit(database, 3)
    with closing(listening(address)) as journald:
        await copy(database, address)
        assert entries(journald) == [], "what was before it was asked for"
        journal = Journal(database)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(JournaldSink(database, address).run, journal)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await commit(database, 2)
            journal.close()
        Journal(database)  # nobody listens to the closed one
        await commit(database, 2)
        await copy(database, address)
        assert [entry["PYMAN_SEQ"] for entry in entries(journald)] == ["4", "5", "6", "7"]


async def test_an_entry_too_large_for_a_datagram_comes_in_a_sealed_file(
    database: Database, journal: Journal, address: str
) -> None:
    sink = JournaldSink(database, address)
    with closing(listening(address)) as journald:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run, journal)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await database.commit([], [draft("create", label="x" * 500_000)])
            journal.close()
        [entry] = entries(journald)
    assert json.loads(entry["PODMAN_LABELS"]) == {"label": "x" * 500_000}


async def test_without_a_listener_it_complains_once_and_goes_on_when_there_is_one(
    database: Database, journal: Journal, address: str
) -> None:
    sink = JournaldSink(database, address)
    with captured_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run, journal)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await commit(database, 2)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await commit(database)
            await trio.testing.wait_all_tasks_blocked(0.01)
            with closing(listening(address)) as journald:
                await commit(database)
                journal.close()
                await trio.testing.wait_all_tasks_blocked(0.01)
                found = entries(journald)
    assert [entry["PYMAN_SEQ"] for entry in found] == ["1", "2", "3", "4"]
    assert len([entry for entry in logs if "journald" in entry["event"]]) == 1
