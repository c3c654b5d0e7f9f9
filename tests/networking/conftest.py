"""Engines on hosts of their own, whose containers talk to one another, to the host, and to another host.

Each is once root's, with crun, and once an ordinary user's, with runc. After a test nothing is left on the host: no
interface, no rule for a container, no helper program.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.naming import UPSTREAM
from tests.support import processes, sharing
from tests.support.engine import Engine
from tests.support.hosts import LONG, HostPlace, Machine, UserHostPlace, clear, inhabitants, leftovers, wired
from tests.support.rootfs import make_rootfs
from tests.support.runtimes import make_place
from tests.support.user import User, UserEngine
from tests.support.user_programs import programs_for
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TALK = ("/usr/bin/python3", "-c", (Path(__file__).parent / "talk.py").read_text())
HOST, OUTSIDE = "192.0.2.1", "192.0.2.2"
HOST6, OUTSIDE6 = "fd02::1", "fd02::2"
DEFAULT = "podman"
REST = 1.0
"""Seconds for which what nobody needs any more is there for the next one."""
CONFIG = """\
[containers]
netns = "private"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test here starts dozens of programs, one after the other: a slow machine may take its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))


class Net:
    """An engine, its host, and another host. On port 7 both of them say who asked, as `host` and `outside`."""

    def __init__(self, engine: Engine, host: Machine, outside: Machine) -> None:
        self.engine = engine
        self.host = host
        self.outside = outside
        self.rootfs = make_rootfs(engine.path / "rootfs")
        (self.rootfs / "lib").symlink_to("usr/lib")
        (self.rootfs / "lib64").symlink_to("usr/lib64")
        if isinstance(engine, UserEngine):
            engine.user.owns(self.rootfs)

    @property
    def rootless(self) -> bool:
        return isinstance(self.engine, UserEngine)

    # Containers

    @property
    def root(self) -> list[str]:
        """busybox, and the host's Python."""
        return ["--volume", "/usr:/usr:ro", "--rootfs", f"{self.rootfs}:O"]

    def run(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> None:
        self.engine.cli(
            "run", "--detach", "--name", name, "--stop-timeout", "0", *options, *self.root, *command
        )

    def refused(self, *options: str) -> str:
        """What is said of a container that cannot start. Nothing of it stays; the fixture looks."""
        done = self.engine.cli("run", "--rm", *options, *self.root, "true", check=False)
        assert done.returncode == 125, done
        (line,) = done.stderr.splitlines()
        return line

    def serve(self, name: str, *options: str, ports: tuple[int, ...] = (80,)) -> None:
        """A container that says its name and who asked. It does when this returns."""
        self.run(name, *options, command=(*TALK, "serve", name, *map(str, ports)))
        self.await_up(name)

    def await_up(self, name: str, run: int = 1) -> None:
        """Until its server says so, the first time or another one: its log begins with its first run."""
        with self.engine.spawn("logs", "--follow", name, stdin=subprocess.DEVNULL) as logs:
            assert logs.stdout is not None
            assert logs.stderr is not None
            try:
                lines = [logs.stdout.readline() for _ in range(run)]
            finally:
                logs.kill()
            assert lines == [b"up\n"] * run, logs.stderr.read().decode()

    def asks(self, name: str, host: str, port: int = 80, kind: str = "tcp", seconds: float = LONG) -> str:
        """What a container is told."""
        return self.engine.out("exec", name, *TALK, "ask", host, str(port), kind, str(seconds))

    def address(self, name: str, interface: str = "eth0", family: int = 4) -> str:
        """As a container sees it itself."""
        told = self.engine.out(
            "exec", name, "ip", f"-{family}", "-o", "addr", "show", interface, "scope", "global"
        )
        return told.split()[3].partition("/")[0]

    def pid(self, name: str) -> int:
        return int(self.engine.inspect(name)["State"]["Pid"])

    def inside(self, name: str, *words: str) -> str:
        """What a program of the host's prints in a container's network namespace."""
        argv = ["nsenter", f"--net=/proc/{self.pid(name)}/ns/net", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout

    def inner(self, name: str) -> Machine:
        """A container's network namespace."""
        machine = Machine()
        machine.pid = self.pid(name)
        return machine

    @property
    def filter(self) -> Callable[..., str]:
        """Runs programs where bridges and the packet filter are: on the host, or in the user's sandbox."""
        if not self.rootless:
            return self.host.run
        # Kept where the user's mounts are.
        sandbox = Machine(f"/proc/{self.engine.pid}/root{self.engine.path}/tmp/sandbox/netns")
        return sandbox.run

    def follows(self, name: str, former: str) -> bool:
        """Starts it as soon as the former one, which may be itself, has ended. False: the time for which what that has left
        rests may be over by then."""
        begun = time.monotonic()
        for method, which in (("Stop", former), ("Start", name)):
            (result,) = self.engine.call(f"io.pyman.Container.{method}", {"selection": {"names": [which]}})[
                "results"
            ]
            assert not result.get("error"), result
        return time.monotonic() - begun < REST

    def kill(self, name: str) -> None:
        """Its first process, behind everybody's back."""
        os.kill(self.pid(name), signal.SIGKILL)

    # What goes on meanwhile

    @contextlib.contextmanager
    def meanwhile_on(self, machine: Machine, *words: str) -> Iterator[list[str]]:
        """A program of `talk` runs there. What it prints at its end is in the list then."""
        told: list[str] = []
        argv = machine.words(*TALK, *words)
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", text=True
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            try:
                assert program.stdout.readline() == "up\n"
                yield told
                program.stdin.close()
                told += program.stdout.read().split()
            except BaseException:
                program.kill()
                raise


def ask(machine: Machine, host: str, port: int, kind: str = "tcp", seconds: float = LONG) -> str:
    """What a host is told."""
    return machine.run(*TALK, "ask", host, str(port), kind, str(seconds)).strip()


def await_answer(asked: Callable[..., str], said: str) -> None:
    """Of what is about to be there. Asked again and again: who waits for one that has gone is told nothing any more."""
    until(lambda: asked(seconds=1.0).startswith(said), f"nobody says '{said}'")


def pause(told: list[str]) -> float:
    """Of what `keep` says: seconds without an answer. In the end there is one."""
    longest, answered, _, last = told
    assert int(answered) > 0
    assert last == "1", "nobody answers any more"
    return float(longest)


@contextlib.contextmanager
def serving(machine: Machine, *words: str) -> Iterator[None]:
    """A program of `talk` that serves until it is ended."""
    with _up(machine.words(*TALK, *words)):
        yield


@contextlib.contextmanager
def upstream(net: Net) -> Iterator[None]:
    """A name server on another host: it says that every name is that host's."""
    with _up(net.outside.words("/usr/bin/python3", "-c", UPSTREAM, OUTSIDE, OUTSIDE)):
        yield


@contextlib.contextmanager
def _up(words: list[str]) -> Iterator[None]:
    """A program that has said so; it is ended."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"up\n"
            yield
        finally:
            server.kill()


@contextlib.contextmanager
def _engine(whose: str, host: Machine, config: str) -> Iterator[Engine]:
    """Not started yet; `sharing` ends it."""
    with contextlib.ExitStack() as stack:
        if whose == "root":
            around = make_place("crun")
            stack.callback(around.close)
            yield Engine(HostPlace(host, around), config=config)
        else:
            user = User.of()
            place = UserHostPlace(host, user)
            programs = stack.enter_context(contextlib.contextmanager(programs_for)(place))
            yield UserEngine(user, programs, config=config, place=place)


@pytest.fixture(scope="module", params=["root", "user"])
def module_net(request: pytest.FixtureRequest) -> Iterator[Net]:
    """Behind `net`; tests do not use it directly. `CONFIG` of a module is its engine's containers.conf. Where `IDLE` is true,
    what is idle after a test may go during the next one; after the last one it does."""
    with (
        Machine() as host,
        wired(host) as outside,
        serving(host, "serve", "host", "7"),
        serving(outside, "serve", "outside", "7"),
        _engine(request.param, host, getattr(request.module, "CONFIG", CONFIG)) as engine,
    ):
        for way in ("192.0.2.2", "fd02::2"):
            host.run("ip", "route", "add", "default", "via", way)
        before = inhabitants(host)
        with sharing.shared(engine):
            yield Net(engine, host, outside)
            left_over = leftovers(host, engine.path)
        assert not left_over, left_over
        left = processes.wait_gone(inhabitants(host) - before, 20)
        assert not left, [processes.describe(pid) for pid in left]


@pytest.fixture
def net(module_net: Net, request: pytest.FixtureRequest) -> Iterator[Net]:
    """An engine without containers, and without networks but the default one, at every start."""
    with sharing.borrowed(module_net.engine, request):
        yield module_net
    if not request.node.stash.get(sharing.OUTCOME, False):
        shutil.rmtree(module_net.engine.path / "networks", ignore_errors=True)
        clear(module_net.host)
        return
    names = module_net.engine.out("network", "ls", "--quiet", "--noheading").split()
    if others := [name for name in names if name != DEFAULT]:
        module_net.engine.cli("network", "rm", *others)
    idle = getattr(request.module, "IDLE", False)
    if left := leftovers(module_net.host, module_net.engine.path, idle=idle):
        clear(module_net.host)
        pytest.fail("the test leaves on its host:\n  " + "\n  ".join(left), pytrace=False)
