"""What cannot be is refused before anything is made, and the option is named: one case of each kind.

Each topic's own tests have more of its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)


def _refused(engine: Engine, rootfs: Path, options: Sequence[str]) -> str:
    """What `run` says, which leaves nothing: no container, no volume, no event but the supervisor's own."""
    before = engine.last_seq()
    words = [option.replace("{place}", str(engine.path)) for option in options]
    done = engine.cli("run", *words, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode in (125, 126), done.stderr
    assert (done.stdout, engine.out("ps", "-aq"), engine.out("volume", "ls", "-q")) == ("", "", "")
    assert [event["Status"] for event in engine.events(before) if event["Type"] != "system"] == []
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--init", "--pid", "host"), "--init with --pid host"),
        (("--rm", "--restart", "always"), "--rm together with --restart"),
        (("--uts", "host", "--hostname", "x"), "--uts host"),
        (("--userns", "keep-id", "--uidmap", "0:1:10"), "--userns together with --uidmap"),
        (("--network", "host", "--network", "none"), "--network none together with --network host"),
        (("--cap-add", "NET_SERVE"), "--cap-add 'NET_SERVE'"),
        (("--cap-drop", "NET_SERVE"), "--cap-drop 'NET_SERVE'"),
        (("--device", "/dev/there-is-none"), "--device /dev/there-is-none"),
        (("--device-cgroup-rule", "c 10 rwm"), "--device-cgroup-rule 'c 10 rwm'"),
        (("-v", "{place}:/"), "--volume"),
        (("-v", "new-volume:/data:ro,rw"), "/data"),
        (("--tmpfs", "/"), "--tmpfs '/'"),
        (("--mount", "type=tmpfs,dst=/"), "--mount 'type=tmpfs,dst=/'"),
        (("--mount", "type=bind,src={place}/none,dst=/x"), "/none"),
        (("--volumes-from", "nobody"), "--volumes-from nobody"),
        (("--pid", "container:nobody"), "--pid container:nobody"),
        (("--ipc", "ns:/proc/self/ns/net"), "--ipc ns:/proc/self/ns/net"),
        (("--userns", "container:nobody"), "--userns container:nobody"),
        (("--requires", "nobody"), "--requires nobody"),
        (("--after", "nobody:healthy"), "--after nobody"),
        (("--user", "nobody-of-that-name"), "user 'nobody-of-that-name'"),
        (("--group-add", "none-of-that-name"), "group 'none-of-that-name'"),
        (("--security-opt", "seccomp={place}/typo.json"), "--security-opt seccomp="),
        (("--security-opt", "seccomp={place}/action.json"), "SCMP_ACT_ERNO"),
        (("--security-opt", "no-new-privilege"), "--security-opt"),
        (("--ulimit", "files=1"), "--ulimit"),
        (("--health-cmd", "true", "--health-interval", "soon"), "--health-interval"),
        (("--workdir", "/there/is/none"), "/there/is/none"),
        (("--arch", "arm64"), "--arch together with --rootfs"),
        (("--image-volume", "ignore"), "--image-volume together with --rootfs"),
        (("--stop-signal", "SIGNOTHING"), "SIGNOTHING"),
        (("--umask", "999"), "999"),
    ],
)
def test_one_of_each_kind(shared_engine: Engine, rootfs: Path, options: tuple[str, ...], named: str) -> None:
    typo = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["open"], "actoin": "SCMP_ACT_ALLOW"}]}
    files = {"typo.json": typo, "action.json": {"defaultAction": "SCMP_ACT_ERNO"}}
    for name, profile in files.items():
        (shared_engine.path / name).write_text(json.dumps(profile))
    try:
        assert named in _refused(shared_engine, rootfs, options)
    finally:
        for name in files:
            (shared_engine.path / name).unlink()


@pytest.mark.oci_runtime("runc", "crun")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--memory", "1k"), "--memory"),
        (("--memory", "10m", "--memory-swap", "5m"), "--memory-swap"),
        (("--cpus", "0.0001"), "--cpu-quota"),
        (("--cpu-shares", "1"), "--cpu-shares"),
        (("--cpuset-cpus", "4096"), "--cpuset-cpus"),
        (("--pids-limit", "many"), "--pids-limit"),
    ],
)
def test_limits_under_the_least_and_against_one_another(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], named: str
) -> None:
    assert named in _refused(shared_engine, rootfs, options)


def test_the_namespace_of_a_container_that_does_not_run(shared_engine: Engine, rootfs: Path) -> None:
    """It is started first, as what a container needs; where it cannot, nothing of the other is made."""
    shared_engine.cli("create", "--name", "owner", "--rootfs", f"{rootfs}:O", "/there/is/no/command")
    shared_engine.cli(
        "create", "--name", "guest", "--pid", "container:owner", "--rootfs", f"{rootfs}:O", "true"
    )
    done = shared_engine.cli("start", "guest", check=False)
    assert done.returncode != 0
    assert "owner" in done.stderr
    assert shared_engine.inspect("guest")["State"]["Status"] == "created"
