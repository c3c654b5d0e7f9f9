"""A container's network namespace inside an ordinary user's namespaces, on a machine of the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.hosts import Machine
from tests.support.user import User

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.hosts import T

__all__ = ["UserBox"]


class UserBox(Machine):
    """`netns` is the container's. Helper programs run outside of it: on the host, as root of the user's namespace."""

    def __init__(self, host: Machine) -> None:
        super().__init__()
        self._host = host
        self.directory = Path()
        """Of the user's, for what programs make."""
        self._outer = -1

    def __enter__(self) -> Self:
        user = User.of()
        self.directory = Path(tempfile.mkdtemp(prefix="pm-box-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self.directory)
        user.owns(self.directory)
        inside = "unshare --net --kill-child --fork sh -c 'echo up; exec sleep infinity'"
        argv = [
            *("nsenter", f"--net=/proc/{self._host.pid}/ns/net"),
            *("setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--init-groups", "--inh-caps=-all"),
            *(
                "unshare",
                "--user",
                "--map-root-user",
                "--mount",
                "--pid",  # so that all of it ends with its first process
                "--kill-child",
                "--fork",
                "sh",
                "-c",
                inside,
            ),
        ]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._stack.callback(self._end, holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        self._outer = _child(holder.pid)
        self.pid = _child(_child(self._outer))
        self.netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        self._stack.callback(os.close, self.netns)
        return self

    def _outside(self, words: Sequence[str]) -> list[str]:
        place = f"/proc/{self._outer}/ns"
        return [
            *("nsenter", f"--user={place}/user", f"--mount={place}/mnt", f"--net={place}/net"),
            *("env", "-C", str(self.directory), *words),
        ]

    def outside(self, *words: str, check: bool = True) -> str:
        """A command of the user's on the host."""
        done = subprocess.run(self._outside(words), capture_output=True, text=True, timeout=20, check=False)
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def has_server(self, outside: Machine) -> None:
        """The user's name server is on another host. Its answer is `answer`."""
        self.outside("sh", "-c", "echo nameserver 192.0.2.2 > resolv; mount --bind resolv /etc/resolv.conf")
        outside.answers(53, "answer", "192.0.2.2", kind="SOCK_DGRAM")

    def begins(self, *words: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
        """A program of the user's on the host, for as long as the box is there."""
        program = subprocess.Popen(
            self._outside(words),
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(self._end, program)
        return program

    def host_does(self, work: Callable[[], T]) -> T:
        """In a thread that is on the host."""
        return self._host.does(work)

    def ends(self, pid: int) -> None:
        """With the box."""

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

        self._stack.callback(kill)


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
