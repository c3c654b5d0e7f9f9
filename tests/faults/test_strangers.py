"""Another ordinary user of the host gets no connection and no byte of what the engine keeps."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.conftest import Faulty

NOBODY = 65534


def as_nobody(work: Callable[[], str]) -> str:
    """What `work` says in a child process that has become an ordinary user."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writable, work().encode())
        except BaseException as problem:  # noqa: BLE001 - a forked child must not come back
            os.write(writable, repr(problem).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def sockets_of(engine: Faulty) -> list[str]:
    stem = engine.socket.removesuffix(".sock")
    return [engine.socket, f"{stem}-events.sock", f"{stem}-read.sock"]


def connect(path: str) -> str:
    """What became of a connection with a call: an errno's name, `closed`, or the answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(path)
            client.sendall(b'{"method": "io.pyman.System.Info"}\0')
            return client.recv(4096).decode() or "closed"
        except OSError as error:
            return type(error).__name__


@pytest.fixture
def secretive(faulty: Faulty, rootfs: Path) -> Faulty:
    """With a running container that has secrets in its environment, its output and its exec session."""
    faulty.path.chmod(0o755)  # what a temporary directory hides is not hidden by the engine
    script = "echo SECRET-output; echo SECRET-file > /note; sleep 1000"
    command = ("-e", "KEY=SECRET-env", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    faulty.cli("run", "-d", "--name", "vault", *command)
    faulty.cli("exec", "-d", "-e", "MORE=SECRET-exec", "vault", "sleep", "1000")
    faulty.cli("create", "--name", "resting", *command)
    return faulty


def test_none_of_the_sockets_can_be_connected_to(faulty: Faulty) -> None:
    for path in sockets_of(faulty):
        assert as_nobody(lambda path=path: connect(path)) == "PermissionError"  # type: ignore[misc]


@pytest.fixture
def opened(faulty: Faulty, tmp_path: Path) -> Iterator[list[str]]:
    """The sockets at paths that everybody can reach, and open to everybody."""
    tmp_path.chmod(0o755)
    paths = sockets_of(faulty)
    links = []
    for path in paths:
        # Another name of the same socket, outside of the private directory.
        link = f"/run/pm-test-{os.path.basename(path)}"
        os.link(path, link)
        os.chmod(link, 0o666)
        links.append(link)
    yield links
    for path, link in zip(paths, links, strict=True):
        os.unlink(link)
        os.chmod(path, 0o600)


def test_a_connection_is_refused_by_who_makes_it_even_where_the_modes_are_wrong(
    faulty: Faulty, opened: list[str]
) -> None:
    for path in opened:
        told = as_nobody(lambda path=path: connect(path))  # type: ignore[misc]
        assert told in ("closed", "ConnectionResetError", "BrokenPipeError")
        assert connect(path).startswith('{"')
    faulty.cli("ps")


def walk(top: str) -> str:
    """Everything below that can be listed or read, a line each."""
    found = []
    for directory, _, names in os.walk(top):
        if os.access(directory, os.R_OK):
            found.append(directory)
        for name in names:
            path = os.path.join(directory, name)
            if os.access(path, os.R_OK):
                found.append(path)
    return "\n".join(found)


def guessed(engine: Faulty) -> list[str]:
    """Every path of the engine's own, as somebody who can guess ids would try it. A mounted root filesystem
    and its writable layer have the container's own modes; they are reached through these directories."""
    paths = []
    for top in (engine.root / "pyman", engine.tmpdir):
        for directory, names, files in os.walk(top):
            names[:] = [name for name in names if name != "rootfs"]
            paths += [directory, *(os.path.join(directory, name) for name in files)]
    return paths


def test_nothing_of_the_state_can_be_listed_or_read_not_even_by_guessed_names(secretive: Faulty) -> None:
    assert as_nobody(lambda: walk(str(secretive.root / "pyman"))) == ""
    assert as_nobody(lambda: walk(f"{secretive.tmpdir}/containers")) == ""
    paths = guessed(secretive)
    readable = as_nobody(lambda: "\n".join(path for path in paths if os.access(path, os.R_OK)))
    assert readable.split() == []


def test_a_containers_files_are_neither_read_nor_executed_through_its_mount(secretive: Faulty) -> None:
    id = secretive.inspect("vault")["Id"]
    path = f"{secretive.tmpdir}/containers/{id}/rootfs/note"
    until(lambda: os.path.exists(path) and Path(path).read_text() == "SECRET-file\n", "it writes no file")
    assert "PermissionError" in as_nobody(lambda: Path(path).read_text())


def test_no_command_line_of_the_engine_shows_a_secret(secretive: Faulty) -> None:
    """Everybody can read command lines."""
    engine = processes.family([secretive.daemon]) | processes.mentions([str(secretive.tmpdir)])
    for pid in engine:
        try:
            text = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        assert b"SECRET-env" not in text
        assert b"SECRET-exec" not in text
