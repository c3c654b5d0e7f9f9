"""However a user came to a shell — login, su, cron — there is a directory for the sockets, or one clear word."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.turns import turn
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.user import User


@pytest.fixture
def shell(user: User, programs: Path) -> Iterator[UserEngine]:
    """Commands of a user for whom no supervisor runs yet."""
    with turn("fallback"):
        made = UserEngine(user, programs)
        try:
            yield made
        finally:
            shutil.rmtree(f"/tmp/pyman-run-{user.uid}", ignore_errors=True)
            made.close()


def ends(shell: UserEngine, env: dict[str, str]) -> None:
    keeper = int(shell.out("info", "--format", "{{.supervisor.keeperPid}}", env=env))
    os.kill(keeper, signal.SIGTERM)
    assert not processes.wait_gone([keeper], 10)


def test_with_a_runtime_directory_of_its_own_nothing_is_said(shell: UserEngine) -> None:
    done = shell.cli("run", "--rm", "--rootfs", str(shell.rootfs), "id", "-u")
    assert (done.stdout, done.stderr) == ("0\n", "")
    ends(shell, {})


@pytest.mark.parametrize(
    "kind, word",
    [
        ("", "is not set"),
        ("relative", "is not an absolute path"),
        ("/run/user/4711/x", "does not exist"),
        ("/root", "belongs to user 0"),
        ("/etc/passwd", "is not a directory"),
        ("read-only", "is not writable"),
    ],
)
def test_without_one_there_is_another_and_one_warning(shell: UserEngine, kind: str, word: str) -> None:
    if kind == "read-only":
        given = shell.path / "sealed"
        given.mkdir(mode=0o500)
        shell.user.owns(given)
        kind = str(given)
    env = {"XDG_RUNTIME_DIR": kind}
    root = ("--rootfs", str(shell.rootfs))
    done = shell.cli("run", "--rm", *root, "id", "-u", env=env)
    assert done.stdout == "0\n"
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    again = shell.cli("run", "--rm", *root, "id", "-u", env=env)
    assert (again.stdout, again.stderr) == ("0\n", "")
    ends(shell, env)


def test_one_that_a_stranger_has_made_is_refused(shell: UserEngine) -> None:
    fallback = Path(f"/tmp/pyman-run-{shell.user.uid}")
    fallback.mkdir()
    os.chown(fallback, 4242, 4242)
    done = shell.cli("ps", env={"XDG_RUNTIME_DIR": ""}, check=False)
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1
    assert str(fallback) in done.stderr
