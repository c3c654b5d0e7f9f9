"""Finding runtimes that work here and choosing among them; the calls, with real runtimes."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import CommandNotFound, DeadlineExceeded, RuntimeFailed, RuntimeNotFound
from supervisor.oci.probes import begin
from supervisor.oci.runtimes import OciRuntime, Runtimes, RuntimeState, find_runtimes
from supervisor.settings.model import EngineSettings
from tests.oci.support import Life, host_settings, in_cgroups, request
from tests.support.leaks import cgroup_directories
from tests.support.runtimes import Place, hybrid_cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = '[ "$1" = --version ] && { echo "fake version 1.2.3"; exit 0; }\n'


@pytest.fixture
def fake(tmp_path: Path) -> _Fakes:
    return _Fakes(tmp_path)


class _Fakes:
    """Programs that stand in for runtimes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def program(self, name: str, script: str = VERSION + "exit 1", mode: int = 0o755) -> str:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        return str(path)

    def engine(self, runtime: str = "", **paths: str | list[str]) -> EngineSettings:
        table = {name: tuple([path] if isinstance(path, str) else path) for name, path in paths.items()}
        return EngineSettings(runtime=runtime, runtimes=table)


# Finding


async def test_the_first_path_that_is_an_executable_file_is_taken(fake: _Fakes) -> None:
    wrong = [f"{fake.directory}/none", str(fake.directory), fake.program("plain", mode=0o644)]
    right = fake.program("right")
    found = await find_runtimes(fake.engine(mine=[*wrong, right, fake.program("later")]))
    assert found.default == OciRuntime("mine", right, "1.2.3")
    assert found.warnings == ()


async def test_absent_runtimes_are_skipped(fake: _Fakes) -> None:
    found = await find_runtimes(fake.engine(kata="/none/kata", mine=fake.program("mine")))
    assert list(found.available) == ["mine"]
    with pytest.raises(RuntimeNotFound, match="cannot find an OCI runtime 'kata': there is mine"):
        found.pick("kata")


async def test_none_at_all_is_an_error(fake: _Fakes) -> None:
    with pytest.raises(RuntimeNotFound, match="cannot find an OCI runtime that works on this host: install"):
        await find_runtimes(fake.engine(runc="/none/runc"))


async def test_one_that_cannot_work_here_is_passed_over_with_one_warning(fake: _Fakes) -> None:
    unable = fake.program("crun", VERSION + "echo 'the moon is full' >&2; exit 1")
    found = await find_runtimes(fake.engine(crun=unable, runc=fake.program("runc")))
    assert found.default.name == "runc"
    assert found.warnings == (
        "the OCI runtime 'crun' cannot work on this host and is passed over: the moon is full",
    )
    with pytest.raises(
        RuntimeNotFound, match="cannot use the OCI runtime 'crun' on this host: the moon is full"
    ):
        found.pick("crun")


async def test_if_none_can_work_here_the_reasons_are_told(fake: _Fakes) -> None:
    unable = fake.program("crun", VERSION + "echo 'the moon is full' >&2; exit 1")
    with pytest.raises(RuntimeNotFound, match="'crun': the moon is full"):
        await find_runtimes(fake.engine(crun=unable))


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$", "echo 'not me' >&2; exit 1"])
async def test_one_that_cannot_tell_its_version_is_passed_over(fake: _Fakes, script: str) -> None:
    found = await find_runtimes(fake.engine(odd=fake.program("odd", script), mine=fake.program("mine")))
    assert list(found.available) == ["mine"]
    assert len(found.warnings) == 1


async def test_a_file_that_is_no_program_is_passed_over(fake: _Fakes) -> None:
    path = fake.directory / "garbage"
    path.write_bytes(b"\0\1\2")
    path.chmod(0o755)
    found = await find_runtimes(fake.engine(odd=str(path), mine=fake.program("mine")))
    assert list(found.available) == ["mine"]


async def test_a_version_that_cannot_be_read_is_no_obstacle(fake: _Fakes) -> None:
    found = await find_runtimes(fake.engine(mine=fake.program("mine", "echo hello")))
    assert found.default.version == ""


# The default


async def test_the_configured_default_is_a_name_or_a_path(fake: _Fakes) -> None:
    one, two, extra = fake.program("one"), fake.program("two"), fake.program("extra")
    for chosen, name in {"two": "two", two: "two", extra: extra}.items():
        found = await find_runtimes(fake.engine(chosen, one=one, two=two))
        assert found.default.name == name
        assert found.pick("") is found.pick(name)


@pytest.mark.parametrize("chosen", ["none", "/none", "/etc"])
async def test_a_configured_default_that_is_not_there_is_an_error(fake: _Fakes, chosen: str) -> None:
    with pytest.raises(RuntimeNotFound, match=chosen):
        await find_runtimes(fake.engine(chosen, mine=fake.program("mine")))


async def test_runc_is_preferred_unless_the_hierarchy_is_unified(
    fake: _Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = VERSION + "echo 'executable /pyman-probe-no-such-command not found' >&2; exit 1"
    engine = fake.engine(
        kata=fake.program("kata"), crun=fake.program("crun", able), runc=fake.program("runc")
    )
    for unified, name in ((False, "runc"), (True, "crun")):
        monkeypatch.setattr("supervisor.oci.runtimes.unified_hierarchy", lambda unified=unified: unified)
        assert (await find_runtimes(engine)).default.name == name


async def test_arguments_stand_before_every_verb(fake: _Fakes) -> None:
    log = fake.directory / "log"
    path = fake.program("mine", f'{VERSION}echo "$@" >> {log}')
    engine = EngineSettings(runtimes={"mine": (path,)}, runtime_flags=("--debug",))
    found = await find_runtimes(engine)
    await found.default.start("abc")
    assert log.read_text() == "--debug start abc\n"


# Picking


async def test_a_path_is_picked_if_it_is_an_executable_file(fake: _Fakes) -> None:
    known, other = fake.program("known"), fake.program("other")
    found = await find_runtimes(fake.engine(mine=known))
    assert found.pick(known).name == "mine"
    assert found.pick(other) == OciRuntime(other, other)
    assert found.pick(found.pick(other).name).path == other
    for path in ("/none", "/etc", fake.program("plain", mode=0o644)):
        with pytest.raises(RuntimeNotFound, match="it is not an executable file"):
            found.pick(path)


def test_there_is_no_guess_at_a_name() -> None:
    runc = OciRuntime("runc", "/usr/bin/runc")
    with pytest.raises(RuntimeNotFound, match="cannot find an OCI runtime 'run': there is runc"):
        Runtimes({"runc": runc}, runc, {}).pick("run")


# On this host


async def test_this_hosts_runtimes_are_found_quickly_and_nothing_is_left(tmp_path: Path) -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed")
    taken = list[float]()
    while not taken or taken[-1] >= 1:  # which a busy machine may need, but not each time
        assert len(taken) < 5, taken
        taken.append(await time_to_find(tmp_path))


async def time_to_find(directory: Path) -> float:
    begun = trio.current_time()
    asked = begin(host_settings().engine, str(directory))
    tried = [probe.trial.undo[-1] for probe in asked if probe.trial is not None]
    found = await find_runtimes(host_settings().engine, probed=asked)
    taken = trio.current_time() - begun
    assert found.pick("runc").version[0].isdigit()
    if hybrid_cgroups() and shutil.which("crun"):
        assert "hybrid" in found.unusable["crun"]
        assert found.default.name == "runc"
    assert os.listdir(directory) == []
    assert not tried or not cgroup_directories(re.compile("|".join(tried)))
    return taken


# Calls


@pytest.fixture
def runc() -> OciRuntime:
    path = shutil.which("runc")
    if path is None or os.geteuid() != 0:
        pytest.skip("needs root and runc")
    return OciRuntime("runc", path)


@pytest.fixture
def life(tmp_path: Path, rootfs: Path, runc: OciRuntime) -> Iterator[Life]:
    asked = request(str(rootfs), host_settings(), command=["sleep", "1000"])
    life = Life(Place(runc.path), tmp_path / "bundle", asked)
    yield life
    life.close()


@pytest.mark.holds_loop(0)  # the container is created by a blocking call
async def test_a_container_is_started_paused_killed_and_deleted(life: Life, runc: OciRuntime) -> None:
    assert await runc.state(life.id) is None
    done = life.call("create", "--bundle", str(life.bundle), life.id)
    assert done.returncode == 0
    created = await runc.state(life.id)
    assert created is not None
    assert created.status == "created"
    await runc.start(life.id)
    assert await runc.state(life.id) == RuntimeState("running", created.pid)
    await runc.pause(life.id)
    assert await runc.state(life.id) == RuntimeState("paused", created.pid)
    await runc.resume(life.id)
    with pytest.raises(RuntimeFailed, match="cannot delete container"):
        await runc.delete(life.id)
    pidfd = os.pidfd_open(created.pid)
    try:
        assert await runc.kill(life.id, 9, all=True)
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    await runc.delete(life.id, force=True)
    assert await runc.state(life.id) is None
    assert not in_cgroups(life.id)


async def test_what_is_gone_already_is_deleted_and_killed_without_complaint(runc: OciRuntime) -> None:
    await runc.delete("pyman-no-such-container")
    await runc.delete("pyman-no-such-container", force=True)
    assert not await runc.kill("pyman-no-such-container", 9)
    with pytest.raises(
        RuntimeFailed, match="cannot start container 'pyman-no-such-container': runc: container does"
    ):
        await runc.start("pyman-no-such-container")


async def test_a_runtime_that_does_not_answer_misses_its_deadline(fake: _Fakes) -> None:
    slow = OciRuntime("slow", fake.program("slow", "exec sleep 1000"), deadline=0.05)
    with pytest.raises(
        DeadlineExceeded, match=r"cannot kill container 'abc': slow did not answer in 0\.05 s"
    ):
        await slow.kill("abc", 9)


async def test_a_runtime_that_has_vanished_is_named() -> None:
    with pytest.raises(RuntimeNotFound, match="cannot execute the OCI runtime '/none'"):
        await OciRuntime("none", "/none").start("abc")


async def test_an_answer_that_is_no_state_is_an_error(fake: _Fakes) -> None:
    odd = OciRuntime("odd", fake.program("odd", "echo '{}'"))
    with pytest.raises(RuntimeFailed, match="odd gave no state"):
        await odd.state("abc")


async def test_a_refusal_is_translated(fake: _Fakes) -> None:
    odd = OciRuntime("odd", fake.program("odd", "echo 'executable file `x` not found' >&2; exit 1"))
    with pytest.raises(CommandNotFound):
        await odd.start("abc")
    for call in (
        odd.kill("abc", 9),
        odd.delete("abc"),
        odd.pause("abc"),
        odd.resume("abc"),
        odd.state("abc"),
    ):
        with pytest.raises(CommandNotFound):
            await call
