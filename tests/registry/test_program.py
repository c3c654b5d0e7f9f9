"""The registry program's life: started on demand, killed at any moment, without rights, gone when idle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.api.image import RegistryAccess
from pyman.errors import EngineStopped, InvalidArgument, RegistryFailed
from supervisor.registry.reference import parse
from tests.registry.support import file_of
from tests.support import hostile as wicked
from tests.support import processes
from tests.support.hostile import hostile
from tests.support.registry import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registry.support import Home
    from tests.support.hostile import Asked

ACCESS = RegistryAccess(tls_verify=False, retry=0)
DATA = os.urandom(200_000)
TAGS = wicked.answer(200, b'{"tags": ["a"]}')


async def test_it_starts_with_the_first_call_and_serves_the_next(home: Home) -> None:
    async with hostile() as bad, home.registries() as registries:
        bad.on("/v2/a/tags/list", TAGS)
        assert registries.program_pid == 0
        name = parse(f"{bad.host}/a")
        assert await registries.tags(name, ACCESS) == ["a"]
        pid = registries.program_pid
        assert processes.alive(pid)
        assert await registries.tags(name, ACCESS) == ["a"]
        assert registries.program_pid == pid
    assert not processes.alive(pid)


async def test_it_ends_without_work_and_another_one_takes_its_place(home: Home) -> None:
    async with hostile() as bad, home.registries(idle=0.05) as registries:
        bad.on("/v2/a/tags/list", TAGS)
        name = parse(f"{bad.host}/a")
        pids = set()
        for _ in range(3):
            assert await registries.tags(name, ACCESS) == ["a"]
            program = registries._calls._program
            assert program is not None
            pids.add(program.pid)
            with trio.fail_after(10):
                await program.gone.wait()
            assert registries.program_pid == 0
        assert len(pids) == 3


async def test_killed_in_the_middle_of_a_download_another_one_goes_on(home: Home, tmp_path: Path) -> None:
    async with hostile() as bad, home.registries() as registries:
        where = f"/v2/a/blobs/{digest_of(DATA)}"
        bad.on(where, wicked.blob(DATA, stop=100_000, stall=True), wicked.blob(DATA))
        with file_of(tmp_path / "blob") as fd:
            async with trio.open_nursery() as nursery:

                async def kill_when_half() -> None:
                    while os.fstat(fd).st_size < 100_000:  # noqa: ASYNC110 - a file that grows is no event
                        await trio.sleep(0.01)
                    os.kill(registries.program_pid, signal.SIGKILL)

                nursery.start_soon(kill_when_half)
                await registries.download(parse(f"{bad.host}/a:1"), digest_of(DATA), len(DATA), fd, ACCESS)
        assert (tmp_path / "blob").read_bytes() == DATA
        assert [asked.begin for asked in bad.asked(where)] == [0, 100_000]


async def test_killed_amid_many_operations_all_of_them_are_done(home: Home) -> None:
    async with hostile() as bad, home.registries() as registries:
        waiting = 0
        names: list[str] = []

        async def kill_when_all_wait(_asked: Asked, _stream: trio.abc.Stream) -> None:
            nonlocal waiting
            waiting += 1
            if waiting == 20:
                bad.on("/v2/a/tags/list", TAGS)
                os.kill(registries.program_pid, signal.SIGKILL)
            await trio.sleep_forever()

        async def ask() -> None:
            names.extend(await registries.tags(parse(f"{bad.host}/a"), ACCESS))

        bad.on("/v2/a/tags/list", kill_when_all_wait)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)
        assert names == ["a"] * 20


async def test_more_calls_than_it_takes_at_once_wait_for_their_turn(home: Home) -> None:
    async with hostile() as bad, home.registries() as registries:
        bad.on("/v2/a/tags/list", TAGS)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(150):
                    nursery.start_soon(registries.tags, parse(f"{bad.host}/a"), ACCESS)
        assert len(bad.asked("/v2/a/tags/list")) == 150


async def test_killed_again_and_again_it_is_an_error(home: Home) -> None:
    async with hostile() as bad, home.registries() as registries:

        async def kill(_asked: Asked, _stream: trio.abc.Stream) -> None:
            os.kill(registries.program_pid, signal.SIGKILL)

        bad.on("/v2/a/tags/list", kill)
        with pytest.raises(RegistryFailed, match="ended unexpectedly"):
            await registries.tags(parse(f"{bad.host}/a"), ACCESS)
        bad.on("/v2/a/tags/list", TAGS)
        assert await registries.tags(parse(f"{bad.host}/a"), ACCESS) == ["a"]


async def test_cancelling_a_call_ends_the_operation_and_nothing_else(home: Home, tmp_path: Path) -> None:
    async with hostile() as bad, home.registries() as registries:
        gone = trio.Event()

        async def slow(_: Asked, stream: trio.abc.Stream) -> None:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + DATA[:1000])
            assert not await stream.receive_some(1)
            gone.set()

        bad.on(f"/v2/a/blobs/{digest_of(DATA)}", slow)
        bad.on("/v2/a/tags/list", TAGS)
        name = parse(f"{bad.host}/a:1")
        with file_of(tmp_path / "blob") as fd, trio.fail_after(20):
            with trio.CancelScope() as scope:
                await registries.download(
                    name,
                    digest_of(DATA),
                    len(DATA),
                    fd,
                    ACCESS,
                    report=lambda count: scope.cancel() if count else None,
                )
            assert scope.cancelled_caught
            await gone.wait()
        assert (tmp_path / "blob").read_bytes() == DATA[:1000]
        assert await registries.tags(name, ACCESS) == ["a"]


async def test_many_operations_share_it(home: Home) -> None:
    async with hostile() as bad, home.registries() as registries:
        bad.on("/v2/a/tags/list", TAGS)
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(registries.tags, parse(f"{bad.host}/a"), ACCESS)
        assert len(bad.asked("/v2/a/tags/list")) == 40


async def test_only_so_many_transfers_run_at_once(home: Home, tmp_path: Path) -> None:
    running = most = 0
    async with hostile() as bad, home.registries(image_parallel_copies=2) as registries:
        right = wicked.blob(DATA)

        async def counted(asked: Asked, stream: trio.abc.Stream) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await trio.sleep(0.05)
            running -= 1
            await right(asked, stream)

        bad.on(f"/v2/a/blobs/{digest_of(DATA)}", counted)

        async def one(number: int) -> None:
            with file_of(tmp_path / str(number)) as fd:
                await registries.download(parse(f"{bad.host}/a"), digest_of(DATA), len(DATA), fd, ACCESS)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(one, number)
    assert most == 2


async def test_it_has_given_up_what_it_does_not_need(home: Home) -> None:
    async with home.registries() as registries, hostile() as bad:
        bad.on("/v2/a/tags/list", TAGS)
        await registries.tags(parse(f"{bad.host}/a"), ACCESS)
        lines = _proc(registries.program_pid, "status").decode().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert int(status["CapEff"], 16) & ~0b10 == 0  # CAP_DAC_OVERRIDE
    assert int(status["CapPrm"], 16) & ~0b10 == 0
    assert int(status["CapInh"], 16) == 0
    assert int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1"


async def test_neither_its_arguments_nor_its_environment_have_a_password(home: Home) -> None:
    secret = RegistryAccess(tls_verify=False, username="u", password="s3cret-w0rd")
    async with hostile() as bad, home.registries() as registries:
        bad.on("/v2/a/tags/list", TAGS)
        await registries.tags(parse(f"{bad.host}/a"), secret)
        for name in ("cmdline", "environ"):
            assert b"s3cret" not in _proc(registries.program_pid, name)


async def test_after_its_end_nothing_is_begun(home: Home) -> None:
    async with home.registries() as registries:
        await registries.aclose()
        with pytest.raises(EngineStopped):
            await registries.tags(parse("registry.example/a"), ACCESS)


def test_it_does_not_outlive_its_parent() -> None:
    """SIGKILL to the one who has started it."""
    script = (
        "import os, socket, subprocess, sys, time\n"
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "os.set_inheritable(a.fileno(), True)\n"  # the program holds both ends: it sees no end of the socket
        "argv = [sys.executable, '-P', '-m', 'supervisor.registry', str(os.getpid()), str(b.fileno()), '600']\n"
        "child = subprocess.Popen(argv, pass_fds=[a.fileno(), b.fileno()], cwd='/')\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    while b"NoNewPrivs:\t1" not in _proc(pid, "status"):
        pass
    parent.kill()
    parent.wait()
    assert not processes.wait_gone([pid], 10)


def _proc(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


async def test_paths_have_to_be_absolute(home: Home) -> None:
    async with home.registries() as registries:
        for access in (RegistryAccess(auth_file="auth.json"), RegistryAccess(cert_dir="certs")):
            with pytest.raises(InvalidArgument, match="not an absolute path"):
                await registries.tags(parse("registry.example/a"), access)
