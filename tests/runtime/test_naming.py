"""aardvark-dns, of Debian 12 and of Debian 13, answers to containers' names while they are there."""
# ruff: noqa: ARG001 - fixtures that are only to be there

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
import trio

from pyman.errors import NetworkFailed, NotSupported
from supervisor.kernel import ancestry, children
from supervisor.network.kernel import links
from supervisor.runtime.networks.programs import asking
from supervisor.runtime.networks.programs.helper_start import end_all
from supervisor.runtime.networks.programs.naming import KEY, Naming
from tests.runtime.helping import Book
from tests.runtime.naming import UPSTREAM, Guest, ask, attachment, network, wire
from tests.support import processes
from tests.support.hosts import Machine
from tests.support.trees import trixie
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from supervisor.network.plans import Attachment, NetworkPlan
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.programs.helper_book import Helpers
    from supervisor.settings.model import Settings

pytestmark = pytest.mark.holds_loop(0)

INSTALLED = "/usr/lib/podman"


def of_trixie(directory: Path) -> str:
    """Debian 13's program with its own libraries, as a program of this host."""
    tree = trixie()
    directory.mkdir()
    program = directory / "aardvark-dns"
    loader, libraries = f"{tree}/lib64/ld-linux-x86-64.so.2", f"{tree}/usr/lib/x86_64-linux-gnu"
    program.write_text(
        f'#!/bin/sh\nexec {loader} --library-path {libraries} {tree}/usr/lib/podman/aardvark-dns "$@"\n'
    )
    program.chmod(0o755)
    return str(directory)


class Names:
    """The names of a host's containers, as one supervisor after the other has them."""

    def __init__(self, book: Book, host: Machine, programs: str) -> None:
        self.book = book
        self.host = host
        self.settings = _with(book.settings, programs)
        self.gone: set[str] = set()
        """Containers of which nothing is recorded."""
        self.helpers: Helpers
        self.naming: Naming

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Naming]:
        async with self.book.open() as self.helpers:
            self.naming = Naming(
                self.book.layout,
                lambda: self.settings,
                self.helpers,
                self.book.spawn,
                trio.CapacityLimiter(4),
                lambda id: id not in self.gone,
                lambda plan: plan.dns_servers,
            )
            yield self.naming

    async def join(self, guest: Guest, *on: tuple[NetworkPlan, Attachment], **more: Any) -> None:
        plans, attachments = zip(*on, strict=True)
        await self.naming.joined(cast("Container", guest), plans, attachments, netns=self.host.netns, **more)


def _with(settings: Settings, programs: str) -> Settings:
    engine = msgspec.structs.replace(settings.engine, helper_binaries_dir=(programs,))
    return msgspec.structs.replace(settings, engine=engine)


@pytest.fixture
def orphans() -> Iterator[None]:
    """This process has them, as a supervisor has."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    ancestry.become_subreaper()
    others = processes.children()  # as servers that all tests share
    yield
    for pid in processes.children() - others:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.fixture(params=["installed", "trixie"])
def names(request: pytest.FixtureRequest, tmp_path: Path, orphans: None) -> Iterator[Names]:
    book = Book(tmp_path)
    programs = INSTALLED if request.param == "installed" else of_trixie(tmp_path / "programs")
    with Machine() as host:
        yield Names(book, host, programs)
        end_all(book.layout)


@pytest.fixture
def web(orphans: None) -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture
def data(orphans: None) -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


async def comes(holds: Callable[[], object], what: str) -> None:
    await trio.to_thread.run_sync(until, holds, what)


WEB, DATA = Guest(1, "web"), Guest(2, "data", hostname="Database")


async def test_containers_find_one_another_by_name_alias_short_id_and_host_name(
    names: Names, web: Machine, data: Machine
) -> None:
    one = network(1)
    async with names.open() as naming:
        first = wire(names.host, web, one, attachment(one, 2))
        await names.join(WEB, (one, first))
        second = wire(names.host, data, one, attachment(one, 3, "db", "Store"))
        await names.join(DATA, (one, second))
        for name in ("data", "DATA", "db", "store", "02" * 6, "database", "data.dns.podman"):
            assert ask(web, "10.1.0.1", name) == ["10.1.0.3"], name
        assert ask(data, "10.1.0.1", "web") == ["10.1.0.2"]
        assert ask(web, "10.1.0.1", "3.0.1.10.in-addr.arpa", "PTR")[0] == "data"
        assert ask(web, "10.1.0.1", "nobody", seconds=1) in (["unknown"], ["nobody"])
        await naming.left(DATA.id)
        await comes(lambda: ask(web, "10.1.0.1", "data", seconds=0.5) != ["10.1.0.3"], "it is still known")
        await naming.left(WEB.id)


async def test_on_ipv6_as_well(names: Names, web: Machine, data: Machine) -> None:
    one = network(1, ipv6=True)
    async with names.open() as naming:
        await names.join(WEB, (one, wire(names.host, web, one, attachment(one, 2))))
        await names.join(DATA, (one, wire(names.host, data, one, attachment(one, 3))))
        for server in ("10.1.0.1", "fd00:1::1"):
            assert ask(web, server, "data") == ["10.1.0.3"]
            assert ask(web, server, "data", "AAAA") == ["fd00:1::3"]
        await naming.left(WEB.id)
        await naming.left(DATA.id)


async def test_the_one_on_two_networks_finds_both_and_they_not_each_other(
    names: Names, web: Machine, data: Machine
) -> None:
    one, two = network(1), network(2)
    with Machine() as other:
        async with names.open() as naming:
            both = (
                (one, wire(names.host, web, one, attachment(one, 2))),
                (two, wire(names.host, web, two, attachment(two, 2, interface="eth1"))),
            )
            await names.join(WEB, *both)
            await names.join(DATA, (one, wire(names.host, data, one, attachment(one, 3))))
            third = Guest(3, "third")
            await names.join(third, (two, wire(names.host, other, two, attachment(two, 3))))
            assert ask(web, "10.1.0.1", "data") == ["10.1.0.3"]
            assert ask(web, "10.2.0.1", "third") == ["10.2.0.3"]
            assert ask(other, "10.2.0.1", "web") == ["10.2.0.2"]
            assert ask(other, "10.2.0.1", "data", seconds=1) != ["10.1.0.3"]
            ref = names.helpers.process_of(KEY)
            for guest in (WEB, DATA):
                await naming.left(guest.id)
            nobody = ["nobody"]
            await comes(lambda: ask(web, "10.1.0.1", "data", seconds=0.2) == nobody, "it serves there still")
            assert ask(other, "10.2.0.1", "third") == ["10.2.0.3"]
            await names.join(WEB, both[0])
            assert ask(web, "10.1.0.1", "web") == ["10.1.0.2"]
            assert names.helpers.process_of(KEY) == ref
            assert names.book.events == []
            for guest in (WEB, third):
                await naming.left(guest.id)


@pytest.fixture
def outside(names: Names) -> Iterator[Machine]:
    """192.0.2.2, where a name server says 203.0.113.7 to everything, and 192.0.2.3 with one that says .8."""
    with Machine() as machine:
        names.host.run(
            *("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(machine.pid))
        )
        for end, number in ((names.host, 1), (machine, 2), (machine, 3)):
            end.run("ip", "addr", "add", f"192.0.2.{number}/24", "dev", "wire")
            end.run("ip", "link", "set", "wire", "up")
        servers = []
        for number in (2, 3):
            argv = ["/usr/bin/python3", "-c", UPSTREAM, f"192.0.2.{number}", f"203.0.113.{number + 5}"]
            inside = ["nsenter", f"--net=/proc/{machine.pid}/ns/net", *argv]
            servers.append(subprocess.Popen(inside, stdout=subprocess.PIPE, text=True))
            stdout = servers[-1].stdout
            assert stdout is not None
            stdout.readline()
        yield machine
        for server in servers:
            server.kill()
            server.communicate()


@pytest.mark.usefixtures("outside")
async def test_other_names_are_asked_of_whom_the_network_or_the_container_says(
    names: Names, web: Machine, data: Machine
) -> None:
    one = network(1, dns_servers=["192.0.2.2"])
    choosy = Guest(2, "data", dns_server=["192.0.2.3"])
    async with names.open() as naming:
        await names.join(WEB, (one, wire(names.host, web, one, attachment(one, 2))))
        await names.join(choosy, (one, wire(names.host, data, one, attachment(one, 3))))
        assert ask(web, "10.1.0.1", "www.example.org") == ["203.0.113.7"]
        assert ask(data, "10.1.0.1", "www.example.org") == ["203.0.113.8"]
        await naming.refreshed(network(1, dns_servers=["192.0.2.3"]))
        await comes(lambda: ask(web, "10.1.0.1", "www.example.org", seconds=0.5) == ["203.0.113.8"], "old")
        for guest in (WEB, choosy):
            await naming.left(guest.id)


@pytest.mark.usefixtures("outside")
async def test_where_nobody_says_it_those_are_asked_that_whoever_joins_knows(
    names: Names, web: Machine
) -> None:
    one = network(1)
    async with names.open() as naming:
        wired = wire(names.host, web, one, attachment(one, 2))
        await names.join(WEB, (one, wired), servers=["192.0.2.2"])
        assert ask(web, "10.1.0.1", "www.example.org") == ["203.0.113.7"]
        await naming.left(WEB.id)


@pytest.mark.parametrize("names", ["trixie"], indirect=True)
@pytest.mark.usefixtures("outside")
async def test_from_an_internal_network_nothing_is_asked_outside(names: Names, web: Machine) -> None:
    one = network(1, internal=True)
    async with names.open() as naming:
        wired = wire(names.host, web, one, attachment(one, 2))
        await names.join(WEB, (one, wired), servers=["192.0.2.2"])
        assert ask(web, "10.1.0.1", "web") == ["10.1.0.2"]
        assert ask(web, "10.1.0.1", "www.example.org") == ["unknown"]
        await naming.left(WEB.id)


async def test_the_program_is_there_only_while_somebody_needs_it(
    names: Names, web: Machine, data: Machine
) -> None:
    one, silent = network(1), network(2, dns=False)
    async with names.open() as naming:
        await names.join(WEB, (silent, attachment(silent, 2)))
        assert names.helpers.process_of(KEY) is None
        assert not Path(names.book.layout.names).exists()
        await names.join(WEB, (one, wire(names.host, web, one, attachment(one, 2))))
        ref = names.helpers.process_of(KEY)
        assert ref is not None
        await names.join(DATA, (one, wire(names.host, data, one, attachment(one, 3))))
        assert names.helpers.process_of(KEY) == ref
        await naming.left(WEB.id)
        assert names.helpers.process_of(KEY) == ref
        await naming.left(DATA.id)
        await names.join(DATA, (one, wire(names.host, data, one, attachment(one, 3))))
        assert names.helpers.process_of(KEY) == ref
        await naming.left(DATA.id)
        await comes(lambda: not processes.alive(ref.pid), "it is still there")
        await naming.end_unused()
        assert not Path(names.book.layout.names).exists()
        assert names.book.records() == []
        assert names.book.events == []
        await naming.left(DATA.id)


async def test_killed_it_is_back_and_knows_everybody(names: Names, web: Machine, data: Machine) -> None:
    one = network(1)
    async with names.open() as naming:
        await names.join(WEB, (one, wire(names.host, web, one, attachment(one, 2))))
        await names.join(DATA, (one, wire(names.host, data, one, attachment(one, 3))))
        taken = list[float]()
        while not taken or taken[-1] >= 2:  # which a busy machine may need, but not each time
            assert len(taken) < 5, taken
            names.book.events.clear()
            ref = names.helpers.process_of(KEY)
            assert ref is not None
            begun = trio.current_time()
            os.kill(ref.pid, signal.SIGKILL)
            await comes(lambda: ask(web, "10.1.0.1", "data", seconds=0.2) == ["10.1.0.3"], "it is lost")
            taken.append(trio.current_time() - begun)
            await comes(lambda: len(names.book.events) == 2, "nothing is told")
            assert [event.status for event in names.book.events] == ["helper-lost", "helper-restarted"]
        await naming.left(WEB.id)
        await naming.left(DATA.id)


async def test_the_next_supervisor_goes_on_with_it(names: Names, web: Machine, data: Machine) -> None:
    one = network(1)
    first = wire(names.host, web, one, attachment(one, 2))
    second = wire(names.host, data, one, attachment(one, 3))
    async with names.open():
        await names.join(WEB, (one, first))
        await names.join(DATA, (one, second))
        ref = names.helpers.process_of(KEY)
    assert ask(web, "10.1.0.1", "data") == ["10.1.0.3"]
    async with names.open() as naming:
        await names.join(WEB, (one, first))  # it is adopted before the other one
        assert ask(web, "10.1.0.1", "data") == ["10.1.0.3"]
        await names.join(DATA, (one, second))
        assert names.helpers.process_of(KEY) == ref
        assert names.book.events == []
        await naming.left(WEB.id)
        await naming.left(DATA.id)


async def test_the_next_supervisor_forgets_the_last_one(names: Names, web: Machine) -> None:
    one = network(1)
    async with names.open():
        await names.join(WEB, (one, wire(names.host, web, one, attachment(one, 2))))
        ref = names.helpers.process_of(KEY)
    assert ref is not None
    async with names.open() as naming:
        await naming.left(WEB.id)
        await naming.end_unused()
        assert not processes.alive(ref.pid)
        assert not Path(names.book.layout.names).exists()


async def test_the_next_supervisor_goes_on_without_it_until_it_can_be_begun(
    names: Names, web: Machine, tmp_path: Path
) -> None:
    one = network(1)
    first = wire(names.host, web, one, attachment(one, 2))
    async with names.open():
        await names.join(WEB, (one, first))
        ref = names.helpers.process_of(KEY)
    assert ref is not None
    os.kill(ref.pid, signal.SIGKILL)
    processes.wait_gone([ref.pid], 5)
    whole, names.settings = names.settings, _with(names.settings, str(tmp_path / "nowhere"))
    async with names.open() as naming:
        await naming.rejoined(cast("Container", WEB), [one], [first], netns=names.host.netns)
        assert [event.status for event in names.book.events] == ["helper-lost"]
        assert names.book.events[0].attributes["reason"] == "it was killed by signal 9"
        names.settings = whole
        await comes(lambda: ask(web, "10.1.0.1", "web", seconds=0.2) == ["10.1.0.2"], "it is lost")
        await naming.left(WEB.id)
        await naming.end_unused()


async def test_the_next_supervisor_forgets_whom_nobody_knows(
    names: Names, web: Machine, data: Machine
) -> None:
    one = network(1)
    async with names.open():
        await names.join(WEB, (one, wire(names.host, web, one, attachment(one, 2))))
    names.gone.add(WEB.id)
    async with names.open() as naming:
        await names.join(DATA, (one, wire(names.host, data, one, attachment(one, 3))))
        assert ask(data, "10.1.0.1", "data") == ["10.1.0.3"]
        assert ask(data, "10.1.0.1", "web", seconds=0.5) != ["10.1.0.2"]
        await naming.left(DATA.id)
        await naming.end_unused()
        assert not Path(names.book.layout.names).exists()


async def test_many_that_come_and_go_at_once(names: Names, web: Machine) -> None:
    one = network(1)
    guests = {number: Guest(number, f"guest{number}") for number in range(10, 50)}
    async with names.open() as naming:
        await names.join(WEB, (one, wire(names.host, web, one, attachment(one, 2))))
        async with trio.open_nursery() as nursery:
            for number, guest in guests.items():
                nursery.start_soon(names.join, guest, (one, attachment(one, number)))
        for number in (10, 30, 49):
            assert ask(web, "10.1.0.1", f"guest{number}") == [f"10.1.0.{number}"]
        async with trio.open_nursery() as nursery:
            for guest in guests.values():
                nursery.start_soon(naming.left, guest.id)
        assert ask(web, "10.1.0.1", "web") == ["10.1.0.2"]
        assert names.book.events == []
        await naming.left(WEB.id)


@pytest.fixture
def other(names: Names) -> Iterator[None]:
    """Another name server serves where ours should."""
    names.host.does(lambda: links.ensure_bridge(network(1)))
    argv = ["/usr/bin/python3", "-c", UPSTREAM, "10.1.0.1", "203.0.113.7"]
    inside = ["nsenter", f"--net=/proc/{names.host.pid}/ns/net", *argv]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield
        server.kill()


@pytest.mark.usefixtures("other")
async def test_where_another_one_serves_it_is_refused_and_nothing_is_left(
    names: Names, web: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_PATIENCE", 0.3)
    one = network(1)
    wired = wire(names.host, web, one, attachment(one, 2))
    async with names.open() as naming:
        with pytest.raises(NetworkFailed, match=r"cannot (start aardvark-dns|serve names)"):
            await names.join(WEB, (one, wired))
        await naming.end_unused()
        assert names.book.records() == []
        assert not Path(names.book.layout.names).exists()


async def test_without_the_program_it_is_refused(
    names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.settings = _with(names.settings, str(tmp_path / "nowhere"))
    monkeypatch.setitem(children.CLEAN_ENVIRONMENT, "PATH", str(tmp_path))
    one = network(1)
    async with names.open():
        with pytest.raises(NotSupported, match="cannot find the program 'aardvark-dns'") as caught:
            await names.join(WEB, (one, attachment(one, 2)))
        assert "--disable-dns" in caught.value.hint
        assert names.book.records() == []
