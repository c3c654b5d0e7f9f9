"""A small machine that a real systemd runs, in namespaces of a test's own.

It boots within a second: systemd as process 1 of a pid namespace, D-Bus, logind, and the service manager of each user
who logs in. Its root is the host's, copy-on-write (`machine.sh` puts it together); its processes are in a cgroup
of the host's v2 tree that ends with it. What the host's tree has of controllers is all that there is.

The checkout is at its place, read-only. Commands run as root (`root`) or in a login session of the ordinary user's
(`user`), which is a real one: logind knows it, and it ends with the command.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import processes
from tests.support.rootfs import make_rootfs
from tests.support.user import User

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Machine", "missing"]

HERE = Path(__file__).resolve()
CHECKOUT = HERE.parents[2]
PATH = f"{CHECKOUT}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT = 40.0
HALT = 30.0
"""Seconds that systemd may take for either; half a second each is usual."""
_POWER_OFF = signal.SIGRTMIN + 4
_SYSTEMD = "/lib/systemd/systemd"


def missing() -> str:
    """Why there can be no machine here; an empty string: there can."""
    if os.geteuid() != 0:
        return "only root can make a machine"
    if not os.access(_SYSTEMD, os.X_OK):
        return "systemd is not installed"
    return "" if _tree() else "there is no cgroup v2"


def _tree() -> str:
    """Where the v2 tree is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return fields[4]
    return ""


class Machine:
    """Runs from `with` on, or from `boot` to `close`. `rootfs`: of busybox, in the user's home, as it is in there."""

    def __init__(self) -> None:
        self.owner = User.of()
        self.home = f"/home/{self.owner.name}"
        self.runtime_dir = f"/run/user/{self.owner.uid}"
        self.rootfs = f"{self.home}/rootfs"
        self.path = Path(tempfile.mkdtemp(prefix="pm-machine-", dir="/tmp"))
        self.cgroup = Path(_tree(), "pyman-machines", self.path.name)
        self._outer: subprocess.Popen[bytes] | None = None
        self._first = 0

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """What systemd has said on its console."""
        return (self.path / "console").read_text(errors="replace")

    def boot(self) -> None:
        """Returns once everything runs. AssertionError: it does not come up."""
        for name in ("root", "host"):
            (self.path / name).mkdir()
        self.path.chmod(0o755)
        make_rootfs(self.path / "host/rootfs")
        self.cgroup.mkdir(parents=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
            (self.path / "console").open("wb") as console,
        ):
            notices.bind(str(self.path / "host/notify"))
            script = f'echo $$ >{self.cgroup}/cgroup.procs; exec "$@"'
            namespaces = ["--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net"]
            self._outer = subprocess.Popen(
                [
                    *("sh", "-c", script, "sh"),
                    *("unshare", *namespaces, "--fork", "--kill-child", "--propagation", "private"),
                    *(
                        "sh",
                        str(HERE.with_name("machine.sh")),
                        str(self.path),
                        str(CHECKOUT),
                        self.owner.name,
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
            self._await_ready(notices)
        [self._first] = processes.children(self._outer.pid)
        self.root("cp", "-a", "/run/host/rootfs", self.rootfs)
        self.root("chown", "-R", f"{self.owner.name}:", self.rootfs)

    def _await_ready(self, notices: socket.socket) -> None:
        assert self._outer is not None
        deadline = time.monotonic() + BOOT
        notices.settimeout(0.5)  # short turns, since an end is not seen on this socket
        while True:
            assert self._outer.poll() is None, f"systemd has ended:\n{self.log}"
            assert time.monotonic() < deadline, f"systemd is not ready within {BOOT:g} s:\n{self.log}"
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in notices.recv(4096).splitlines():
                    return

    # In it

    def root(
        self, *command: str, check: bool = True, timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root, in no cgroup of the machine's. `check`: exit status 0 or AssertionError."""
        return self._run([*self._into(), *command], check=check, timeout=timeout)

    def user(
        self,
        *command: str,
        check: bool = True,
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a login session of its own."""
        return self._run([*self._session(env or {}), *command], check=check, timeout=timeout)

    def out(self, *command: str, **options: object) -> str:
        """What a command of the user's has printed, without white space around it."""
        return self.user(*command, **options).stdout.strip()  # type: ignore[arg-type]

    @contextlib.contextmanager
    def logged_in(self) -> Iterator[None]:
        """The user has a session open, and so has a service manager."""
        with subprocess.Popen(
            [*self._session({}), "sh", "-c", "echo in; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as session:
            assert session.stdin is not None
            assert session.stdout is not None
            assert session.stdout.readline() == b"in\n"
            try:
                yield
            finally:
                session.stdin.close()
                session.wait(HALT)

    @contextlib.contextmanager
    def lingering(self) -> Iterator[None]:
        """The user's service manager runs from boot to halt, sessions or none; and has ended afterwards."""
        self.root("loginctl", "enable-linger", self.owner.name)
        self.root("systemctl", "start", f"user@{self.owner.uid}.service")
        try:
            yield
        finally:
            self.root("loginctl", "disable-linger", self.owner.name)
            self.root("systemctl", "stop", f"user@{self.owner.uid}.service", f"user-{self.owner.uid}.slice")

    def manager(self, *words: str, check: bool = True) -> str:
        """What the user's `systemctl` prints; from outside any session, so that none begins or ends for it."""
        environment = [f"XDG_RUNTIME_DIR={self.runtime_dir}", f"HOME={self.home}", f"USER={self.owner.name}"]
        ids = [f"--reuid={self.owner.uid}", f"--regid={self.owner.gid}", "--init-groups"]
        command = ["setpriv", *ids, "env", *environment, "systemctl", "--user", "--no-pager", *words]
        return self.root(*command, check=check).stdout.strip()

    def cgroup_of(self, pid: int) -> str:
        """Of a process, by its number in the machine; as processes in the machine see it. Empty: it has ended."""
        told = self.root("cat", f"/proc/{pid}/cgroup", check=False).stdout.splitlines()
        return next((line.removeprefix("0::") for line in told if line.startswith("0::")), "")

    def host_pid(self, pid: int) -> int:
        """The host's number of a process that has this one in the machine."""
        for candidate in processes.family([self._first]):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{candidate}/status").read_text().splitlines():
                    words = line.split()
                    if words[0] == "NSpid:" and len(words) > 2 and int(words[2]) == pid:
                        return candidate
        raise LookupError(f"no process in the machine has the number {pid}")

    def _into(self) -> list[str]:
        namespaces = ["--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net"]
        return ["nsenter", f"--target={self._first}", *namespaces, "--wdns=/", "env", "-i", f"PATH={PATH}"]

    def _session(self, env: Mapping[str, str]) -> list[str]:
        given = {"PATH": PATH, "LANG": "C.UTF-8", "XDG_SESSION_TYPE": "tty", **env}
        return [
            *self._into(),
            *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--property=PAMName=pyman-login"),
            *(f"--property=User={self.owner.name}", f"--property=WorkingDirectory={self.home}"),
            *(f"--setenv={name}={value}" for name, value in given.items()),
        ]

    def _run(self, command: list[str], *, check: bool, timeout: float) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
        if check and done.returncode != 0:
            words = " ".join(command[-6:])
            raise AssertionError(f"… {words}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    # The end

    def close(self) -> None:
        """Power it off. AssertionError: it does not end by itself, or something of it is left. Nothing is, after it."""
        problem = ""
        if self._outer is not None:
            if self._first:
                os.kill(self._first, _POWER_OFF)
            else:
                self._outer.kill()
            try:
                self._outer.wait(HALT)
            except subprocess.TimeoutExpired:
                problem = f"systemd has not powered off within {HALT:g} s:\n{self.log}"
        if self.cgroup.is_dir():
            (self.cgroup / "cgroup.kill").write_text("1")
            if self._outer is not None:
                self._outer.wait(HALT)
            self._await_empty()
            for directory, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(directory)
            with contextlib.suppress(OSError):
                self.cgroup.parent.rmdir()  # another machine's is in it
        shutil.rmtree(self.path)
        assert not problem, problem

    def _await_empty(self) -> None:
        """Until no process is in the cgroup, which the kernel tells by a change of the file."""
        with (self.cgroup / "cgroup.events").open() as events:
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            deadline = time.monotonic() + HALT
            while "populated 0" not in events.read() and time.monotonic() < deadline:
                poll.poll(100)
                events.seek(0)
