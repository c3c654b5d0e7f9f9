"""Helper programs outlive the supervisor, are found by the next one, and come back when they end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.errors import DeadlineExceeded, NetworkFailed, NotSupported
from supervisor.kernel import ancestry, process
from supervisor.runtime.networks.programs import helper_book as module
from supervisor.runtime.networks.programs.helper_start import end_all
from tests.runtime.helping import STEPS, Book, Worker
from tests.support import processes
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.networks.programs.helper_program import Program

pytestmark = pytest.mark.holds_loop(0)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    ancestry.become_subreaper()
    others = processes.children()
    book = Book(tmp_path)
    yield book
    end_all(book.layout)
    for pid in processes.children() - others:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def living(path: Path) -> set[int]:
    """Processes that speak of it."""
    return {pid for pid in processes.mentions([str(path)]) if processes.alive(pid)}


async def came(book: Book, *statuses: str) -> None:
    """Until these have been told, in this order."""
    await comes(lambda: [event.status for event in book.events] == list(statuses), "not told")


async def comes(holds: Callable[[], object], what: str) -> None:
    await trio.to_thread.run_sync(until, holds, what)


@pytest.mark.parametrize("kind", ["plain", "tells", "forks"])
async def test_one_is_begun_once_and_ends_when_it_is_not_wanted_any_more(
    book: Book, tmp_path: Path, kind: str
) -> None:
    async with book.open() as helpers:
        worker = Worker(tmp_path, kind)
        ref = await helpers.ensure(worker)
        assert worker.began == [ref]
        assert await helpers.ensure(worker) == helpers.process_of(worker.key) == ref
        assert processes.alive(ref.pid)
        assert book.records() == [worker.key]
        assert os.getsid(ref.pid) != os.getsid(0)
        assert "/pyman/helper-" in Path(f"/proc/{ref.pid}/cgroup").read_text()
        await helpers.end(worker.key)
        assert not processes.alive(ref.pid)
        assert book.records() == []
        assert book.events == []
        assert not os.listdir(book.layout.helpers)


async def test_it_has_no_descriptor_that_it_was_not_given(book: Book, tmp_path: Path) -> None:
    async with book.open() as helpers:
        ref = await helpers.ensure(Worker(tmp_path, "plain"))
        await comes(lambda: list(tmp_path.glob("began-*")), "it has not begun")
        await comes(lambda: set(processes.descriptors(ref.pid)) == {0, 1, 2}, "it has others")
        assert processes.descriptors(ref.pid)[0] == "/dev/null"
        await helpers.end("worker-1")


async def test_the_next_supervisor_has_what_is_there(book: Book, tmp_path: Path) -> None:
    async with book.open() as helpers:
        ref = await helpers.ensure(Worker(tmp_path))
    assert processes.alive(ref.pid)
    async with book.open() as helpers:
        worker = Worker(tmp_path)
        assert await helpers.ensure(worker) == ref
        assert worker.began == []
        await helpers.end_unasked()
        assert processes.alive(ref.pid)
        os.kill(ref.pid, signal.SIGKILL)
        await came(book, "helper-lost", "helper-restarted")
        await helpers.end(worker.key)


async def test_what_nobody_asks_for_is_ended(book: Book, tmp_path: Path) -> None:
    async with book.open() as helpers:
        ref = await helpers.ensure(Worker(tmp_path))
    async with book.open() as helpers:
        await helpers.end_unasked()
        assert not processes.alive(ref.pid)
        assert book.records() == []


@pytest.mark.parametrize("left", [False, True])
async def test_one_that_is_asked_for_while_it_is_being_ended_is_another_one(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """`left`: by an earlier supervisor, and nobody had asked for it."""
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    async with AsyncExitStack() as supervisors:
        helpers = await supervisors.enter_async_context(book.open())
        former = await helpers.ensure(Worker(tmp_path, "stubborn"))
        await comes(lambda: list(tmp_path.glob("began-*")), "it has not begun")
        if left:
            await supervisors.aclose()
            helpers = await supervisors.enter_async_context(book.open())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(*((helpers.end_unasked,) if left else (helpers.end, "worker-1")))
            await trio.testing.wait_all_tasks_blocked()
            ref = await helpers.ensure(Worker(tmp_path))
        assert not processes.alive(former.pid)
        assert processes.alive(ref.pid)
        assert helpers.process_of("worker-1") == ref
        assert book.records() == ["worker-1"]
        assert book.events == []
        await helpers.end("worker-1")


@pytest.mark.parametrize("kind", ["plain", "tells", "forks"])
async def test_one_that_is_killed_comes_back_at_once(book: Book, tmp_path: Path, kind: str) -> None:
    async with book.open() as helpers:
        worker, taken = Worker(tmp_path, kind), list[float]()
        first = await helpers.ensure(worker)
        while not taken or taken[-1] >= 2:  # which a busy machine may need, but not each time
            assert len(taken) < 5, taken
            book.events.clear()
            begun = trio.current_time()
            os.kill(first.pid, signal.SIGKILL)
            await came(book, "helper-lost", "helper-restarted")
            taken.append(trio.current_time() - begun)
            second = helpers.process_of(worker.key)
            assert second is not None
            assert worker.began[-2:] == [first, second]
            assert book.told() == [("helper-lost", str(first.pid)), ("helper-restarted", str(second.pid))]
            first = second
        lost = book.events[0]
        assert (lost.type, lost.id, lost.name) == ("network", "0123", "somebody")
        assert lost.attributes["helper"] == "worker"
        assert lost.attributes["reason"] == "it was killed by signal 9"
        await helpers.end(worker.key)


async def test_one_that_ended_while_no_supervisor_was_there_is_told_and_begun_anew(
    book: Book, tmp_path: Path
) -> None:
    async with book.open() as helpers:
        first = await helpers.ensure(Worker(tmp_path))
    os.kill(first.pid, signal.SIGKILL)
    processes.wait_gone([first.pid], 20)
    async with book.open() as helpers:
        second = await helpers.ensure(Worker(tmp_path))
        assert book.told() == [("helper-lost", str(first.pid)), ("helper-restarted", str(second.pid))]
        await helpers.end("worker-1")


async def test_one_that_has_nothing_left_to_do_may_end(book: Book, tmp_path: Path) -> None:
    async with book.open() as helpers:
        worker = Worker(tmp_path)
        ref = await helpers.ensure(worker)
        worker.is_wanted = False
        os.kill(ref.pid, signal.SIGKILL)
        await comes(lambda: not book.records(), "it is still recorded")
        assert book.events == []
        await helpers.end(worker.key)


class Unlucky(Worker):
    """Its owner cannot do its part just then, the first time."""

    def __init__(self, path: Path, step: str) -> None:
        super().__init__(path)
        self.step = step

    async def begun(self, ref: ProcessRef) -> None:
        self._fail("begun")
        await super().begun(ref)

    async def wanted(self) -> bool:
        self._fail("wanted")
        return await super().wanted()

    def _fail(self, step: str) -> None:
        if self.began and self.step == step:
            self.step = ""
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("step", ["begun", "wanted"])
async def test_one_comes_back_when_the_host_can_do_it_again(book: Book, tmp_path: Path, step: str) -> None:
    async with book.open() as helpers:
        worker = Unlucky(tmp_path, step)
        first = await helpers.ensure(worker)
        os.kill(first.pid, signal.SIGKILL)
        await came(book, "helper-lost", "helper-restarted")
        assert worker.step == ""
        assert len(worker.began) == 2
        await helpers.end(worker.key)


async def test_one_that_keeps_ending_is_begun_after_growing_delays(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST", 0.02)
    async with book.open() as helpers:
        worker = Worker(tmp_path)
        ref = await helpers.ensure(worker)
        worker.kind = "fails"
        os.kill(ref.pid, signal.SIGKILL)
        await comes(lambda: len(list(tmp_path.glob("began-*"))) >= 4, "it was given up")
        await came(book, "helper-lost")
        with pytest.raises(
            NetworkFailed, match="cannot start worker: it ended with exit status 1: worker: no"
        ):
            await helpers.ensure(worker)
        worker.kind = "tells"
        second = await helpers.ensure(worker)
        await came(book, "helper-lost", "helper-restarted")
        assert processes.alive(second.pid)
        await helpers.end(worker.key)


async def test_one_that_cannot_be_begun_leaves_nothing(book: Book, tmp_path: Path) -> None:
    async with book.open() as helpers:
        with pytest.raises(NetworkFailed, match="worker: no such thing"):
            await helpers.ensure(Worker(tmp_path, "fails"))
        assert book.records() == []
        assert helpers.process_of("worker-1") is None


@pytest.mark.parametrize("name", ["none", "null"])
async def test_a_device_that_it_cannot_open_is_told(book: Book, tmp_path: Path, name: str) -> None:
    """Programs say what they were doing, or nothing but that it failed."""
    worker = Worker(tmp_path, "fails")
    worker.device = f"/dev/{name}"
    async with book.open() as helpers:
        with pytest.raises(NetworkFailed, match="worker: no such thing") as caught:
            await helpers.ensure(worker)
    cannot = "it needs /dev/none, which cannot be opened here (no such file or directory)"
    assert caught.value.hint == (cannot if name == "none" else "")


async def test_one_that_could_never_be_begun_can_be_ended(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its program was removed while nobody looked, and its container is stopped then."""
    worker = Worker(tmp_path)

    async def nowhere(stack: ExitStack) -> Program:
        del stack
        raise NotSupported("cannot find the program 'worker'")

    async with book.open() as helpers:
        first = await helpers.ensure(worker)
    os.kill(first.pid, signal.SIGKILL)
    monkeypatch.setattr(worker, "program", nowhere)
    async with book.open() as helpers:
        await helpers.insist(worker)
        await helpers.end(worker.key)
        assert book.records() == []


async def test_one_that_does_not_become_ready_is_ended(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_READY", 2.0)
    async with book.open() as helpers:
        with pytest.raises(DeadlineExceeded, match="worker"):
            await helpers.ensure(Worker(tmp_path, "hangs"))
        (began,) = tmp_path.glob("began-*")
        assert not processes.alive(int(began.read_text()))
        assert book.records() == []


async def test_one_that_does_not_end_is_killed(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    async with book.open() as helpers:
        ref = await helpers.ensure(Worker(tmp_path, "stubborn"))
        await comes(lambda: list(tmp_path.glob("began-*")), "it has not begun")
        await helpers.end("worker-1")
        assert not processes.alive(ref.pid)


async def test_what_it_prints_does_not_fill_the_disk(book: Book, tmp_path: Path) -> None:
    async with book.open() as helpers:
        ref = await helpers.ensure(Worker(tmp_path, "chatty"))
        await comes((tmp_path / "error-27").exists, "it prints on")
        assert processes.alive(ref.pid)
        assert Path(f"{book.layout.helpers}/worker-1.log").stat().st_size <= 1 << 18
        await helpers.end("worker-1")


@pytest.fixture
def network() -> Iterator[int]:
    """A descriptor of another network namespace."""
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as holder:
        path = f"/proc/{holder.pid}/ns/net"
        until(lambda: os.readlink(path) != os.readlink("/proc/self/ns/net"), "it has no namespace")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        yield descriptor
        os.close(descriptor)
        holder.kill()


async def test_it_begins_in_the_network_namespace_that_it_is_for(
    book: Book, tmp_path: Path, network: int
) -> None:
    async with book.open() as helpers:
        ref = await helpers.ensure(Worker(tmp_path, "tells", network))
        assert os.path.samestat(os.stat(f"/proc/{ref.pid}/ns/net"), os.fstat(network))
        await helpers.end("worker-1")


@pytest.mark.parametrize("kind", ["tells", "forks"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_supervisor_that_is_killed_at_any_step_leaves_one_or_none(
    book: Book, tmp_path: Path, kind: str, step: str
) -> None:
    command = [sys.executable, "-m", "tests.runtime.helping", str(tmp_path), kind, step]
    done = await trio.run_process(command, check=False, capture_stderr=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    async with book.open() as helpers:
        ref = await helpers.ensure(Worker(tmp_path, kind))
        assert process.ref_of(ref.pid) == ref
        await comes(lambda: living(tmp_path) == {ref.pid}, "there is another one")
        assert book.events == []
        if step in ("launched", "recorded", "ready"):  # what was at the gate has never begun
            assert len(list(tmp_path.glob("began-*"))) == 1
        await helpers.end("worker-1")
    assert not living(tmp_path)
