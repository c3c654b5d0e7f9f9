"""Sockets taken out of another process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import borrowed
from supervisor.kernel.locks import OfdLock
from supervisor.kernel.process import ref_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.kernel.process import ProcessRef

_NOBODY = 65534
_HOLDER = """
import os, socket, sys
any_file = os.open("/dev/null", os.O_RDONLY)
pair = socket.socketpair()
sys.stdout.write("up\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@contextlib.contextmanager
def holding(*sockets: socket.socket | OfdLock) -> Iterator[ProcessRef]:
    """A process that has these, and other descriptors."""
    numbers = [each.fd if isinstance(each, OfdLock) else each.fileno() for each in sockets]
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=numbers,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        ref = ref_of(holder.pid)
        assert ref is not None
        yield ref
        holder.kill()


def bound(kind: int, address: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.bind((address, 0))
    return made


def test_they_are_the_same_ones_and_no_others() -> None:
    with bound(socket.SOCK_STREAM) as tcp, bound(socket.SOCK_DGRAM, "::1") as udp, holding(tcp, udp) as ref:
        names = [tcp.getsockname(), udp.getsockname()]
        tcp.close()
        udp.close()
        taken = borrowed.sockets_of(ref)
        try:
            assert [each.getsockname() for each in taken] == names
            assert [each.type for each in taken] == [socket.SOCK_STREAM, socket.SOCK_DGRAM]
            taken[0].listen()
            with socket.create_connection(names[0], 5), taken[0].accept()[0]:
                pass
        finally:
            for each in taken:
                each.close()
        # The holder has them still.
        with pytest.raises(OSError, match="in use"):
            socket.create_server(names[0], reuse_port=False)


def test_no_program_that_is_started_gets_them() -> None:
    with bound(socket.SOCK_STREAM) as tcp, holding(tcp) as ref:
        (taken,) = borrowed.sockets_of(ref)
        with taken:
            assert not os.get_inheritable(taken.fileno())


def test_what_it_closes_meanwhile_keeps_nobody_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a monitor closes the connection of somebody who was attached, when that one goes."""
    with bound(socket.SOCK_STREAM) as tcp, holding(tcp) as ref:
        listdir, descriptors = os.listdir, borrowed._descriptors
        # One is closed before it is looked at, the other one before it is taken.
        monkeypatch.setattr(os, "listdir", lambda path: [*listdir(path), "1000"])
        monkeypatch.setattr(borrowed, "_descriptors", lambda pid: [999, *descriptors(pid)])
        (taken,) = borrowed.sockets_of(ref)
        with taken:
            assert taken.getsockname() == tcp.getsockname()


def test_who_has_ended_has_none() -> None:
    with bound(socket.SOCK_STREAM) as tcp, holding(tcp) as ref:
        pass
    assert borrowed.sockets_of(ref) == []


def test_who_has_ended_and_was_not_waited_for_has_none() -> None:
    """Its directory of descriptors is root's by then."""
    if os.geteuid() != 0:
        pytest.skip("only root has other users' processes")
    with subprocess.Popen(["/bin/true"], user=_NOBODY, group=_NOBODY) as child:
        ref = ref_of(child.pid)
        assert ref is not None
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        os.seteuid(_NOBODY)
        try:
            assert borrowed.sockets_of(ref) == []
        finally:
            os.seteuid(0)


def test_another_process_with_its_number_is_let_alone() -> None:
    with bound(socket.SOCK_STREAM) as tcp, holding(tcp) as ref:
        assert borrowed.sockets_of(type(ref)(ref.pid, ref.start_time + 1)) == []


def test_what_is_forbidden_is_said_and_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        bound(socket.SOCK_STREAM) as first,
        bound(socket.SOCK_STREAM) as second,
        holding(first, second) as ref,
    ):
        take = borrowed._taken
        taken: list[socket.socket] = []

        def refused(pidfd: int, number: int) -> socket.socket | None:
            if taken:
                raise PermissionError(errno.EPERM, "no")
            found = take(pidfd, number)
            if found is not None:
                taken.append(found)
            return found

        monkeypatch.setattr(borrowed, "_taken", refused)
        with pytest.raises(PermissionError):
            borrowed.sockets_of(ref)
        assert [each.fileno() for each in taken] == [-1]


def test_locks_of_a_file_are_changed_by_a_descriptor_that_was_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "locks")
    with OfdLock(path) as other:
        with OfdLock(path) as held:
            assert held.try_acquire(5, 1)
            with holding(held) as ref:
                held.close()
                assert borrowed.file_of(ref, f"{path}-not") == -1
                assert not other.try_acquire(5, 1)
                with OfdLock(path, fd=borrowed.file_of(ref, path)) as taken:
                    assert taken.try_acquire(6, 1)
                    taken.release(5, 1)
                assert other.try_acquire(5, 1)
                assert not other.try_acquire(6, 1)
        assert borrowed.file_of(ref, path) == -1
        assert other.try_acquire(6, 1)
