"""Options of `run` that no other test tries on a real container; and that every option has such a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyman.cli.create import RUN_OPTIONS
from pyman.cli.options import REFUSED
from tests.storage.images import busybox
from tests.support.registry import PASSWORD, USER, image_config, tar_layer
from tests.support.runtimes import BY_USER
from tests.support.user import User, UserEngine

if TYPE_CHECKING:
    from tests.support.engine import Engine
    from tests.support.registry import Pushed, RealRegistry

pytestmark = pytest.mark.oci_runtime(*BY_USER)

TESTS = Path(__file__).resolve().parents[1]
ROOMS = ("lifecycle", "rootless", "systemd", "faults", "streams")
"""Whose tests run containers."""


def _run(engine: Engine, rootfs: Path, *options: str, script: str, env: dict[str, str] | None = None) -> str:
    return engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script, env=env)


def test_every_option_is_tried_on_a_container() -> None:
    texts = [path.read_text() for room in ROOMS for path in (TESTS / room).glob("test_*.py")]
    text = "\n".join(texts)
    untried = [
        names
        for names, letter, kind, *_ in RUN_OPTIONS
        if kind != REFUSED
        and not any(re.search(rf"--{name}(?![a-z-])", text) for name in names.split("|"))
        and not (letter and f'"-{letter}"' in text)
    ]
    assert untried == []


def test_variables_of_the_caller_come_in_and_the_default_ones_stay_out(
    shared_engine: Engine, rootfs: Path
) -> None:
    caller = {"TOLD": "by the caller", "HOME": "/of/the/caller"}
    seen = _run(shared_engine, rootfs, "--env-host", "-e", "TOLD=here", script="env", env=caller).splitlines()
    assert "TOLD=here" in seen
    assert "HOME=/of/the/caller" in seen
    bare = ("--unsetenv-all", "-e", "A=b", "--rootfs", f"{rootfs}:O", "/bin/env")
    names = {line.partition("=")[0] for line in shared_engine.out("run", "--rm", *bare).splitlines()}
    assert "A" in names
    assert not names & {"PATH", "container", "TERM"}


def test_a_mask_of_new_files(shared_engine: Engine, rootfs: Path) -> None:
    script = "umask; touch /new; stat -c %a /new"
    assert _run(shared_engine, rootfs, "--umask", "0077", script=script).split() == ["0077", "600"]
    assert _run(shared_engine, rootfs, script=script).split() == ["0022", "644"]


@pytest.mark.oci_runtime("runc", "crun")
def test_a_part_of_the_processors_time(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--cpu-period", "50000", "--cpu-quota", "20000")
    shared_engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    path = shared_engine.inspect("c")["State"]["CgroupPath"].strip("/")
    if (unified := Path("/sys/fs/cgroup", path, "cpu.max")).exists():
        assert unified.read_text().split() == ["20000", "50000"]
        return
    found = [
        Path("/sys/fs/cgroup/cpu", path, f"cpu.cfs_{name}_us").read_text() for name in ("period", "quota")
    ]
    assert found == ["50000\n", "20000\n"]


def test_an_init_of_the_users_own(shared_engine: Engine, rootfs: Path, tmp_path: Path) -> None:
    """It is the first process, and is given the command."""
    program = shared_engine.path / "first"
    program.write_text('#!/bin/sh\necho "first $$: $*"\n')
    program.chmod(0o755)
    try:
        said = _run(shared_engine, rootfs, "--init", "--init-path", str(program), script="true")
    finally:
        program.unlink()
    assert said == "first 1: -- sh -c true"
    refused = shared_engine.cli(
        *("create", "--init", "--init-path", f"{tmp_path}/none", "--rootfs", f"{rootfs}:O", "true"),
        check=False,
    )
    assert (refused.returncode, shared_engine.out("ps", "-aq")) == (125, "")
    assert f"{tmp_path}/none" in refused.stderr


def test_a_container_has_so_much_time(shared_engine: Engine, rootfs: Path) -> None:
    done = shared_engine.cli(
        *("run", "--rm", "--timeout", "2", "--rootfs", f"{rootfs}:O", "sleep", "1000"), check=False
    )
    assert done.returncode == 255  # as with Podman: conmon's word for it


def test_waits_before_restarts_grow_as_they_are_told_to(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--restart", "always", "--restart-delay", "0.02")
    growing = ("--restart-factor", "3", "--restart-maximum", "0.1")
    shared_engine.cli("run", "-d", "--name", "grows", *options, *growing, "--rootfs", f"{rootfs}:O", "false")
    assert _delays(shared_engine, "grows", 4) == [0.02, 0.06, 0.1, 0.1]
    steady = ("sh", "-c", "sleep 0.2; exit 1")
    reset = ("--restart-reset", "0.1")
    shared_engine.cli("run", "-d", "--name", "anew", *options, *reset, "--rootfs", f"{rootfs}:O", *steady)
    assert _delays(shared_engine, "anew", 3) == [0.02, 0.02, 0.02]


def _delays(engine: Engine, name: str, count: int) -> list[float]:
    events = engine.follow(0, 20, container=[name], event=["restart-scheduled"])
    return [float(next(events)["Attributes"]["delay"]) for _ in range(count)]


def test_a_startup_check_has_so_much_time(shared_engine: Engine, rootfs: Path) -> None:
    """One that takes longer counts as failed, and is ended."""
    options = (
        *("--health-cmd", "true", "--health-startup-cmd", "sleep 1000", "--health-startup-timeout", "1s"),
        *("--health-startup-interval", "100ms", "--health-startup-retries", "1", "--stop-timeout", "0"),
    )
    shared_engine.cli("run", "-d", "--name", "slow", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    next(shared_engine.follow(0, 20, container=["slow"], event=["restart"]))
    assert shared_engine.inspect("slow")["State"]["Health"]["Status"] == "starting"


def test_groups_are_mapped_by_a_name_in_subgid(shared_engine: Engine, rootfs: Path) -> None:
    """On the host that is the first of those ids; an ordinary user has them from 1 on in his engine's namespace."""
    user = User.of().name
    options = ("--subuidname", user, "--subgidname", user)
    seen = _run(shared_engine, rootfs, *options, script="cat /proc/self/gid_map")
    if isinstance(shared_engine, UserEngine):
        assert seen.split()[:2] == ["0", "1"]
        return
    (line,) = [text for text in Path("/etc/subgid").read_text().split() if text.startswith(f"{user}:")]
    assert seen.split()[:2] == ["0", line.split(":")[1]]


# Images that a run brings here


@pytest.fixture
def several(secure_registry: RealRegistry) -> tuple[Pushed, str]:
    """An index of two images, each of which tells what it is for; and where its registry's authority is."""
    files = {name: content for name, content in busybox().items() if not name.endswith("/")}
    layer = tar_layer({**files, "bin/echo": "sh"})
    members = []
    for architecture in ("amd64", "s390x"):
        config = image_config([layer], Cmd=["echo", architecture], Env=["PATH=/bin"])
        config = config.replace(b'"amd64"', f'"{architecture}"'.encode(), 1)
        members.append((secure_registry.push("tried/one", architecture, [layer], config), architecture))
    return secure_registry.push_index("tried/one", "latest", members), str(secure_registry.authority)


def test_a_run_logs_in_and_chooses_a_platform(shared_engine: Engine, several: tuple[Pushed, str]) -> None:
    image, authority = several
    place = shared_engine.path / "trusted"
    place.mkdir()
    try:
        (place / "ca.crt").write_bytes(Path(authority).read_bytes())
        place.chmod(0o755)
        if isinstance(shared_engine, UserEngine):
            shared_engine.user.owns(place)
        common = ("run", "--rm", "--quiet", "--cert-dir", str(place), "--retry-delay", "1s", "--retry", "0")
        refused = shared_engine.cli(*common, image.reference, check=False)
        assert (refused.returncode, PASSWORD in refused.stderr) == (125, False)
        creds = ("--creds", f"{USER}:{PASSWORD}")
        assert shared_engine.out(*common, *creds, "--platform", "linux/s390x", image.reference) == "s390x"
        file = str(place / "auth.json")
        login = ("login", "--authfile", file, "--cert-dir", str(place), "--username", USER)
        host = image.reference.partition("/")[0]
        shared_engine.cli(*login, "--password-stdin", host, input=PASSWORD)
        told = ("--authfile", file, "--pull", "always", "--variant", "", "--disable-content-trust")
        assert shared_engine.out(*common, *told, image.reference) == "amd64"
        parts = ("--os", "linux", "--arch", "s390x")
        assert shared_engine.out(*common, *creds, *parts, image.reference) == "s390x"
    finally:
        for path in sorted(place.iterdir()):
            path.unlink()
        place.rmdir()
        shared_engine.cli("rmi", "--all", "--force")
