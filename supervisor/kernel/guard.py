"""A program that runs another one and sees to it that nothing of that is left: neither children nor their children.

`python -I -S guard.py PARENT-PID GRACE [--copy FILE PLACE] PROGRAM ARGUMENT…`. The program runs in a process group and, where that is
permitted, a mount namespace of its own, with the guard's standard streams. SIGTERM, or the end of the parent, is
passed on to it and to all that it has started; what has not ended after GRACE seconds is killed. The guard's exit
status is the program's, or 128 and the number of the signal that ended it. `--copy`: what a program that has ended with
0 has left in a small file is written to a place that the caller has named, as the program would have done: it may be
one of the standard streams. Standard library only; nobody imports it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE_NEWNS, _MS_REC, _MS_SLAVE = 0x20000, 0x4000, 0x80000
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_KILLING = 10.0
"""Seconds in which killed processes are waited for; one that is stuck in the kernel is left to its next parent."""
_NOT_COPIED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127

_libc = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> int:
    parent, grace, program = int(argv[1]), float(argv[2]), argv[3:]
    copy: list[str] = []
    if program[0] == "--copy":
        copy, program = program[1:3], program[3:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        return 1
    if _libc.unshare(_CLONE_NEWNS) == 0:
        # What the program mounts ends with it; what others mount it sees.
        _libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None)
    try:
        pid = os.posix_spawnp(program[0], program, os.environ, setpgroup=0, setsigmask=[])
    except FileNotFoundError:
        return _NOT_FOUND
    except OSError:
        return _NOT_EXECUTABLE
    status = _wait(pid, grace)
    if status == 0 and copy:
        status = _wait(_copy(*copy), grace)
    _end_all(time.monotonic() + _KILLING)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _copy(file: str, place: str) -> int:
    """The pid of a process that does it: whoever reads from the place may not be there yet."""
    pid = os.fork()
    if pid:
        return pid
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    code = _NOT_COPIED
    try:
        with open(file, "rb") as source, open(place, "wb") as target:
            target.write(source.read())
        code = 0
    except OSError as error:
        os.write(2, f"Error: cannot write '{place}': {error.strerror}\n".encode())
    finally:
        os._exit(code)


def _wait(pid: int, grace: float) -> int:
    """The wait status of the program."""
    deadline = 0.0
    while True:
        status = _reap(pid)
        if status is not None:
            return status
        if deadline:
            heard = signal.sigtimedwait(_HEARD, max(0.0, deadline - time.monotonic()))
            if heard is None:
                _send(signal.SIGKILL)
                deadline = time.monotonic() + 0.1
        else:
            heard = signal.sigwaitinfo(_HEARD)
        if heard is not None and heard.si_signo != signal.SIGCHLD and not deadline:
            _send(signal.SIGTERM)
            deadline = time.monotonic() + grace


def _reap(pid: int) -> int | None:
    """Collect what has ended. The wait status of `pid`, if it is among that."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == pid:
                found = ended[1]
    return found


def _end_all(deadline: float) -> None:
    while _send(signal.SIGKILL) and time.monotonic() < deadline:
        signal.sigtimedwait([signal.SIGCHLD], 0.05)
        _reap(0)


def _send(number: int) -> int:
    """To every descendant; how many there were."""
    found = _descendants(os.getpid())
    for pid in found:
        with suppress(OSError):
            os.kill(pid, number)
    return len(found)


def _descendants(pid: int) -> list[int]:
    """Parents before their children: what is begun meanwhile is found the next time."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            found.append(child)
            waiting.append(child)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv))
