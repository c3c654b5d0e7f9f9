"""The book of networks on a real directory and a real state database; kills are real, in a process of their own."""

from __future__ import annotations

import json
import os
import signal
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pyman.api.network import CreateNetworkRequest, Network, SubnetWish
from pyman.errors import (
    DeadlineExceeded,
    DiskFull,
    InvalidArgument,
    NameInUse,
    NetworkInUse,
    NoSuchNetwork,
    StateDamaged,
    StorageFailed,
)
from supervisor.kernel.locks import OfdLock
from supervisor.network.definitions.directory import Directory
from supervisor.runtime.intended import Intents
from supervisor.runtime.networks import listing
from supervisor.runtime.networks.book import NetworkBook
from supervisor.runtime.networks.users import User
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.state.changes import PutIntent
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from pyman.api.event import Actor, Event

WISH = CreateNetworkRequest("n", subnets=[SubnetWish("10.250.1.0/24")], labels={"a": "b"})


class Place:
    """Of an engine: its settings, and where its networks are."""

    def __init__(self, path: Path, config: str = "") -> None:
        self.directory = path / "nets"
        options = Options(
            root=str(path / "root"),
            runroot=str(path / "run"),
            tmpdir=str(path / "tmp"),
            network_config_dir=str(self.directory),
        )
        (path / "containers.conf").write_text("[pyman]\ncall_deadline = 5\n" + config)
        self.settings = load(options, {"CONTAINERS_CONF": str(path / "containers.conf")}, 0)
        self.layout = Layout.of(self.settings)
        make_directories(self.layout)
        self.removed: list[str] = []
        self.users: dict[str, list[User]] = {}

    def files(self) -> dict[str, str]:
        """Ids by names, of whole files."""
        return {
            path.stem: json.loads(path.read_text())["id"] for path in sorted(self.directory.glob("*.json"))
        }

    def servers(self, name: str) -> list[str]:
        found: list[str] = json.loads((self.directory / f"{name}.json").read_text()).get(
            "network_dns_servers", []
        )
        return found

    def litter(self) -> list[str]:
        if not self.directory.exists():
            return []
        names = os.listdir(self.directory)
        return [name for name in names if name != "netavark.lock" and not name.endswith(".json")]

    @contextmanager
    def opened(self, told: list[Event] | None = None) -> Iterator[tuple[NetworkBook, Database]]:
        with Database.open(self.layout.database) as database:
            if told is not None:
                database.on_events = told.extend
            limiter = trio.CapacityLimiter(4)
            book = NetworkBook(
                self.layout, database, lambda: self.settings, limiter, limiter, self._remove_container
            )
            book.users = lambda: self.users
            yield book, database

    async def _remove_container(self, id: str, _timeout: float | None, _actor: Actor | None) -> None:
        self.removed.append(id)
        left = {name: [user for user in users if user.id != id] for name, users in self.users.items()}
        self.users = {name: users for name, users in left.items() if users}

    def carry_out(self, work: Callable[[NetworkBook], Awaitable[Any]]) -> list[tuple[str, str]]:
        """By a new supervisor that settles first. What it tells: status and id."""
        told: list[Event] = []

        async def main() -> None:
            with self.opened(told) as (book, database):
                async with trio.open_nursery() as nursery:
                    book.recover(nursery, database.load().intents)
                    await work(book)
                assert database.load().intents == {}

        trio.run(main)
        assert {event.type for event in told} <= {"network"}
        return [(event.status, event.id) for event in told]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def nothing(_book: NetworkBook) -> None:
    return


async def make(book: NetworkBook) -> None:
    await book.create(WISH, None)


async def remove(book: NetworkBook) -> None:
    await book.remove("n", None)


async def update(book: NetworkBook) -> None:
    await book.update("n", ["192.0.2.1", "fd00::0001"], ["192.0.2.9"], None)


# ---------------------------------------------------------------------- kills

STEPS: dict[str, tuple[type, str, str]] = {
    "before the intent": (Intents, "begin", "before"),
    "after the intent": (Intents, "begin", "after"),
    "after the file": (NetworkBook, "", "after"),
    "after it is told": (Intents, "tell", "after"),
}


def killed(place: Place, step: str, method: str, work: Callable[[NetworkBook], Awaitable[None]]) -> None:
    """A supervisor that gets SIGKILL at this step of the work. `method`: what changes the file."""
    pid = os.fork()
    if not pid:
        try:
            owner, name, when = STEPS[step]
            real = getattr(owner, name or method)

            async def patched(*args: Any) -> Any:
                if when == "after":
                    await real(*args)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(owner, name or method, patched)
            place.carry_out(work)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it did not come to the step '{step}'"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_a_network_is_there_and_told_or_neither(place: Place, step: str) -> None:
    killed(place, step, "_write", make)
    done = step in ("after the file", "after it is told")
    told = place.carry_out(nothing)
    ids = list(place.files().values())
    assert len(ids) == done
    assert told == ([("create", ids[0])] if step == "after the file" else [])
    assert place.litter() == []
    assert place.carry_out(nothing) == []
    if not done:
        ((status, _),) = place.carry_out(make)
        assert status == "create"


@pytest.mark.parametrize("step", STEPS)
def test_a_removal_is_finished_and_told_once(place: Place, step: str) -> None:
    ((_, id),) = place.carry_out(make)
    killed(place, step, "_erase", remove)
    told = place.carry_out(nothing)
    if step == "before the intent":
        assert (told, place.files()) == ([], {"n": id})
        return
    assert told == ([] if step == "after it is told" else [("remove", id)])
    assert place.files() == {}
    assert place.carry_out(nothing) == []


@pytest.mark.parametrize("step", STEPS)
def test_an_update_is_there_and_told_or_neither(place: Place, step: str) -> None:
    ((_, id),) = place.carry_out(make)
    killed(place, step, "_write", update)
    done = step in ("after the file", "after it is told")
    told = place.carry_out(nothing)
    assert place.servers("n") == (["192.0.2.1", "fd00::1"] if done else [])
    assert told == ([("update", id)] if step == "after the file" else [])
    assert place.litter() == []
    assert place.carry_out(nothing) == []


def test_what_another_engine_has_made_meanwhile_is_left_alone(place: Place) -> None:
    ((_, id),) = place.carry_out(make)
    killed(place, "after the file", "_erase", remove)
    document = {"name": "n", "id": "ef" * 32, "driver": "bridge", "created": "2026-01-01T00:00:00Z"}
    (place.directory / "n.json").write_text(json.dumps(document))
    assert place.carry_out(nothing) == [("remove", id)]
    assert place.files() == {"n": "ef" * 32}


# ---------------------------------------------------------------------- failures


def test_a_file_that_cannot_be_written_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DiskFull("cannot write: No space left on device")

    async def work(book: NetworkBook) -> None:
        with pytest.raises(DiskFull):
            await make(book)

    with monkeypatch.context() as patches:
        patches.setattr(Directory, "write", full)
        assert place.carry_out(work) == []
    assert (place.files(), place.litter()) == ({}, [])
    ((status, _),) = place.carry_out(make)
    assert status == "create"


def test_an_update_that_cannot_be_told_is_taken_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.carry_out(make)

    async def full(*_: object) -> None:
        raise DiskFull("cannot write: No space left on device")

    async def work(book: NetworkBook) -> None:
        with pytest.raises(DiskFull):
            await update(book)

    with monkeypatch.context() as patches:
        patches.setattr(Intents, "tell", full)
        assert place.carry_out(work) == []
    assert (place.servers("n"), place.litter()) == ([], [])


def test_a_file_that_cannot_be_removed_stays_and_is_not_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.carry_out(make)

    def refused(*_: object) -> None:
        raise StorageFailed("cannot remove")

    async def work(book: NetworkBook) -> None:
        with pytest.raises(StorageFailed):
            await remove(book)
        assert "n" in (await book.known()).by_name

    monkeypatch.setattr(Directory, "remove", refused)
    assert place.carry_out(work) == []


def test_a_damaged_intent_is_named(place: Place) -> None:
    async def main() -> None:
        with place.opened() as (book, database):
            await database.commit([PutIntent("network-x", b"{")])
            async with trio.open_nursery() as nursery:
                with pytest.raises(StateDamaged):
                    book.recover(nursery, database.load().intents)

    trio.run(main)


def test_nobody_is_waited_for_without_end(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "containers.conf").write_text("[pyman]\ncall_deadline = 0.05\n")
    place.settings = load(place.settings.options, {"CONTAINERS_CONF": str(tmp_path / "containers.conf")}, 0)
    place.carry_out(make)

    async def work(book: NetworkBook) -> None:
        with OfdLock(str(place.directory / "netavark.lock")) as lock:
            assert lock.try_acquire()
            for doing in (book.known, partial(book.remove, "n", None), partial(book.create, WISH, None)):
                with pytest.raises(
                    DeadlineExceeded, match="cannot use the networks: another program has held"
                ):
                    await doing()
            lock.release()
        assert "n" in (await book.known()).by_name

    assert place.carry_out(work) == []


def test_readers_do_not_wait_for_readers(place: Place) -> None:
    place.carry_out(make)

    async def work(book: NetworkBook) -> None:
        with OfdLock(str(place.directory / "netavark.lock")) as lock:
            assert lock.try_acquire(shared=True)
            assert "n" in (await book.known()).by_name

    place.carry_out(work)


# ---------------------------------------------------------------------- using it


def test_to_look_makes_nothing(place: Place) -> None:
    async def work(book: NetworkBook) -> None:
        assert list((await book.known()).by_name) == ["podman"]
        with pytest.raises(NoSuchNetwork):
            await book.remove("n", None)
        with pytest.raises(NoSuchNetwork):
            await update(book)
        with pytest.raises(
            InvalidArgument, match="cannot remove network 'podman': it is the default network"
        ):
            await book.remove("2f259bab", None)

    place.carry_out(work)
    assert not place.directory.exists()


def test_networks_are_made_found_and_removed(place: Place) -> None:
    seen: dict[str, Network] = {}

    async def work(book: NetworkBook) -> None:
        network, created = await book.create(WISH, None)
        assert created
        seen["n"] = network
        assert (await book.create(CreateNetworkRequest("n", ignore=True), None)) == (network, False)
        with pytest.raises(NameInUse):
            await book.create(WISH, None)
        other, _ = await book.create(CreateNetworkRequest(), None)
        assert not other.subnets[0].subnet.startswith("10.250.1.")
        known = await book.known()
        assert known.by_name["n"] == network
        assert set(known.by_name) == {"n", "podman", other.name}
        assert (await book.remove(network.id[:9], None)) == network
        await book.remove(other.name, None)

    told = place.carry_out(work)
    assert [status for status, _ in told] == ["create", "create", "remove", "remove"]
    assert told[0] == ("create", seen["n"].id)
    assert told[2] == ("remove", seen["n"].id)
    assert place.files() == {}


def test_whom_a_network_asks_is_changed_and_told_once(place: Place) -> None:
    async def work(book: NetworkBook) -> None:
        network, _ = await book.create(WISH, None)
        await update(book)
        same, changed = await book.update(network.id[:9], ["fd00::1"], ["192.0.2.8"], None)
        assert (same.network_dns_servers, changed) == (["192.0.2.1", "fd00::1"], False)
        now, changed = await book.update("n", ["192.0.2.3", "192.0.2.1"], ["192.0.2.1"], None)
        assert (now.network_dns_servers, changed) == (["fd00::1", "192.0.2.3", "192.0.2.1"], True)
        assert (await book.known()).by_name["n"] == now
        for servers in list[list[str]]([["x"], ["192.0.2.1/24"], [""], ["fe80::1%eth0"]]):
            for add, drop in ((servers, []), ([], servers)):
                with pytest.raises(InvalidArgument, match="cannot use the name server"):
                    await book.update("n", add, drop, None)
        with pytest.raises(InvalidArgument, match="more than 1048576 bytes"):
            await book.update("n", [f"fd00::{number:x}" for number in range(65536)], [], None)
        with pytest.raises(InvalidArgument, match="cannot update network 'podman': it has name servers"):
            await book.update("podman", ["192.0.2.1"], [], None)
        with pytest.raises(NoSuchNetwork):
            await book.update("nope", [], [], None)
        assert (await book.known()).by_name["n"] == now

    assert [status for status, _ in place.carry_out(work)] == ["create", "update", "update"]


def test_many_at_once_get_subnets_and_names_of_their_own(place: Place) -> None:
    async def work(book: NetworkBook) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(book.create, CreateNetworkRequest(), None)
        networks = [each for each in (await book.known()).by_name.values() if each.name != "podman"]
        assert len({each.subnets[0].subnet for each in networks}) == 20
        assert len({each.network_interface for each in networks}) == 20

    assert len(place.carry_out(work)) == 20


def test_a_network_that_containers_are_on_stays_unless_they_go_too(place: Place) -> None:
    place.carry_out(make)
    place.users["n"] = [User("i2", "two"), User("i1", "one")]

    async def refused(book: NetworkBook) -> None:
        with pytest.raises(NetworkInUse, match="cannot remove network 'n': containers are on it: one, two"):
            await remove(book)

    assert place.carry_out(refused) == []

    async def forced(book: NetworkBook) -> None:
        await book.remove_used("n", 0, None)

    ((status, _),) = place.carry_out(forced)
    assert (status, sorted(place.removed), place.files()) == ("remove", ["i1", "i2"], {})


def test_the_default_network_is_as_configured(tmp_path: Path) -> None:
    config = '[network]\ndefault_network = "mine"\ndefault_subnet = "10.251.0.0/24"\n'
    config += 'default_subnet_pools = [{"base" = "10.252.0.0/30", "size" = 30}]\n'
    place = Place(tmp_path, config)

    async def work(book: NetworkBook) -> None:
        default = (await book.known()).by_name["mine"]
        assert default.subnets[0].gateway == "10.251.0.1"
        with pytest.raises(InvalidArgument, match="it is the default network"):
            await book.remove("mine", None)
        assert (await book.create(CreateNetworkRequest(), None))[0].subnets[0].subnet == "10.252.0.0/30"
        with pytest.raises(InvalidArgument, match="cannot find a free subnet"):
            await book.create(CreateNetworkRequest(), None)
        # It gives way to a file, and even then it is the default one.
        document = {"name": "mine", "id": "ef" * 32, "driver": "bridge", "created": "2026-01-01T00:00:00Z"}
        (place.directory / "mine.json").write_text(json.dumps(document))
        with pytest.raises(InvalidArgument, match="it is the default network"):
            await book.remove("efef", None)

    place.carry_out(work)


def test_a_damaged_file_is_not_written_over(place: Place) -> None:
    place.directory.mkdir()
    (place.directory / "n.json").write_text("{")
    (place.directory / "podman1.json").write_text("{")

    async def work(book: NetworkBook) -> None:
        with pytest.raises(StorageFailed, match="mend or remove it"):
            await make(book)
        assert (await book.create(CreateNetworkRequest(), None))[0].name not in ("n", "podman1")

    place.carry_out(work)
    assert (place.directory / "n.json").read_text() == "{"


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes a file system that cannot be written to")
def test_networks_that_cannot_be_changed_can_be_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.carry_out(make)
    (place.directory / "netavark.lock").unlink()
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: str(place.directory) not in str(path) and real(path, mode)
    )

    async def work(book: NetworkBook) -> None:
        assert "n" in (await book.known()).by_name

    place.carry_out(work)
    assert not (place.directory / "netavark.lock").exists()


# ---------------------------------------------------------------------- filters


def names(filters: dict[str, list[str]], known: Sequence[str] = listing.FILTERS) -> list[str]:
    day = "2026-01-0{}T00:00:00Z".format
    networks = [
        Network("web", "ab" * 32, created=day(1), labels={"a": "b", "c": ""}),
        Network("wide", "ac" * 32, driver="macvlan", created=day(2), labels={"a": "x"}),
        Network("podman", "de" * 32, created=day(3)),
    ]
    found = listing.selected(networks, filters, lambda network: network.name == "wide", known)
    return [network.name for network in found]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["podman", "web", "wide"]),
        ({"name": ["^w"]}, ["web", "wide"]),
        ({"name": ["eb$", "pod"]}, ["podman", "web"]),
        ({"id": ["AB"]}, ["web"]),
        ({"id": ["b"]}, []),
        ({"id": ["^d.d"]}, ["podman"]),
        ({"driver": ["macvlan", "ipvlan"]}, ["wide"]),
        ({"label": ["a"]}, ["web", "wide"]),
        ({"label": ["a=b", "c"]}, ["web"]),
        ({"label!": ["a=b"]}, ["podman", "wide"]),
        ({"dangling": ["true"]}, ["wide"]),
        ({"dangling": ["0"]}, ["podman", "web"]),
        ({"until": ["2026-01-02T00:00:00+00:00"]}, ["web"]),
        ({"label": ["a"], "driver": ["bridge"]}, ["web"]),
    ],
)
def test_filters_are_podmans(filters: dict[str, list[str]], expected: list[str]) -> None:
    assert names(filters) == expected


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"size": ["1"]}, "cannot filter networks by 'size'"),
        ({"name": ["("]}, "cannot use the filter value '('"),
        ({"dangling": ["maybe"]}, "'dangling=maybe'"),
        ({"dangling": ["true", "false"]}, "more than once"),
        ({"until": ["soon"]}, "cannot filter by time 'soon'"),
        ({"until": ["inf"]}, "cannot filter by time 'inf'"),
        ({"until": ["nan"]}, "cannot filter by time 'nan'"),
        ({"until": ["1" * 5000]}, "cannot filter by time '1"),
        ({"until": ["1" * 5000 + "h"]}, "cannot filter by time '1"),
        ({"until": ["1h", "2h"]}, "more than once"),
    ],
)
def test_filters_that_cannot_be_are_refused(filters: dict[str, list[str]], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        names(filters)
    assert said in str(caught.value)
    with pytest.raises(InvalidArgument, match="cannot filter networks by 'name'"):
        names({"name": ["x"]}, listing.PRUNE_FILTERS)
