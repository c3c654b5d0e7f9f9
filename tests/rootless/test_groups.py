"""`--group-add keep-groups`: files that only a group of the user's may read, from inside a container."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import make_place
from tests.support.user import User, UserEngine, UserPlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP, OTHER = 64_001, 64_002
"""Groups that nobody has."""


@pytest.fixture(scope="module")
def engine(programs: Path) -> Iterator[UserEngine]:
    """With crun, and with one more group than the user's own."""
    place = make_place("crun")
    user = User.of()
    made = UserEngine(user, programs, place=UserPlace(user, place, [user.gid, GROUP]))
    try:
        made.start()
        (made.rootfs / "secret").write_text("known\n")
        os.chown(made.rootfs / "secret", 0, GROUP)
        (made.rootfs / "secret").chmod(0o640)
        yield made
    finally:
        made.close()
        place.close()


@pytest.mark.parametrize("more", [(), ("--userns", "keep-id"), ("--userns", "nomap")])
def test_the_users_groups_are_kept(engine: UserEngine, more: tuple[str, ...]) -> None:
    options = ("run", "--rm", *more)
    root = ("--rootfs", f"{engine.rootfs}:O", "cat", "/secret")
    assert engine.cli(*options, *root, check=False).returncode != 0
    assert engine.out(*options, "--group-add", "keep-groups", *root) == "known"


def test_exec_has_them_too(engine: UserEngine) -> None:
    root = ("--rootfs", f"{engine.rootfs}:O")
    engine.cli("run", "-d", "--name", "c", "--group-add", "keep-groups", *root, "sleep", "1000")
    assert engine.out("exec", "c", "cat", "/secret") == "known"
    assert engine.inspect("c")["HostConfig"]["GroupAdd"] == ["keep-groups"]
    engine.cli("rm", "-f", "-t", "0", "c")


def test_a_group_that_the_supervisor_does_not_have_is_named(engine: UserEngine) -> None:
    place = engine.place
    assert isinstance(place, UserPlace)
    engine.place = UserPlace(engine.user, place, [engine.user.gid, GROUP, OTHER])
    try:
        root = ("--rootfs", f"{engine.rootfs}:O", "true")
        done = engine.cli("run", "--rm", "--group-add", "keep-groups", *root, check=False)
    finally:
        engine.place = place
    assert done.returncode == 125
    assert f"cannot keep the group {OTHER}: the supervisor was started without it" in done.stderr


def test_runc_cannot_and_says_so(engine: UserEngine) -> None:
    root = ("--runtime", shutil.which("runc") or "", "--rootfs", f"{engine.rootfs}:O", "true")
    done = engine.cli("run", "--rm", "--group-add", "keep-groups", *root, check=False)
    assert done.returncode == 125
    assert "use --runtime crun" in done.stderr
