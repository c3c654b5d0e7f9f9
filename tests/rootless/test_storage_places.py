"""Where an ordinary user's storage may lie, and what is said where it cannot."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import namespaces
from supervisor.rootless import handles
from tests.rootless.overlays import FUSE, ConfiguredEngine, fuse_usable, servers, stored_on
from tests.support import processes
from tests.support.engine import Leftovers
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.user import User

INODES = 400
MOST = 14
"""Files and directories that one run needs at most, all at once."""


@pytest.fixture
def options() -> str:
    """Of the file system."""
    return f"size=16m,nr_inodes={INODES}"


@pytest.fixture(params=["kernel", "fuse"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def storage(user: User, programs: Path, options: str, way: str) -> Iterator[tuple[ConfiguredEngine, Path]]:
    """An engine, and the small file system that its storage is on."""
    engine = ConfiguredEngine(user, programs)
    if way == "fuse" and not fuse_usable(engine):
        engine.close()
        pytest.skip("the user cannot use fuse-overlayfs here")
    with stored_on(engine, "tmpfs", options) as place:
        engine.configure(f'mount_program = "{FUSE}"' if way == "fuse" else "")
        user.owns(engine.path)
        try:
            engine.start()
            yield engine, place
        finally:
            print(engine.log_text())  # noqa: T201 - pytest shows it with a failure
            try:
                engine.close()
            except Leftovers as error:
                pytest.fail(str(error), pytrace=False)


def test_without_room_for_another_file_a_start_fails_as_a_whole(
    storage: tuple[ConfiguredEngine, Path],
) -> None:
    engine, place = storage
    run = ("run", "--rm", "--rootfs", f"{engine.rootfs}:O", "sh", "-c", "touch /a /b && echo works")
    assert engine.out(*run) == "works"
    settled(engine)
    ballast: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            (place / f"ballast{len(ballast)}").touch()
            ballast.append(place / f"ballast{len(ballast)}")
    outcomes = []
    for _ in range(MOST):
        done = engine.cli(*run, check=False)
        outcomes.append(done.stdout == "works\n")
        if not outcomes[-1]:
            assert "no space left on device" in done.stderr.lower()
            assert "Traceback" not in done.stderr
        settled(engine)
        until(lambda: servers(engine) == {}, "a server stays")
        ballast.pop().unlink()
    assert not outcomes[0]
    assert outcomes[-1], f"more than {MOST} files are needed"


def has_mount_namespace(engine: ConfiguredEngine) -> bool:
    """Something lives in the one that the next supervisor is to join."""
    try:
        names = json.loads((engine.runtime_dir / "pyman" / handles.NAME).read_text())
        os.close(namespaces.open_handle(bytes.fromhex(names["mnt"])))
    except OSError:
        return False
    return True


def settled(engine: ConfiguredEngine) -> None:
    pyman = engine.root / "pyman"
    for directory in (pyman / "containers", engine.tmpdir / "containers", pyman / "trash"):
        assert processes.wait_empty(directory, 5), os.listdir(directory)


@pytest.mark.parametrize("options", ["size=16m,noexec,nosuid,nodev"])
def test_what_the_file_system_forbids_is_no_concern_of_containers(
    storage: tuple[ConfiguredEngine, Path], way: str
) -> None:
    engine, _ = storage
    script = (
        "cp /bin/busybox /busybox && chmod 4755 /busybox && /busybox echo works; rm -r /home && mkdir /home"
    )
    assert engine.out("run", "--rm", "--rootfs", f"{engine.rootfs}:O", "sh", "-c", script) == "works"
    native = engine.call("io.pyman.System.Info")["store"]["graphStatus"]["Native Overlay Diff"]
    assert native == str(way == "kernel").lower()


@pytest.mark.parametrize("way", ["kernel"], indirect=True)
@pytest.mark.parametrize("options", ["size=16m"])
def test_one_that_is_read_only_is_said_in_one_line(storage: tuple[ConfiguredEngine, Path]) -> None:
    engine, place = storage
    engine.cli("create", "--rootfs", f"{engine.rootfs}:O", "true")
    assert engine.stop() == 0
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    try:
        done = engine.cli("ps", check=False)
        assert done.returncode == 125
        assert done.stderr.startswith("Error: cannot ")
        assert done.stderr.count("\n") == 1
        assert "ead-only" in done.stderr
        # Or the next supervisor joins these, where the mount stays as it was when they were made.
        until(lambda: not has_mount_namespace(engine), "a supervisor that could not start lives on")
    finally:
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
    engine.start()
