"""A start that waits at its gate until it is wanted, with a real runc."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.oci import ahead
from supervisor.oci.ahead import StartAhead
from supervisor.oci.runtimes import OciRuntime
from tests.oci.support import Life, host_settings, request
from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.runtimes import Place

pytestmark = pytest.mark.oci_runtime("runc")
RUNC = shutil.which("runc") or "runc"


@pytest.fixture
def life(tmp_path: Path, rootfs: Path, oci_runtime: Place) -> Iterator[Life]:
    """A container that was created and has a gate; its command leaves a file."""
    root = tmp_path / "root"
    shutil.copytree(rootfs, root, symlinks=True)
    made = Life(
        oci_runtime, tmp_path / "bundle", request(str(root), host_settings(), command=["touch", "/begun"])
    )
    done = made.call("create", "--bundle", str(made.bundle), made.id)
    assert done.returncode == 0
    ahead.make_gate(str(made.bundle))
    yield made
    made.close()


def runtime(name: str = "runc") -> OciRuntime:
    return OciRuntime(name, RUNC, deadline=10.0)


def begun(life: Life, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (life.bundle.parent / "root/begun").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


async def test_it_starts_when_it_is_let_go_and_not_before(life: Life) -> None:
    call = await StartAhead.begin(runtime(), life.id, str(life.bundle))
    assert call is not None
    assert not begun(life, 0.3)
    assert await call.go()
    assert begun(life, 20)


async def test_one_that_is_dropped_starts_nothing_and_is_gone(life: Life) -> None:
    call = await StartAhead.begin(runtime(), life.id, str(life.bundle))
    assert call is not None
    await call.drop()
    assert not [pid for pid in processes.mentions([life.id]) if "start" in processes.describe(pid)]
    assert not begun(life, 0.1)


async def test_a_start_that_fails_says_so(life: Life) -> None:
    call = await StartAhead.begin(runtime(), "nobody", str(life.bundle))
    assert call is not None
    assert not await call.go()


async def test_without_a_gate_nothing_is_called(life: Life) -> None:
    (life.bundle / "gate").unlink()
    assert await StartAhead.begin(runtime(), life.id, str(life.bundle)) is None
    (life.bundle / "gate").write_text("no gate: it would not wait")
    assert await StartAhead.begin(runtime(), life.id, str(life.bundle)) is None
    assert not begun(life, 0.1)


async def test_a_gate_that_has_gone_starts_nothing(life: Life) -> None:
    call = await StartAhead.begin(runtime(), life.id, str(life.bundle))
    assert call is not None
    (life.bundle / "gate").unlink()
    assert not await call.go()
    assert not begun(life, 0.1)


async def test_only_runc_is_called_ahead(tmp_path: Path) -> None:
    """Another would not wait, and start at once what is not there yet."""
    ahead.make_gate(str(tmp_path))
    other = tmp_path / "crun"
    other.symlink_to(RUNC)
    assert await StartAhead.begin(OciRuntime("crun", str(other)), "nobody", str(tmp_path)) is None


async def test_what_cannot_be_executed_is_not_called(tmp_path: Path) -> None:
    ahead.make_gate(str(tmp_path))
    assert await StartAhead.begin(OciRuntime("runc", "/no/such/runc"), "nobody", str(tmp_path)) is None


def orphan(life: Life, id: str) -> subprocess.Popen[bytes]:
    """A call whose supervisor is no more; it stands at its gate."""
    argv = [RUNC, "--log", str(life.bundle / "gate"), "start", id]
    made = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    assert made.poll() is None
    return made


def test_one_that_was_left_is_let_go_and_waited_for(life: Life) -> None:
    with orphan(life, life.id) as left:
        ahead.let_go(str(life.bundle))
        assert left.wait(20) == 0
    assert begun(life, 20)


def test_one_that_comes_late_finds_the_gate_open(life: Life) -> None:
    ahead.let_go(str(life.bundle))
    argv = [RUNC, "--log", str(life.bundle / "gate"), "start", life.id]
    assert subprocess.run(argv, timeout=20, check=False).returncode == 0
    assert begun(life, 20)


def test_one_that_was_left_finds_nothing_once_the_container_is_forgotten(life: Life) -> None:
    with orphan(life, life.id) as left:
        life.call("delete", "--force", life.id)
        ahead.let_go(str(life.bundle))
        assert left.wait(20) != 0
    assert not begun(life, 0.1)


@pytest.mark.parametrize("there", ["nothing", "a gate", "a file", "a link"])
def test_where_nobody_waits_nothing_is_waited_for(tmp_path: Path, there: str) -> None:
    gate = tmp_path / "gate"
    if there == "a gate":
        os.mkfifo(gate)
    elif there == "a file":
        gate.write_text("not a FIFO")
    elif there == "a link":
        gate.symlink_to("/etc/passwd")
    before = time.monotonic()
    ahead.let_go(str(tmp_path))
    assert time.monotonic() - before < ahead._PATIENCE / 1000 - 0.1
