"""Processes that are not ours to wait for: who is meant by a pid, when it ends, and how it ended.

Rules: a pid alone never names a process; a `ProcessRef` (pid and start time) does, and it can be kept in
the state database across supervisors of one boot. Waiting is on a pidfd. The exit status of a process
that is nobody's child here comes from the kernel's pidfd record (Linux 6.15) or from its zombie.

A "wait status" is the number that wait(2) gives; `exit_code_of_status` turns it into what a shell shows.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING, Self

import msgspec
import trio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Pidfd",
    "ProcessRef",
    "begun_ns",
    "boot_id",
    "exit_code_of_status",
    "is_stopped",
    "kill",
    "open_pidfd",
    "ref_of",
    "ref_of_file",
    "words_of",
    "zombie_status",
]

_STATE, _START_TIME, _EXIT_CODE = 0, 19, 49
"""Places in /proc/PID/stat, counted after the command name: fields 3, 22 and 52."""

_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
"""ioctl PIDFD_GET_INFO with the structure's first published size."""
_INFO = struct.Struct("=QQ11Ii")
_INFO_EXIT = 1 << 3


class ProcessRef(msgspec.Struct, frozen=True):
    """One process of this boot: its pid, and its start in clock ticks since boot."""

    pid: int
    start_time: int


def _stat(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(b")") + 2 :].decode("ascii").split()


def ref_of(pid: int) -> ProcessRef | None:
    """The process that has this pid now, a zombie included; None if there is none."""
    fields = _stat(pid)
    return None if fields is None else ProcessRef(pid, int(fields[_START_TIME]))


def ref_of_file(path: str) -> ProcessRef | None:
    """The process whose pid a pid file gives. None: no such file, no pid in it, no such process.

    The pid may be another process's by now; what makes sure is up to the caller.
    """
    try:
        with open(path, "rb") as file:
            return ref_of(int(file.read(32)))
    except (FileNotFoundError, ValueError):
        return None


def words_of(pid: int) -> list[str]:
    """The command line. Empty: a thread of the kernel, a zombie, or no such process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return os.fsdecode(file.read()).split("\0")[:-1]
    except OSError:
        return []


def is_stopped(pid: int) -> bool:
    """By a signal, as with Ctrl-Z, or by a debugger: it does not go on by itself."""
    fields = _stat(pid)
    return fields is not None and fields[_STATE] in ("T", "t")


def zombie_status(pid: int) -> int | None:
    """The wait status of a process that has ended and was not waited for yet; None for any other.

    None also without the right to trace it: the kernel would say 0 then.
    """
    try:
        os.readlink(f"/proc/{pid}/ns/user")  # needs the same right
    except OSError:
        return None
    fields = _stat(pid)
    if fields is None or fields[_STATE] not in ("Z", "X"):
        return None
    return int(fields[_EXIT_CODE])


def begun_ns(ref: ProcessRef) -> int:
    """When a process was started, to a clock tick: nanoseconds since the epoch."""
    since_boot = ref.start_time * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + since_boot


def exit_code_of_status(status: int) -> int:
    """128 + signal for a process that a signal ended, else its exit code."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def boot_id() -> str:
    """Differs after every boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class Pidfd:
    """A descriptor of one process. One task at a time may `wait`; `close` wakes it with ClosedResourceError."""

    def __init__(self, fd: int, ref: ProcessRef) -> None:
        self._fd = fd
        self.ref = ref

    @property
    def fd(self) -> int:
        return self._fd

    async def wait(self) -> None:
        """Until the process has ended, which is when its last thread has."""
        if self._fd < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(self._fd)

    async def ends_within(self, seconds: float) -> bool:
        """Whether it has ended, which is waited for so long."""
        with trio.move_on_after(seconds) as scope:
            await self.wait()
        return not scope.cancelled_caught

    def exited(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return bool(poller.poll(0))

    def send_signal(self, number: int) -> bool:
        """False: the process is gone (a zombie counts as gone once it was waited for)."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return False
        return True

    def exit_status(self) -> int | None:
        """Its wait status once it has ended; None while it runs, or where the kernel does not tell."""
        if not self.exited():
            return None
        if ref_of(self.ref.pid) == self.ref:
            status = zombie_status(self.ref.pid)
            if status is not None:
                return status
        return self._recorded_status()

    def _recorded_status(self) -> int | None:
        """What the kernel kept when the process was reaped."""
        answer = array.array("B", _INFO.pack(_INFO_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(self._fd, _GET_INFO, answer, True)
        except OSError:  # an older kernel, or nothing recorded
            return None
        mask, *_, status = _INFO.unpack(answer.tobytes())
        return int(status) if mask & _INFO_EXIT else None

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        if trio.lowlevel.in_trio_run():
            trio.lowlevel.notify_closing(fd)
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_pidfd(ref: ProcessRef) -> Pidfd | None:
    """A descriptor of exactly that process; None if it is gone, also when its pid belongs to another now.

    A zombie is still there: its descriptor says at once that it has ended.
    """
    try:
        fd = os.pidfd_open(ref.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # the pid is a thread's now
            return None
        raise
    if ref_of(ref.pid) != ref:
        os.close(fd)
        return None
    return Pidfd(fd, ref)


def kill(ref: ProcessRef) -> None:
    """SIGKILL to exactly that process, if it is still there."""
    pidfd = open_pidfd(ref)
    if pidfd is not None:
        with pidfd:
            pidfd.send_signal(signal.SIGKILL)
