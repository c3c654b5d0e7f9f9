"""A user with several ranges of subordinate ids: maps of containers go across their borders."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel.idmaps import IdRange, parse
from tests.support.runtimes import Place
from tests.support.user import USER, User, UserEngine, UserPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

RANGES = f"{USER}:700000:1000\n{USER}:800000:500\n{USER}:900000:2000\n"
FIRST, SECOND, THIRD = (IdRange(1, 700_000, 1000), IdRange(1001, 800_000, 500), IdRange(1501, 900_000, 2000))


@pytest.fixture(scope="module")
def engine(programs: Path) -> Iterator[UserEngine]:
    """In a mount namespace in which these are the ranges: the host's files stay as they are."""
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as directory:
        ranges = Path(directory) / "ranges"
        ranges.write_text(RANGES)
        ranges.chmod(0o644)
        Path(directory).chmod(0o755)
        hold = f"mount --bind {ranges} /etc/subuid && mount --bind {ranges} /etc/subgid"
        holder = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                f"{hold} && echo ready && exec sleep infinity",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        around = Place("runc", holder)
        try:
            assert holder.stdout is not None
            with holder.stdout as ready:
                assert ready.readline() == b"ready\n"
            user = User.of()
            made = UserEngine(user, programs, place=UserPlace(user, around))
            try:
                made.start()
                yield made
            finally:
                made.close()
        finally:
            around.close()


def _uids(engine: UserEngine, *options: str) -> tuple[IdRange, ...]:
    root = ("--rootfs", f"{engine.rootfs}:O", "cat", "/proc/self/uid_map")
    return parse(engine.out("run", "--rm", *options, *root))


def test_every_range_is_there(engine: UserEngine) -> None:
    assert _uids(engine) == (IdRange(0, engine.user.uid, 1), FIRST, SECOND, THIRD)


def test_a_line_across_borders_is_cut_for_the_kernel(engine: UserEngine) -> None:
    # As the container sees it, the outer ids are those of its engine's namespace.
    assert _uids(engine, "--uidmap", "0:1:3000") == (
        IdRange(0, 1, 1000),
        IdRange(1000, 1001, 500),
        IdRange(1500, 1501, 1500),
    )
    lines = _uids(engine, "--userns", "keep-id:uid=1200,gid=1200")
    assert lines == (
        IdRange(0, 1, 1000),
        IdRange(1000, 1001, 200),
        IdRange(1200, 0, 1),
        IdRange(1201, 1201, 300),
        IdRange(1501, 1501, 2000),
    )


def test_ids_of_the_host_are_found_in_whichever_range_they_are(engine: UserEngine) -> None:
    assert _uids(engine, "--uidmap", "0:@700000:10,10:@900005:2") == (IdRange(0, 1, 10), IdRange(10, 1506, 2))
    done = engine.cli(
        "create", "--uidmap", "0:@801000", "--rootfs", f"{engine.rootfs}:O", "true", check=False
    )
    assert "cannot map the host's uid 801000: it is not among the user's subordinate ids" in done.stderr


def test_auto_takes_from_all_of_them(engine: UserEngine) -> None:
    root = ("--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    engine.cli("run", "-d", "--name", "a", "--userns", "auto:size=1800", *root)
    assert _uids(engine, "--userns", "auto:size=1600") == (
        IdRange(0, 1, 1000),
        IdRange(1000, 1001, 500),
        IdRange(1500, 3301, 100),
    )
    done = engine.cli("create", "--userns", "auto:size=1800", *root, check=False)
    assert "cannot find 1800 free uids for --userns auto: 1700 are left" in done.stderr
    engine.cli("rm", "-f", "-t", "0", "a")
