"""A container has its secrets as the installed Podman gives them to it, and keeps and loses them alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine

    Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("podman") or os.geteuid() != 0, reason="needs Podman, and root for its storage"
    ),
    pytest.mark.oci_runtime("runc"),
]

LOOK = """\
for file in /run/secrets/* /run/secrets/*/* /opt/*; do
    test ! -f $file || echo $file $(stat -c '%u:%g %a' $file) $(cat $file)
done
stat -c '%n %u:%g %a' /run/secrets
env | grep -E '^(one|two|NAME)=' | sort
"""
OPTIONS = [
    "--secret one",
    "--secret one --secret two",
    "--secret source=one,type=mount,target=/opt/one,uid=3,gid=4,mode=0600",
    "--secret one,target=sub/one,mode=777",
    "--secret one,type=env --secret two,type=env,target=NAME --env NAME=plain --env one=plain",
    "--secret one,UID=5,GID=6 --secret one,type=env,target=NAME --user worker",
]


@pytest.fixture(scope="module")
def podman() -> Iterator[Run]:
    """It refuses a run root whose path is longer than 50 characters."""
    place = tempfile.mkdtemp(prefix="pm-", dir="/tmp")
    options = [
        "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp", "--runtime", "runc",
        "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--log-level", "error",
    ]  # fmt: skip

    def run(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        line = ["podman", *options, *words]
        return subprocess.run(line, input=said, capture_output=True, text=True, check=False)

    yield run
    run("rm", "--all", "--force", "--time", "0")
    for target in reversed(mounts.mounts_below(place)):
        mounts.unmount(target, lazy=True)
    shutil.rmtree(place)


@pytest.fixture
def both(shared_engine: Engine, podman: Run) -> Iterator[tuple[Run, Run]]:
    """Both engines with the secrets `one` and `two`, and what a `create` of Podman's needs besides."""

    def theirs(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        network = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]
        if words[0] in ("create", "run"):
            words = (words[0], *network, *words[1:])
        return podman(*words, said=said)

    def ours(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return shared_engine.cli(*words, input=said, check=False)

    for run in (ours, theirs):
        for name, data in (("one", "first"), ("two", "second word")):
            assert run("secret", "create", name, "-", said=data).returncode == 0
    yield ours, theirs
    for run in (ours, theirs):
        run("rm", "--all", "--force", "--time", "0")
        assert run("secret", "rm", "--all").returncode == 0


@pytest.mark.parametrize("options", OPTIONS)
def test_a_container_sees_the_same(both: tuple[Run, Run], rootfs: Path, options: str) -> None:
    line = ["run", "--rm", *options.split(), "--rootfs", f"{rootfs}:O", "sh", "-c", LOOK]
    ours, theirs = (run(*line) for run in both)
    assert ours.returncode == theirs.returncode == 0, (ours.stderr, theirs.stderr)
    assert ours.stdout == theirs.stdout
    assert "first" in ours.stdout


@pytest.mark.parametrize(
    "option",
    ["nix", "one,type=tmpfs", "one,size=3", "one,mode=9", "one,uid=x", "type=env", "one,type=env,uid=3", "nix,type=env"],
)  # fmt: skip
def test_the_same_is_refused(both: tuple[Run, Run], rootfs: Path, option: str) -> None:
    line = ["create", "--secret", option, "--rootfs", f"{rootfs}:O", "true"]
    assert [run(*line).returncode for run in both] == [125, 125]


def test_what_becomes_of_a_secret_afterwards_means_the_same(both: tuple[Run, Run], rootfs: Path) -> None:
    told: list[list[object]] = []
    for run in both:
        secrets = ["--secret=one", "--secret=two,type=env,target=NAME"]
        script = "cat /run/secrets/one; echo :$NAME"
        run("create", "--name=c", *secrets, "--rootfs", f"{rootfs}:O", "sh", "-c", script)
        found: list[object] = []
        for name in ("one", "two"):
            assert run("secret", "rm", name).returncode == 0
            assert run("secret", "create", name, "-", said=f"new {name}").returncode == 0
        found.append(run("start", "--attach", "c").stdout)
        run("secret", "rm", "one")
        found.append(run("start", "--attach", "c").stdout)
        run("secret", "rm", "two")
        found.append(run("start", "--attach", "c").returncode)
        told.append(found)
    assert told[0] == told[1] == ["first:new two\n", "first:new two\n", 125]
