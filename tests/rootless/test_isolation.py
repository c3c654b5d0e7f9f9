"""What another ordinary user can do to a user's engine: nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.user import UserEngine

STRANGER = 4242
"""A uid without an account."""
CONNECT = """\
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
try:
    s.connect(sys.argv[1])
    s.sendall(b'{"method": "io.pyman.System.Info"}\\0')
    print("answered" if s.recv(100) else "closed")
except OSError as error:
    print(type(error).__name__)
"""
JOIN = """\
import os, sys
sys.path.insert(0, sys.argv[1])
from supervisor.kernel import namespaces
from supervisor.rootless import handles
try:
    namespaces.join(os.open(f"/proc/{sys.argv[2]}/ns/user", os.O_RDONLY), namespaces.NEW_USER)
    print("joined")
except OSError as error:
    print(type(error).__name__)
with handles.find(sys.argv[3]) as found:
    print(found)
"""
SIGNAL = """\
import os, sys
try:
    os.kill(int(sys.argv[1]), 9)
    print("killed")
except OSError as error:
    print(type(error).__name__)
"""
TOP = str(Path(__file__).resolve().parents[2])


def stranger(script: str, *words: str | Path) -> str:
    """What another user's Python prints."""
    argv = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--"]
    argv += ["/usr/bin/python3", "-c", script, *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_user_cannot_reach_a_socket(shared_engine: UserEngine) -> None:
    engine = shared_engine
    assert stranger(CONNECT, engine.socket) == "PermissionError"


def test_another_user_who_reaches_one_is_not_answered(shared_engine: UserEngine) -> None:
    """As if the modes of everything on the way had been changed by mistake."""
    engine = shared_engine
    for path in (engine.path, engine.runtime_dir, engine.runtime_dir / "pyman"):
        path.chmod(0o755)
    Path(engine.socket).chmod(0o666)
    try:
        # The keeper may have mended them already.
        refused = ("closed", "ConnectionResetError", "BrokenPipeError", "PermissionError")
        assert stranger(CONNECT, engine.socket) in refused
    finally:
        for path in (engine.runtime_dir / "pyman", engine.runtime_dir):
            path.chmod(0o700)
    assert engine.call("io.pyman.System.Info")


def test_root_is_nobody_there_and_is_told_apart_from_the_user(shared_engine: UserEngine) -> None:
    engine = shared_engine
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, engine.socket], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.strip() in ("closed", "ConnectionResetError", "BrokenPipeError")


@pytest.fixture
def code() -> Iterator[Path]:
    """The supervisor's package where anybody can read it."""
    directory = Path("/tmp") / f"pm-code-{os.getpid()}"
    try:
        for name in ("pyman", "supervisor"):
            shutil.copytree(f"{TOP}/{name}", directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        yield directory
    finally:
        shutil.rmtree(directory)


def test_another_user_can_neither_signal_nor_join(shared_engine: UserEngine, code: Path) -> None:
    engine = shared_engine
    engine.cli("run", "-d", "--name", "c", "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    told = engine.call("io.pyman.System.Info")["supervisor"]
    pids = [told["pid"], told["keeperPid"], engine.inspect("c")["State"]["Pid"]]
    # Whoever has the file has not the right to the namespaces.
    copied = code / "copied"
    copied.mkdir()
    shutil.copy(engine.runtime_dir / "pyman/ns_handles", copied)
    for path in (copied, copied / "ns_handles"):
        os.chown(path, STRANGER, STRANGER)
    for pid in pids:
        assert stranger(SIGNAL, pid) == "PermissionError"
        joined, found = stranger(JOIN, code, pid, copied).splitlines()
        assert joined == "PermissionError"
        assert found == "None"


def test_nothing_in_the_run_directory_can_be_read_by_others(shared_engine: UserEngine) -> None:
    engine = shared_engine
    engine.cli("run", "-d", "--name", "c", "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    engine.cli("exec", "-d", "c", "sleep", "1000")
    shown = []
    for top in (engine.runtime_dir, engine.tmpdir, engine.root / "pyman"):
        for directory, inner, files in os.walk(top):
            mode = os.stat(directory).st_mode
            if not mode & stat.S_IXOTH:
                inner.clear()  # nobody gets past it
                continue
            shown += [directory] * bool(mode & stat.S_IROTH)
            for name in files:
                status = os.lstat(f"{directory}/{name}")
                if not stat.S_ISLNK(status.st_mode) and status.st_mode & stat.S_IROTH:
                    shown.append(f"{directory}/{name}")
    assert shown == []
