"""Views made by the kernel and by fuse-overlayfs are the same to a container, and neither is anybody's burden."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.rootless.overlays import FUSE, ConfiguredEngine, fuse_usable, overlaid, servers
from tests.support import processes, sharing
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.user import User

CHANGES = """\
set -e
rm -r /home; mkdir /home; test -z "$(ls /home)"
rm /etc/passwd; test ! -e /etc/passwd
echo new >>/etc/group
touch /mine; chown 1000:50 /mine; test "$(stat -c %u:%g /mine)" = 1000:50
mv /etc/hostname /root/renamed; ln -s /nowhere /link; mknod /fifo p
chmod 4755 /bin/busybox; test "$(stat -c %a /bin/busybox)" = 4755
stat -c '%a %u:%g' / /tmp /home/.. | sort -u | tr '\n' ' '
"""


@pytest.fixture
def configuration() -> str:
    """`[storage.options.overlay]`."""
    return ""


@pytest.fixture(scope="module", params=["kernel", "refused", "configured"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def made(user: User, programs: Path, way: str, configuration: str = "") -> Iterator[ConfiguredEngine]:
    """Not started yet."""
    engine = ConfiguredEngine(user, programs)
    if way != "kernel" and not fuse_usable(engine):
        engine.close()
        pytest.skip("the user cannot use fuse-overlayfs here")
    with overlaid(engine) if way == "refused" else contextlib.nullcontext():
        engine.configure(configuration + (f'\nmount_program = "{FUSE}"' if way == "configured" else ""))
        user.owns(engine.path)
        yield engine


@pytest.fixture
def engine(
    request: pytest.FixtureRequest, user: User, programs: Path, way: str, configuration: str
) -> Iterator[ConfiguredEngine]:
    with made(user, programs, way, configuration) as engine, sharing.owned(engine, request):
        yield engine


@pytest.fixture(scope="module")
def module_engine(user: User, programs: Path, way: str) -> Iterator[ConfiguredEngine]:
    """One for each way."""
    with made(user, programs, way) as engine, sharing.shared(engine):
        yield engine


def only(*ways: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", ways, indirect=True, scope="module")


only_fuse = only("refused", "configured")
only_configured = only("configured")
only_kernel = only("kernel")


def run(engine: ConfiguredEngine, name: str = "c", script: str = "exec sleep 1000", *more: str) -> int:
    engine.cli("run", "-d", "--name", name, *more, "--rootfs", f"{engine.rootfs}:O", "sh", "-c", script)
    pid: int = engine.inspect(name)["State"]["Pid"]
    return pid


def server(engine: ConfiguredEngine) -> int:
    [pid] = servers(engine).values()
    return pid


def remains(engine: ConfiguredEngine) -> list[str]:
    """What containers have left in the storage and in the run directory: what removes itself takes a moment."""
    pyman = engine.root / "pyman"
    places = (pyman / "containers", engine.tmpdir / "containers", pyman / "trash")
    for place in places:
        processes.wait_empty(place, 20)
    return [str(path) for place in places for path in place.iterdir()]


# What a container sees


def test_a_container_changes_everything_and_the_directory_nothing(shared_engine: ConfiguredEngine) -> None:
    engine = shared_engine
    before = sorted(path.relative_to(engine.rootfs) for path in engine.rootfs.rglob("*"))
    said = engine.out("run", "--rm", "--no-hostname", "--rootfs", f"{engine.rootfs}:O", "sh", "-c", CHANGES)
    assert said == "1777 0:0 755 0:0"
    assert sorted(path.relative_to(engine.rootfs) for path in engine.rootfs.rglob("*")) == before
    assert (engine.rootfs / "home/worker").is_dir()
    assert remains(engine) == []
    until(lambda: servers(engine) == {}, "a server stays")


def test_info_tells_which_way_it_is(engine: ConfiguredEngine, way: str) -> None:
    store = engine.call("io.pyman.System.Info")["store"]
    assert store["graphStatus"]["Native Overlay Diff"] == str(way == "kernel").lower()
    program = store["graphOptions"].get("overlay.mount_program")
    if way == "kernel":
        assert program is None
    else:
        assert program["Executable"] == FUSE
        assert "fuse-overlayfs" in program["Version"]
    if way == "refused":
        assert store["graphStatus"]["Backing Filesystem"] == "overlayfs"
    text = engine.log_text()
    assert text.count("the kernel refuses overlays here") == (way == "refused")
    run(engine)
    run(engine, "d")
    assert engine.log_text().count("the kernel refuses overlays here") == (way == "refused")
    assert len(servers(engine)) == (0 if way == "kernel" else 2)
    assert not (engine.root / "pyman/probe").exists()


# What is killed


@only_fuse
def test_a_view_outlives_the_daemon(shared_engine: ConfiguredEngine) -> None:
    engine = shared_engine
    run(engine)
    serving = server(engine)
    engine.cli("exec", "c", "touch", "/before")
    engine.kill()
    assert engine.out("exec", "c", "ls", "/before") == "/before"
    assert server(engine) == serving
    engine.cli("stop", "-t", "0", "c")
    # It ends with its mount, also for a supervisor that has not started it.
    until(lambda: servers(engine) == {}, "a server stays")
    engine.cli("start", "c")
    assert server(engine) != serving
    engine.cli("rm", "-f", "-t", "0", "c")
    assert not processes.wait_gone([serving], 20)
    assert remains(engine) == []


@only_fuse
def test_a_view_outlives_the_keeper_and_a_polite_end(shared_engine: ConfiguredEngine) -> None:
    engine = shared_engine
    run(engine)
    serving = server(engine)
    engine.kill_keeper()
    assert processes.alive(serving)
    engine.start()
    assert engine.out("exec", "c", "echo", "works") == "works"
    assert engine.stop() == 0
    assert processes.alive(serving)
    engine.start()
    assert engine.out("exec", "c", "echo", "works") == "works"
    engine.cli("rm", "-f", "-t", "0", "c")
    assert not processes.wait_gone([serving], 20)
    assert remains(engine) == []


@only_fuse
def test_a_server_is_in_a_session_of_its_own_and_is_reaped(shared_engine: ConfiguredEngine) -> None:
    engine = shared_engine
    run(engine)
    serving = server(engine)
    assert os.getsid(serving) == serving
    assert processes.parent(serving) == engine.pid
    held = processes.descriptors(serving).values()
    assert not [path for path in held if path.startswith("socket:") or "state.db" in path or ".lock" in path]
    engine.cli("rm", "-f", "-t", "0", "c")
    assert not os.path.exists(f"/proc/{serving}") or not processes.wait_gone([serving], 20)


@only_fuse
def test_a_killed_server_costs_one_run(shared_engine: ConfiguredEngine) -> None:
    engine = shared_engine
    run(engine)
    other = {pid for _, pid in servers(engine).items()}
    run(engine, "d")
    [serving] = set(servers(engine).values()) - other
    os.kill(serving, signal.SIGKILL)
    assert not processes.wait_gone([serving], 20)
    assert engine.cli("exec", "d", "ls", check=False).returncode != 0
    assert engine.out("ps", "-a", "--format", "{{.Names}}").split() == ["c", "d"]
    engine.cli("restart", "-t", "0", "d")
    assert engine.out("exec", "d", "echo", "works") == "works"
    assert engine.out("exec", "c", "echo", "works") == "works"
    engine.cli("rm", "-f", "-t", "0", "c", "d")
    assert remains(engine) == []


@only_configured
@pytest.mark.parametrize("killed", ["daemon", "keeper"])
def test_the_next_supervisor_copes_with_views_without_servers(
    shared_engine: ConfiguredEngine, killed: str
) -> None:
    engine = shared_engine
    pids = [run(engine), run(engine, "d", "exec sleep 1000", "--rm")]
    serving = list(servers(engine).values())
    for pid in serving:
        os.kill(pid, signal.SIGKILL)
    assert not processes.wait_gone(serving, 20)
    if killed == "daemon":
        engine.kill()
    else:
        engine.kill_keeper()
        os.kill(pids[0], signal.SIGKILL)
        engine.start()
    engine.cli("stop", "-t", "0", "c", check=killed == "daemon")
    engine.cli("start", "c")
    assert engine.out("exec", "c", "echo", "works") == "works"
    engine.cli("rm", "-f", "-t", "0", "c", "d")
    assert remains(engine) == []


@only_configured
def test_a_server_that_does_not_answer_delays_its_container_alone(shared_engine: ConfiguredEngine) -> None:
    engine = shared_engine
    run(engine)
    serving = server(engine)
    run(engine, "d")
    os.kill(serving, signal.SIGSTOP)
    try:
        assert engine.out("exec", "d", "echo", "works") == "works"
        engine.cli("rm", "-f", "-t", "0", "c")
        assert not processes.wait_gone([serving], 20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(serving, signal.SIGCONT)
    engine.cli("rm", "-f", "-t", "0", "d")
    assert remains(engine) == []


SLOW = """\
#!/bin/sh
[ "$1" = --version ] || read word <{gate}
exec {program} "$@"
"""


@only_configured
@pytest.mark.parametrize("goes_on", ["before", "after"])
def test_a_supervisor_that_is_killed_while_it_mounts_leaves_it_to_the_next(
    engine: ConfiguredEngine, goes_on: str
) -> None:
    """`goes_on`: before or after the next supervisor is ready."""
    assert engine.stop() == 0
    gate, program = engine.path / "gate", engine.path / "slow"
    os.mkfifo(gate, 0o600)
    program.write_text(SLOW.format(gate=gate, program=FUSE))
    program.chmod(0o755)
    engine.configure(f'mount_program = "{program}"')
    engine.user.owns(engine.path)
    engine.start()
    opened = os.open(gate, os.O_RDWR)
    engine.cli("create", "--name", "c", "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    with engine.spawn("start", "c") as client:
        try:
            while not servers(engine):
                processes.wait_gone([client.pid], 0.02)
            engine.kill(wait=False)
            if goes_on == "before":
                os.write(opened, b"word\n" * 9)
            engine.wait_ready()
            if goes_on == "after":
                os.write(opened, b"word\n" * 9)
            if engine.inspect("c")["State"]["Status"] != "running":
                engine.await_event(lambda event: event["Status"] == "start")
        finally:
            os.close(opened)
            client.kill()
    assert engine.out("exec", "c", "echo", "works") == "works"
    assert len(servers(engine)) == 1
    engine.cli("rm", "-f", "-t", "0", "c")
    assert remains(engine) == []
    until(lambda: servers(engine) == {}, "a server stays")


@only_fuse
def test_a_reset_leaves_nothing(engine: ConfiguredEngine) -> None:
    run(engine, "c", "exec sleep 1000", "--stop-timeout", "0")
    serving = server(engine)
    engine.keeper_ends()
    engine.cli("system", "reset", "-f")
    assert not processes.wait_gone([serving], 20)
    assert not (engine.root / "pyman").exists()
    assert not list((engine.tmpdir / "containers").glob("*"))
    engine.start()


@only_fuse
def test_a_reset_of_what_a_killed_supervisor_has_left_leaves_nothing(engine: ConfiguredEngine) -> None:
    run(engine, "c", "exec sleep 1000", "--stop-timeout", "0")
    serving = server(engine)
    engine.kill_keeper()
    (engine.root / "pyman/state.db").write_bytes(b"no database")
    engine.cli("system", "reset", "-f")
    assert not processes.wait_gone([serving], 20)
    assert not (engine.root / "pyman").exists()
    engine.start()


# What cannot be


@only_configured
def test_a_program_that_is_not_there_is_named_and_found_as_soon_as_it_is(engine: ConfiguredEngine) -> None:
    assert engine.stop() == 0
    program = engine.path / "bin/overlay"
    engine.configure(f'mount_program = "{program}"')
    engine.start()
    words = ("run", "--rm", "--rootfs", f"{engine.rootfs}:O", "true")
    done = engine.cli(*words, check=False)
    assert done.returncode == 125
    assert f"cannot make a copy-on-write view: '{program}' is not a program" in done.stderr
    assert "mount_program" in done.stderr
    assert engine.call("io.pyman.System.Info")["store"]["graphStatus"]["Native Overlay Diff"] == "false"
    program.parent.mkdir()
    program.symlink_to(FUSE)
    engine.cli(*words)


@only_fuse
def test_a_directory_with_the_mount_point_in_it_is_refused_before_it_can_wait_for_itself(
    shared_engine: ConfiguredEngine,
) -> None:
    engine = shared_engine
    done = engine.cli("run", "--rm", "--rootfs", "/:O", "true", check=False)
    assert done.returncode == 125
    assert "cannot mount a view of '/'" in done.stderr
    assert "its mount point lies in it" in done.stderr
    assert remains(engine) == []


@only_kernel
def test_a_directory_with_mounts_in_it_is_refused_with_the_reason(shared_engine: ConfiguredEngine) -> None:
    engine = shared_engine
    done = engine.cli("run", "--rm", "--rootfs", "/:O", "true", check=False)
    assert done.returncode == 125
    assert "cannot mount a view of '/'" in done.stderr
    assert "is mounted in it" in done.stderr
    assert remains(engine) == []


# Options


@only_configured
@pytest.mark.parametrize("configuration", ['mountopt = "nodev,noexec,threaded=0,index=off"'])
def test_options_of_the_mount_are_passed_on_or_told(engine: ConfiguredEngine) -> None:
    done = engine.cli("run", "--rm", "--rootfs", f"{engine.rootfs}:O", "true", check=False)
    assert done.returncode == 126, "noexec"
    assert '"mountopt":"index=off"' in engine.log_text()
    assert remains(engine) == []


@only_kernel
@pytest.mark.parametrize("configuration", ['mountopt = "noexec,fsync=0,metacopy=on"'])
def test_the_kernel_is_not_given_what_it_does_not_know(engine: ConfiguredEngine) -> None:
    done = engine.cli("run", "--rm", "--rootfs", f"{engine.rootfs}:O", "true", check=False)
    assert done.returncode == 126, "noexec"
    text = engine.log_text()
    assert '"mountopt":"fsync=0"' in text
    assert '"mountopt":"metacopy=on"' in text


@only_configured
@pytest.mark.parametrize("configuration", ['force_mask = "700"'])
def test_with_a_forced_mask_permissions_are_kept_beside_the_files(engine: ConfiguredEngine) -> None:
    script = "touch /x; chmod 640 /x; chown 1000 /x; stat -c '%a %u' /x; exec sleep 1000"
    run(engine, "c", script)
    assert engine.out("exec", "c", "stat", "-c", "%a %u", "/x") == "640 1000"
    [upper] = (engine.root / "pyman/containers").glob("*/upper")
    assert ".override_stat" in " ".join(os.listxattr(upper / "x"))


# In a user namespace of the container's own


@pytest.mark.parametrize("mode", ["keep-id", "nomap", "auto"])
def test_a_container_sees_owners_in_its_own_namespace(
    shared_engine: ConfiguredEngine, user: User, way: str, mode: str
) -> None:
    engine = shared_engine
    script = "stat -c %u:%g / /bin/busybox; touch /new && stat -c %u:%g /new"
    options = ("--userns", mode, "--user", "0")
    said = engine.out("run", "--rm", *options, "--rootfs", f"{engine.rootfs}:O", "sh", "-c", script).split()
    if way != "kernel":
        assert said == ["0:0", "0:0", "0:0"], "as on the disk"
    elif mode == "keep-id":
        own = f"{user.uid}:{user.gid}"
        assert said == [own, own, "0:0"]
    else:
        assert said == ["0:0", "65534:65534", "0:0"]
    assert remains(engine) == []
    until(lambda: servers(engine) == {}, "a server stays")
