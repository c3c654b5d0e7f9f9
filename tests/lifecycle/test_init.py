"""`--init`: an init program is the first process, passes signals on, and no zombie stays."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc", "crun", "rootless")
ORPHAN = "sh -c 'echo $$ >/tmp/orphan; kill -9 $$' & exec true"
"""Its parent ends, and it itself: the container's first process has to wait for it."""
FATE = """\
while [ ! -s /tmp/orphan ]; do :; done
at=/proc/$(cat /tmp/orphan)/status
while [ -e $at ]; do
    if grep -q '^PPid:.1$' $at 2>/dev/null && grep -q '^State:.Z' $at 2>/dev/null; then
        [ "$1" = stays ] && break
    fi
done
test -e $at && echo zombie || echo reaped
"""


def run(engine: Engine, rootfs: Path, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> None:
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", *command)


def fate(engine: Engine, expected: str) -> str:
    engine.cli("exec", "c", "sh", "-c", ORPHAN)
    return engine.out("exec", "c", "sh", "-c", FATE, "sh", expected)


def test_without_it_a_command_that_does_not_look_has_zombies(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs)
    assert shared_engine.out("exec", "c", "cat", "/proc/1/comm") == "sleep"
    assert fate(shared_engine, "stays") == "zombie"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--tty",),
        ("--interactive",),
        ("--user", "1000:1000", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
        ("--read-only",),
        ("--privileged",),
        ("--tmpfs", "/run"),
        ("--ipc", "host", "--uts", "host", "--network", "host"),
        ("--systemd", "false"),
        ("--entrypoint", "sleep"),
    ],
)
def test_with_it_there_are_none(shared_engine: Engine, rootfs: Path, options: tuple[str, ...]) -> None:
    command = ("1000",) if "--entrypoint" in options else ("sleep", "1000")
    run(shared_engine, rootfs, "--init", *options, command=command)
    told = shared_engine.out("exec", "c", "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; cat /proc/1/comm")
    assert told.split()[:4] == ["/run/podman-init", "--", "sleep", "1000"]
    assert told.split()[-1] in ("catatonit", "podman-init")
    assert fate(shared_engine, "goes") == "reaped"


def test_it_passes_signals_and_the_exit_code_on(shared_engine: Engine, rootfs: Path) -> None:
    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"
    run(shared_engine, rootfs, "--init", command=("sh", "-c", script))
    with shared_engine.spawn("logs", "-f", "c") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"up\n"
        shared_engine.cli("stop", "c")
        logs.communicate()
    assert shared_engine.inspect("c")["State"]["ExitCode"] == 5


def test_the_program_can_be_chosen(shared_engine: Engine, rootfs: Path) -> None:
    """--init-path is enough to want it."""
    busybox = shutil.which("busybox") or ""
    look = ("--rootfs", f"{rootfs}:O", "true")
    shared_engine.cli("create", "--name", "c", "--init-path", busybox, *look)
    assert shared_engine.inspect("c")["HostConfig"]["Init"] is True
    done = shared_engine.cli("start", "--attach", "c", check=False)
    assert "podman-init: applet not found" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pid", "host"), "cannot use --init with --pid host"),
        (("--systemd", "always"), "cannot use --init with --systemd always"),
        (("--init-path", "/none"), "cannot use the init '/none'"),
        (("--tmpfs", "/run/podman-init"), "cannot use --init with a mount at /run/podman-init"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], message: str
) -> None:
    done = shared_engine.cli("create", "--init", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert message in done.stderr
    assert shared_engine.out("ps", "-aq") == ""
