"""Where everything is on disk, and who may go there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import msgspec
import pytest

from pyman.errors import InvalidArgument, PermissionDenied, StorageFailed
from pyman.wire import socket_path
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.model import Options

if TYPE_CHECKING:
    from pathlib import Path

    from tests.settings.support import Machine


def _layout(machine: Machine, options: Options | None = None, uid: int = 0) -> Layout:
    return Layout.of(machine.load(options, uid=uid))


def test_the_default_supervisor_of_root(machine: Machine) -> None:
    layout = _layout(machine)
    assert layout.socket == "/run/pyman/pyman.sock"
    assert layout.events_socket == "/run/pyman/pyman-events.sock"
    assert layout.read_socket == "/run/pyman/pyman-read.sock"
    assert layout.static == "/var/lib/containers/storage/pyman"
    assert layout.database == f"{layout.static}/state.db"
    assert layout.lock_file == "/dev/shm/pyman_lock"


def test_another_root_has_paths_of_its_own(machine: Machine) -> None:
    one, two = (_layout(machine, Options(root=path)) for path in ("/srv/one", "/srv/two"))
    default = _layout(machine)
    for field in ("socket", "events_socket", "read_socket", "tmp", "static", "lock_file", "volumes"):
        assert len({getattr(layout, field) for layout in (one, two, default)}) == 3


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize(
    "root, config, variable",
    [
        ("", "", ""),
        ("/srv/x", "", ""),
        ("/srv/x/", "/etc/y", ""),
        ("", "/dev/null", ""),
        ("", "", "/dev/null"),
    ],
)
def test_the_command_line_finds_the_same_socket(
    machine: Machine, uid: int, root: str, config: str, variable: str
) -> None:
    if variable:
        machine.environ["CONTAINERS_CONF"] = variable
    options = Options(root=root or None, config=config or None)
    if root and config:
        options = Options(root=root)
    assert _layout(machine, options, uid).socket == socket_path(root, config, machine.environ, uid)


def test_a_user_without_runtime_directory_gets_one_that_the_command_line_finds_too(machine: Machine) -> None:
    del machine.environ["XDG_RUNTIME_DIR"]
    uid = 54321
    assert _layout(machine, uid=uid).socket == f"/tmp/pyman-run-{uid}/pyman/pyman.sock"
    assert _layout(machine, uid=uid).socket == socket_path("", "", machine.environ, uid)


def test_tmpdir_is_taken_as_it_is_and_the_configured_one_is_shared_with_podman(machine: Machine) -> None:
    assert _layout(machine, Options(tmpdir="/srv/t")).tmp == "/srv/t"
    machine.write("etc/containers.conf", '[engine]\ntmp_dir = "/run/libpod"\nstatic_dir = "/var/lib/libpod/"')
    layout = _layout(machine)
    assert layout.tmp == "/run/libpod/pyman"
    assert layout.static == "/var/lib/libpod/pyman"
    others = [_layout(machine, Options(root=root)).tmp for root in ("/a", "/b")]
    assert all(tmp.startswith("/run/libpod/pyman-") for tmp in others), (
        "engines with other roots share no tmp"
    )
    assert len(set(others)) == 2


def test_the_lock_file_follows_the_lock_type(machine: Machine) -> None:
    assert _layout(machine, uid=1000).lock_file == "/dev/shm/pyman_lock_1000"
    machine.write("etc/containers.conf", '[engine]\nlock_type = "file"')
    layout = _layout(machine, Options(tmpdir="/srv/t"))
    assert layout.lock_file == "/srv/t/locks"


def _own(machine: Machine, tmp_path: Path) -> Layout:
    uid = os.geteuid()
    layout = _layout(
        machine, Options(root=f"{tmp_path}/root", runroot=f"{tmp_path}/run", tmpdir=f"{tmp_path}/tmp"), uid
    )
    sockets = f"{tmp_path}/runtime/pyman"
    return type(layout)(
        **{name: getattr(layout, name) for name in layout.__struct_fields__} | {"sockets": sockets}
    )


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_directories_are_made_with_their_modes_and_made_again(machine: Machine, tmp_path: Path) -> None:
    layout = _own(machine, tmp_path)
    previous = os.umask(0o077)
    try:
        make_directories(layout)
    finally:
        os.umask(previous)
    private = (layout.static, layout.trash, layout.containers, layout.sockets, layout.exits)
    assert {_mode(path) for path in (*private, layout.socket_dir)} == {0o700}
    assert {_mode(path) for path in (layout.tmp, layout.containers_run, layout.graph_root)} == {0o711}
    os.chmod(layout.static, 0o755)
    os.rmdir(layout.exits)
    make_directories(layout)
    assert _mode(layout.static) == 0o700
    assert os.path.isdir(layout.exits)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
@pytest.mark.parametrize("name", ["static", "tmp", "sockets", "exits"])
def test_a_directory_of_another_user_is_refused(machine: Machine, tmp_path: Path, name: str) -> None:
    layout = _own(machine, tmp_path)
    make_directories(layout)
    path = getattr(layout, name)
    os.chown(path, 4321, 4321)
    with pytest.raises(PermissionDenied, match=f"'{path}': it belongs to user 4321, not 0"):
        make_directories(layout)


def test_a_directory_for_what_runs_that_another_engine_has_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    first = _own(machine, tmp_path)
    second = msgspec.structs.replace(first, static=f"{tmp_path}/other/pyman")
    make_directories(first)
    make_directories(second)  # no state was made with it yet: nobody misses it
    make_directories(first)
    (tmp_path / "root/pyman/state.db").touch()
    with pytest.raises(
        InvalidArgument, match=f"the engine with its state in '{first.static}' does: give anoth"
    ):
        make_directories(second)
    (tmp_path / "link").symlink_to(tmp_path / "root")
    make_directories(msgspec.structs.replace(first, static=f"{tmp_path}/link/pyman"))


@pytest.mark.parametrize("kind", ["link", "fifo", "file"])
def test_what_is_no_directory_is_refused(machine: Machine, tmp_path: Path, kind: str) -> None:
    """A link is one of these: whoever made it says where our files go."""
    layout = _own(machine, tmp_path)
    make_directories(layout)
    os.rmdir(layout.exits)
    if kind == "link":
        os.symlink(tmp_path, layout.exits)
    elif kind == "fifo":
        os.mkfifo(layout.exits)
    else:
        os.close(os.open(layout.exits, os.O_CREAT | os.O_WRONLY))
    with pytest.raises(PermissionDenied, match="it is not a directory"):
        make_directories(layout)


def test_a_parent_that_is_a_file_is_a_storage_error(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(StorageFailed, match="cannot make the directory"):
        make_directories(_own(machine, tmp_path))


def test_paths_of_one_container_differ_from_those_of_another(machine: Machine) -> None:
    layout = _layout(machine)
    for method in (
        "static",
        "log",
        "persist",
        "upper",
        "work",
        "run",
        "bundle",
        "rootfs",
        "pidfile",
        "conmon_pidfile",
    ):
        path = getattr(layout, f"container_{method}")
        assert path("a" * 64) != path("b" * 64)
        assert path("a" * 64).startswith((layout.static, layout.tmp))
    assert layout.exec_run("a", "x").startswith(layout.container_run("a"))
    assert layout.container_file("a", "hosts").startswith(layout.container_run("a"))
