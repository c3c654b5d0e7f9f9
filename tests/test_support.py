"""The checks that every test is under: what they must find, and what they must let pass."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support import leaks, processes
from tests.support.leaks import Belongings, hierarchies
from tests.support.loopwatch import run_watched
from tests.support.rootfs import tidy
from tests.support.user_programs import copied

if TYPE_CHECKING:
    from tests.support.leaks import Host
    from tests.support.runtimes import Place


def _leftovers(before: Belongings, path: Path, whole_host: Host) -> dict[str, list[str]]:
    return before.leftovers((str(path),), whole_host)[1]


def test_a_left_descriptor_is_found(tmp_path: Path, whole_host: Host) -> None:
    before = Belongings.now()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        assert _leftovers(before, tmp_path, whole_host) == {"descriptor": [f"{descriptor} -> /dev/null"]}
    finally:
        os.close(descriptor)


def test_a_left_child_process_is_found_and_ended(
    tmp_path: Path, whole_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.1)
    before = Belongings.now()
    child = subprocess.Popen(["sleep", "60"])
    found = _leftovers(before, tmp_path, whole_host)
    assert list(found) == ["process"]
    assert "sleep 60" in found["process"][0]
    assert child.pid not in processes.children()
    child.returncode = -9  # it was reaped behind this object's back


def test_a_left_thread_is_found(tmp_path: Path, whole_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.1)
    before = Belongings.now()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="left behind")
    thread.start()
    try:
        assert list(_leftovers(before, tmp_path, whole_host)) == ["thread"]
    finally:
        leave.set()
        thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_left_mount_is_found(tmp_path: Path, whole_host: Host) -> None:
    before = Belongings.now()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert _leftovers(before, tmp_path, whole_host) == {"mount": [str(tmp_path)]}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


_CONFTEST = """
from tests.conftest import nothing_leaks, pytest_configure, whole_host
from tests.support import leaks

leaks.LOCK = {lock!r}
"""
_LEAVES = """
import os, subprocess

def test_leaves_a_mount():
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", {mount!r}], check=True)

def test_leaves_a_cgroup():
    os.mkdir({cgroup!r})

def test_leaves_an_interface():
    subprocess.run(["ip", "link", "add", {interface!r}, "type", "bridge"], check=True)

def test_leaves_nothing():
    pass
"""


def _run(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of the tests at `path` under the checks of this one."""
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={path}", f"--basetemp={path}/base"]
    return subprocess.run(
        [sys.executable, *words, *options, path / "tests"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYMAN_TESTS_ALONE": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_left_where_no_path_says_whose_it_is_fails_the_run(tmp_path: Path, workers: int) -> None:
    mount = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    cgroup = Path(hierarchies()[0]) / f"{mount.name}-{secrets.token_hex(32)}"
    interface = f"pm{secrets.token_hex(4)}"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/conftest.py").write_text(_CONFTEST.format(lock=str(tmp_path / "lock")))
    (tmp_path / "tests/test_it.py").write_text(
        _LEAVES.format(mount=str(mount), cgroup=str(cgroup), interface=interface)
    )
    try:
        done = _run(tmp_path, f"--numprocesses={workers}")
        assert done.returncode == 1, done.stderr
        if workers:
            where = f"/sys/class/net/{interface}"
            # The other worker may have seen it, too.
            for kind, path in (("mount", mount), ("cgroup", cgroup), ("interface", where)):
                (line,) = (line for line in done.stdout.splitlines() if f"{kind} {path}, left by " in line)
                assert f"tests/test_it.py::test_leaves_a{'n' * (kind == 'interface')}_{kind}" in line
            assert "4 passed" in done.stdout
        else:
            assert f"mount: {mount}\n" in done.stdout
            assert f"cgroup: {cgroup}\n" in done.stdout
            assert f"interface: /sys/class/net/{interface}\n" in done.stdout
            # Whoever else tests on this host may have something for a moment, too.
            assert re.search(r"4 passed, [3-9] errors", done.stdout)
    finally:
        subprocess.run(["umount", mount], check=True)
        mount.rmdir()
        cgroup.rmdir()
        subprocess.run(["ip", "link", "del", interface], check=True)


def test_a_step_that_computes_is_found() -> None:
    async def compute() -> None:
        end = time.thread_time() + 0.08
        while time.thread_time() < end:
            pass
        await trio.lowlevel.checkpoint()

    with pytest.raises(pytest.fail.Exception, match=r"compute: \d+ ms computing"):
        run_watched(1.0, compute)


def test_a_step_that_blocks_is_found() -> None:
    async def block() -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - the mistake that the watch is for
        await trio.lowlevel.checkpoint()

    with pytest.raises(pytest.fail.Exception, match="ms blocked"):
        run_watched(1.0, block)


@pytest.mark.holds_loop(0.5)
async def test_the_limit_can_be_widened() -> None:
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass


async def test_waiting_is_not_holding() -> None:
    await trio.sleep(0.3)


def test_the_root_file_system_runs(rootfs: Path) -> None:
    done = subprocess.run(["chroot", rootfs, "/bin/sh", "-c", "id -un"], check=True, capture_output=True)
    assert done.stdout == b"root\n"


def test_the_oci_runtime_works_in_its_place(oci_runtime: Place, rootfs: Path, tmp_path: Path) -> None:
    """A container by hand, without monitor or engine."""
    prefix = oci_runtime.prefix(str(tmp_path))
    name = f"pyman-test-{os.getpid()}"
    subprocess.run([*prefix, oci_runtime.runtime, "spec"], cwd=tmp_path, check=True)
    config = tmp_path / "config.json"
    text = (
        config.read_text().replace('"rootfs"', f'"{rootfs}"').replace('"terminal": true', '"terminal": false')
    )
    text = text.replace('"sh"', '"true"')
    start = text.index('"rlimits"')
    config.write_text(text[:start] + text[text.index("]", start) + 2 :])
    done = subprocess.run(
        [*prefix, oci_runtime.runtime, "run", name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_programs_that_are_copied_for_an_ordinary_user_can_start(tmp_path: Path) -> None:
    programs = copied(tmp_path)
    words = [str(programs / "python"), "-c", "import supervisor.daemon"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_shared_root_file_system_is_as_it_was(rootfs: Path) -> None:
    before = sorted(os.listdir(rootfs / "etc"))
    (rootfs / "etc/hosts").touch()
    tidy()
    assert sorted(os.listdir(rootfs / "etc")) == before
