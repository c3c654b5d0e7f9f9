"""A real supervisor of a test's own: keeper, daemon, sockets, state, all below one short directory.

The keeper is started as `pyman-supervisor` would be by a service manager, with a notification socket on
which it says that it is ready. `Engine.close` ends everything the way a user would, then looks for what that
has left: processes, mounts, cgroups. What it finds is cleared away and reported, so a test fails for it and
the next one starts clean.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket as sockets
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import processes
from tests.support.leaks import cgroup_directories, mount_points, remove_cgroups
from tests.support.varlink import VarlinkError, Wire, call
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.runtimes import Place

__all__ = ["Engine", "Leftovers", "merged"]

BIN = Path(sys.executable).parent
START_TIMEOUT = 40.0
REMOVAL = 60.0
"""Seconds that the removal of all of a test's containers may take."""
LEAVING = 30.0
"""Seconds that the remains of a container with --rm may take to go."""
_CONFIG = """\
[containers]
netns = "none"

[engine]
runtime = "{runtime}"

[engine.runtimes]
{runtime} = ["{path}"]
"""
"""Containers are on no network unless a test wants them there."""
_NETWORKS = """\
[network]
network_backend = "netavark"
network_config_dir = "{directory}"
"""
"""Root's are the host's otherwise; an ordinary user's are in the graph root."""


class Leftovers(AssertionError):
    """The engine did not end cleanly, or left something behind."""


class Engine:
    """`path` holds everything: root, runroot, tmp, containers.conf, supervisor.log."""

    programs = BIN
    """Where `pyman` and `pyman-supervisor` are."""

    def __init__(
        self, place: Place, *, options: Sequence[str] = (), config: str = "", directory: str = "/tmp"
    ) -> None:
        self.place = place
        self.path = Path(tempfile.mkdtemp(prefix="pm-", dir=directory))
        self.root = self.path / "root"
        self.runroot = self.path / "run"
        self.tmpdir = self.path / "tmp"
        self.log = self.path / "supervisor.log"
        self.runtime_dir = self._make_runtime_dir()
        self.options = list(options)
        self.keeper: subprocess.Popen[bytes] | None = None
        self.configuration = self.path / "containers.conf"
        text = _CONFIG.format(runtime=place.runtime, path=shutil.which(place.runtime))
        if not hasattr(place, "user"):
            text += _NETWORKS.format(directory=self.path / "networks")
        self._made = merged(text, config)
        self.configuration.write_text(self._made)
        self.storage_configuration = self.path / "storage.conf"
        self.storage_configuration.write_text('[storage]\ndriver = "overlay"\n')
        self._mounts_before = self._mounts()
        self._notices: sockets.socket | None = None
        self._ids: set[str] = set()
        self.since = 0
        """The number of the last event before the test that uses it."""

    # Where it is

    def _make_runtime_dir(self) -> Path:
        """Where sockets and the OCI runtime's state are: an ordinary user's in a directory of this engine's own."""
        if os.geteuid() == 0:
            return Path("/run")
        made = self.path / "xdg"
        made.mkdir(mode=0o700)
        return made

    @property
    def selection(self) -> list[str]:
        """The options that select this supervisor on every command line."""
        return [f"--root={self.root}", f"--runroot={self.runroot}", f"--tmpdir={self.tmpdir}"]

    @property
    def socket(self) -> str:
        return f"{self.runtime_dir}/pyman/{self._stem}.sock"

    @property
    def _stem(self) -> str:
        return sha256(f"root:{self.root}".encode()).hexdigest()[:16]

    @property
    def environment(self) -> dict[str, str]:
        """Small on purpose: what the tests' own environment holds must not matter."""
        own = {} if self.runtime_dir == Path("/run") else {"XDG_RUNTIME_DIR": str(self.runtime_dir)}
        return {
            **own,
            "PATH": f"{self.programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.path),
            "LANG": "C.UTF-8",
            "CONTAINERS_CONF": str(self.configuration),
            "CONTAINERS_STORAGE_CONF": str(self.storage_configuration),
        }

    @property
    def pid(self) -> int:
        """The daemon's."""
        return int(self.call("io.pyman.System.Info")["supervisor"]["pid"])

    @property
    def keeper_pid(self) -> int:
        return int(self.call("io.pyman.System.Info")["supervisor"]["keeperPid"])

    def add_settings(self, settings: str) -> None:
        """Lines of containers.conf besides those that it was made with. A running supervisor is told by `system reload`."""
        self.configuration.write_text(merged(self._made, settings))

    # Starting and stopping

    def start(self) -> None:
        """Starts the keeper; returns when the daemon is ready."""
        self._notices = self._notices or self._notice_socket()
        with self.log.open("ab") as log:
            self.keeper = subprocess.Popen(
                [
                    *self.place.prefix("/"),
                    str(self.programs / "pyman-supervisor"),
                    *self.selection,
                    *self.options,
                ],
                cwd="/",
                env={**self.environment, "NOTIFY_SOCKET": str(self.path / "notify")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_ready()

    def _notice_socket(self) -> sockets.socket:
        notices = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC)
        notices.bind(str(self.path / "notify"))
        return notices

    def wait_ready(self, seconds: float = START_TIMEOUT) -> None:
        """Waits for the next READY=1 of a daemon."""
        assert self._notices is not None
        deadline = time.monotonic() + seconds
        while True:
            if self.keeper is not None and self.keeper.poll() is not None:
                raise Leftovers(f"the supervisor ended with {self.keeper.returncode}:\n{self.log_text()}")
            # Short turns, since a keeper that ends is not seen on this socket.
            self._notices.settimeout(min(0.5, max(0.01, deadline - time.monotonic())))
            try:
                notice = self._notices.recv(4096)
            except TimeoutError:
                if time.monotonic() > deadline:
                    text = f"the supervisor was not ready within {seconds:g} s:\n{self.log_text()}"
                    raise Leftovers(text) from None
                continue
            if b"READY=1" in notice.splitlines():
                return

    def drain_notices(self) -> list[str]:
        """What was notified since the last look, one string per message."""
        found: list[str] = []
        if self._notices is not None:
            self._notices.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.append(self._notices.recv(4096).decode())
        return found

    def runs(self) -> bool:
        """The keeper has been started, and has not ended."""
        return self.keeper is not None and self.keeper.poll() is None

    def kill(self, *, wait: bool = True) -> None:
        """SIGKILL to the daemon; the keeper brings another one. `wait`: until that one is ready."""
        pid = self.pid
        self.drain_notices()
        os.kill(pid, signal.SIGKILL)
        if wait:
            self.wait_ready()

    def kill_keeper(self) -> None:
        """SIGKILL to the keeper and wait for it and its daemon to be gone. `start` begins again."""
        assert self.keeper is not None
        self._remember()
        pid = self.pid
        self.keeper.kill()
        self.keeper.wait()
        self.keeper = None
        assert not processes.wait_gone([pid], 30), "the daemon outlived its keeper"

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM to the keeper, as a service manager does; returns its exit status."""
        assert self.keeper is not None
        self._remember()
        self.keeper.terminate()
        status = self.keeper.wait(seconds)
        self.keeper = None
        return status

    # Talking to it

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(self.programs / "pyman"), *self.selection, *map(str, arguments)]

    def cli(
        self,
        *arguments: str | Path,
        input: str | bytes | None = None,  # noqa: A002 - as in subprocess.run
        check: bool = True,
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
    ) -> subprocess.CompletedProcess[str]:
        """Runs `pyman` and returns what it printed, as text. `check`: exit status 0 or AssertionError."""
        done = subprocess.run(
            [*self.place.prefix(str(cwd)), *self.command(*arguments)],
            input=input.encode() if isinstance(input, str) else input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
            env={**self.environment, **(env or {})},
            cwd=cwd,
            check=False,
        )
        text = subprocess.CompletedProcess(
            done.args,
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        if check and text.returncode != 0:
            words = " ".join(map(str, arguments))
            raise AssertionError(
                f"pyman {words}: exit status {text.returncode}\n{text.stdout}{text.stderr}\n{self.log_text(20)}"
            )
        return text

    def await_handler(self, name: str, number: int) -> None:
        """Until the first process of a container is prepared for a signal, which it may ignore before."""
        pid = self.inspect(name)["State"]["Pid"]
        until(lambda: processes.handles(pid, number), f"{name} does not handle signal {number}")

    def out(self, *arguments: str | Path, **options: Any) -> str:
        """What `pyman` printed, without white space around it."""
        return self.cli(*arguments, **options).stdout.strip()

    def spawn(
        self,
        *arguments: str | Path,
        stdin: int | None = subprocess.PIPE,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Starts `pyman` and returns at once. The test ends it, and closes its pipes (`with` does)."""
        return subprocess.Popen(
            [*self.place.prefix("/"), *self.command(*arguments)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**self.environment, **(env or {})},
            cwd="/",
            **options,
        )

    def wire(self, timeout: float = 20.0) -> Wire:
        return Wire(self.socket, timeout)

    def call(
        self, method: str, parameters: dict[str, Any] | None = None, timeout: float = 20.0
    ) -> dict[str, Any]:
        return call(self.socket, method, parameters, timeout=timeout)

    def call_stream(self, method: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Every reply of a streaming call."""
        with self.wire() as wire:
            return list(wire.stream(method, parameters))

    def events(self, since_seq: int | None = None, **filters: list[str]) -> list[dict[str, Any]]:
        """Every event there is after the number, oldest first; gaps are left out. None: of this test."""
        request = {"since_seq": self._after(since_seq), "stream": False, "filters": filters}
        with self.wire() as wire:
            replies = list(wire.stream("io.pyman.Event.Subscribe", request))
        return [reply["event"] for reply in replies if reply.get("event")]

    def last_seq(self) -> int:
        """The number of the last event there is; 0: none."""
        latest = self.events(self.since) or self.events(0)
        return max((int(event["Seq"]) for event in latest), default=0)

    def _after(self, since_seq: int | None) -> int:
        return self.since if since_seq is None else since_seq

    def follow(
        self, since_seq: int | None = None, timeout: float = 20.0, **filters: list[str]
    ) -> Iterator[dict[str, Any]]:
        """Events as they come, without end; None: all of this test; `timeout` seconds of silence raise TimeoutError.

        The subscription stands when this returns. Close the iterator, or let it end with the test.
        """
        wire = self.wire(timeout)
        request = {"since_seq": self._after(since_seq), "filters": filters}
        stream = wire.stream("io.pyman.Event.Subscribe", request)
        next(stream)

        def generate() -> Iterator[dict[str, Any]]:
            with wire:
                yield from (reply["event"] for reply in stream if reply.get("event"))

        return generate()

    def await_event(
        self, fits: Callable[[dict[str, Any]], bool], since_seq: int | None = None, timeout: float = 20.0
    ) -> dict[str, Any]:
        """The first event after the number (None: of this test) that fits; TimeoutError after so many seconds without any."""
        events = self.follow(since_seq, timeout)
        try:
            return next(event for event in events if fits(event))
        finally:
            getattr(events, "close", lambda: None)()

    def inspect(self, name: str) -> dict[str, Any]:
        reply = self.call("io.pyman.Container.Inspect", {"names": [name]})
        assert reply["containers"], reply
        container: dict[str, Any] = reply["containers"][0]
        return container

    def log_text(self, lines: int = 60) -> str:
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    # The end

    def remove_containers(self) -> None:
        """What a test on a shared engine owes the next one."""
        self._remember()
        # By a call, not by a command: every test would pay for a Python's start.
        removal = {"selection": {"all": True}, "force": True, "timeout": 0}
        results = self.call("io.pyman.Container.Remove", removal, timeout=REMOVAL)["results"]
        assert not any(result.get("error") for result in results), results
        # What has removed itself is nowhere to be seen while its remains are taken away.
        deadline = time.monotonic() + LEAVING
        with contextlib.suppress(FileNotFoundError):
            while os.listdir(self.tmpdir / "containers") and time.monotonic() < deadline:
                time.sleep(0.005)

    def renew(self) -> None:
        """After a test that failed: everything goes that it may have left, and the next one finds nothing."""
        with contextlib.suppress(Exception):
            if self.keeper is not None:
                self._end_politely()
        self._remember()
        self._sweep()
        for directory in (self.root, self.runroot, self.tmpdir):
            shutil.rmtree(directory, ignore_errors=True)
        self.drain_notices()
        self.since = 0
        self.start()

    def remove_images(self) -> None:
        """What a test on a shared engine owes the next one that counts images. There is no container."""
        self.cli("rmi", "--all", "--force")
        self.call("io.pyman.Image.Prune", {})  # parts of those that have not come
        left = self.call("io.pyman.Image.List", {"all": True})["images"]
        assert left == [], left

    def close(self) -> None:
        """Ends it like a user would, then clears away what is left and raises Leftovers for it."""
        complaints: list[str] = []
        if self.keeper is not None:
            complaints += self._end_politely()
        self._remember()
        complaints += self._sweep()
        if self._notices is not None:
            self._notices.close()
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            complaints.append(f"{self.path} could not be deleted")
        if complaints:
            raise Leftovers("the engine did not end cleanly:\n  " + "\n  ".join(complaints))

    def _end_politely(self) -> list[str]:
        assert self.keeper is not None
        if self.keeper.poll() is not None:
            return [f"the keeper had ended with {self.keeper.returncode} before the end of the test"]
        try:
            self.remove_containers()
            status = self.stop()
        except (AssertionError, OSError, VarlinkError, subprocess.TimeoutExpired) as error:
            return [str(error)]
        return [f"the keeper ended with exit status {status}:\n{self.log_text()}"] if status else []

    def _remember(self) -> None:
        """Notes the ids of containers, by which their processes and cgroups can be found later."""
        for directory in (self.root / "pyman/containers", self.tmpdir / "containers"):
            with contextlib.suppress(FileNotFoundError):
                self._ids.update(name for name in os.listdir(directory) if len(name) == 64)

    def _mounts(self) -> set[str]:
        found = mount_points()
        for pid in self.place.mount_namespaces:
            found |= mount_points(pid)
        return {path for path in found if path.startswith(f"{self.path}/")}

    def _sweep(self) -> list[str]:
        complaints: list[str] = []
        # Twice: what a process was still starting when it was killed shows up the second time.
        for _ in range(2):
            found = processes.mentions([str(self.path), *self._ids])
            # A zombie is whoever's turn it is to reap it; nothing of the engine is left to do so.
            found = {pid for pid in processes.family(found) if processes.alive(pid)} - {os.getpid()}
            if self.keeper is not None:
                found.add(self.keeper.pid)
            else:
                # One that a command started and that could not come up tells its error before it ends.
                found = set(processes.wait_gone(found, 10))
            complaints += [f"process {processes.describe(pid)}" for pid in sorted(found)]
            stuck = processes.end(found)
            complaints += [f"process {pid} does not end" for pid in stuck]
            if self.keeper is not None:
                self.keeper.wait(20)
                self.keeper = None
        for path in sorted(self._mounts() - self._mounts_before, key=len, reverse=True):
            complaints.append(f"mount {path}")
            subprocess.run([*self.place.prefix("/"), "umount", "--lazy", path], check=False)
            if path in mount_points():
                subprocess.run(["umount", "--lazy", path], check=False)
        cgroups = {path for path in cgroup_directories() if any(name in path for name in self._ids)}
        complaints += [f"cgroup {path}" for path in sorted(cgroups)]
        remove_cgroups(cgroups)
        for runtime_state in (self.runtime_dir / "runc", self.runtime_dir / "crun"):
            for name in self._ids:
                if (runtime_state / name).exists():
                    complaints.append(f"OCI runtime state {runtime_state / name}")
                    shutil.rmtree(runtime_state / name, ignore_errors=True)
        for directory, pattern in (
            (str(self.runtime_dir / "pyman"), f"{self._stem}*"),
            ("/dev/shm", f"pyman_lock*{self._stem}*"),
        ):
            for file in Path(directory).glob(pattern):
                file.unlink(missing_ok=True)
        return complaints


def merged(base: str, extra: str) -> str:
    """Adds the lines of `extra`, section by section, so that no section stands twice; a key has its last value."""
    sections: dict[str, dict[str, str]] = {}
    for text in (base, extra):
        section = ""
        for line in map(str.strip, text.splitlines()):
            if line.startswith("[") and line.endswith("]") and "=" not in line:
                section = line
            elif line:
                key = line.partition("=")[0].strip() if re.match(r"[\w.-]+ *=", line) else line
                sections.setdefault(section, {})[key] = line
    head = sections.pop("", {}).values()
    parts = (f"{name}\n" + "\n".join(lines.values()) + "\n" for name, lines in sections.items())
    return "\n".join([*head, *parts])
