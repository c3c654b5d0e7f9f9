"""What stands in config.json of a container with a user namespace, and what is made in its root filesystem."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.spec import Namespace
from pyman.errors import CommandNotExecutable, InvalidArgument, StorageFailed
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.oci import host, namespaces
from supervisor.oci.accounts import account_files
from supervisor.oci.build import build_exec, write_files
from supervisor.oci.mountpoints import make_mount_points
from supervisor.oci.request import Account, ExecBuildRequest, UserNamespace
from supervisor.oci.spec import Mount
from supervisor.oci.users import largest_id
from tests.oci.support import built, request

if TYPE_CHECKING:
    from supervisor.oci.request import BuildRequest

LINES = (IdRange(0, 100_000, 1000),)
MAPS = IdMaps(LINES, LINES)


def _asked(maps: IdMaps = MAPS, path: str = "", **spec: Any) -> BuildRequest:
    return msgspec.structs.replace(request(**spec), userns=UserNamespace(maps, path))


def _mounts(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in config["mounts"]}


def test_a_new_namespace_stands_first_with_its_maps() -> None:
    linux = built(_asked())["linux"]
    assert linux["namespaces"][0] == {"type": "user"}
    line = {"containerID": 0, "hostID": 100_000, "size": 1000}
    assert linux["uidMappings"] == linux["gidMappings"] == [line]


def test_one_that_is_joined_has_a_path_and_its_maps_too() -> None:
    linux = built(_asked(path="/proc/5/ns/user"))["linux"]
    assert linux["namespaces"][0] == {"type": "user", "path": "/proc/5/ns/user"}
    assert linux["uidMappings"]


def test_lines_are_cut_where_those_of_the_namespace_around_end(monkeypatch: pytest.MonkeyPatch) -> None:
    around = (IdRange(0, 1000, 1), IdRange(1, 100_000, 499), IdRange(500, 300_000, 9500))
    changed = msgspec.structs.replace(host.this_host(), id_maps=IdMaps(around, around))
    monkeypatch.setattr(namespaces, "this_host", lambda: changed)
    lines = (IdRange(0, 1, 1000),)
    told = built(_asked(IdMaps(lines, lines)))["linux"]["uidMappings"]
    assert [tuple(line.values()) for line in told] == [(0, 1, 499), (499, 500, 501)]


def test_what_shows_a_namespace_of_the_hosts_is_bound() -> None:
    hosts = Namespace("host")
    own = _mounts(built(_asked()))
    assert [own[path]["type"] for path in ("/proc", "/sys")] == ["proc", "sysfs"]
    theirs = _mounts(built(_asked(pidns=hosts, netns=hosts, ipcns=hosts)))
    for path in ("/proc", "/sys"):
        assert theirs[path]["type"] == "bind"
        assert "rbind" in theirs[path]["options"]
    assert theirs.get("/dev/mqueue", {}).get("type") in (None, "bind")


def test_the_group_of_terminals_is_used_where_it_exists() -> None:
    assert "gid=5" in _mounts(built(_asked()))["/dev/pts"]["options"]
    lines = (IdRange(0, 100_000, 5),)
    assert "gid=5" not in _mounts(built(_asked(IdMaps(lines, lines))))["/dev/pts"]["options"]


def test_a_sysctl_of_a_group_is_left_out_where_there_is_no_such_group() -> None:
    name = "net.ipv4.ping_group_range"
    assert name in built(_asked())["linux"]["sysctl"]
    lines = (IdRange(5, 100_000, 5),)
    assert name not in built(_asked(IdMaps(lines, lines), user="5:5"))["linux"].get("sysctl", {})


@pytest.mark.parametrize("user", ["1000", "0:1000"])
def test_a_user_whom_the_namespace_does_not_have_is_refused(user: str) -> None:
    with pytest.raises(InvalidArgument, match="id 1000: the container's user namespace does not have it"):
        built(_asked(user=user))


@pytest.mark.parametrize("line", [IdRange(0, 0, 100_000), IdRange(65_534, 5, 1), IdRange(0, 65_534, 1)])
def test_the_id_that_the_kernel_shows_for_none_is_one_like_others(line: IdRange) -> None:
    """65534: nobody's on most systems."""
    user = f"{line.inside + min(line.size - 1, 65_534)}"
    config = built(_asked(IdMaps((line,), (line,)), user=f"{user}:{user}"))
    assert config["process"]["user"]["uid"] == int(user)


def test_kept_groups_are_an_annotation_for_the_runtime() -> None:
    config = built(request(groups=["keep-groups"]))
    assert config["annotations"]["run.oci.keep_original_groups"] == "1"
    assert "additionalGids" not in config["process"]["user"]


# /etc/passwd and /etc/group


def _with_account(root: Path, bundle: Path, account: Account) -> BuildRequest:
    asked = request(str(root), user=f"{account.uid}:{account.gid}")
    return msgspec.structs.replace(asked, account=account, run_directory=str(bundle))


def test_an_unknown_user_gets_an_entry_in_a_copy(rootfs: Path, tmp_path: Path) -> None:
    before = (rootfs / "etc/passwd").read_text()
    asked = _with_account(rootfs, tmp_path, Account("alice", 1234, 1235))
    write_files(asked)
    found = _mounts(built(asked))
    passwd, group = (Path(found[name]["source"]).read_text() for name in ("/etc/passwd", "/etc/group"))
    assert passwd == f"{before}alice:*:1234:1235::/:/bin/sh\n"
    assert group.endswith("\nalice:x:1235:alice\n")
    assert (rootfs / "etc/passwd").read_text() == before


@pytest.mark.parametrize("account", [Account("alice", 1000, 1000), Account("worker", 1234, 1000)])
def test_a_name_or_a_number_that_is_taken_stays_as_it_is(
    rootfs: Path, tmp_path: Path, account: Account
) -> None:
    found = _mounts(built(_with_account(rootfs, tmp_path, account)))
    assert "/etc/passwd" not in found


def test_the_entry_is_one_that_commands_can_name(rootfs: Path, tmp_path: Path) -> None:
    asked = _with_account(rootfs, tmp_path, Account("alice", 1234, 1235))
    named = msgspec.structs.replace(asked.spec, user="alice:alice", work_dir="/tmp")
    config = built(msgspec.structs.replace(asked, spec=named))
    assert config["process"]["user"]["uid"] == 1234
    assert config["process"]["user"]["gid"] == 1235
    assert "HOME=/tmp" in config["process"]["env"]
    session = json.loads(build_exec(ExecBuildRequest(container=asked, command=["id"], user="alice")))
    assert session["user"]["uid"] == 1234


def test_a_working_directory_makes_no_further_line(rootfs: Path, tmp_path: Path) -> None:
    asked = _with_account(rootfs, tmp_path, Account("alice", 1234, 1235))
    odd = msgspec.structs.replace(asked.spec, work_dir="/a\nb::0:0::/:")
    assert account_files(msgspec.structs.replace(asked, spec=odd)) == account_files(asked)


def test_a_root_filesystem_without_accounts_gets_none(tmp_path: Path) -> None:
    found = _mounts(built(_with_account(tmp_path, tmp_path, Account("alice", 1234, 1234))))
    assert not {"/etc/passwd", "/etc/group"} & set(found)


def test_a_passwd_that_is_no_file_is_an_error_and_no_hang(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    with pytest.raises(CommandNotExecutable, match="it is not a regular file"):
        built(_with_account(tmp_path, tmp_path, Account("alice", 1234, 1234)))


def test_the_largest_id_is_not_nobodys(tmp_path: Path) -> None:
    assert largest_id(str(tmp_path)) == 0
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/:\nbig:x:10:700::/:\nnobody:x:65534:65534::/:\nbad:x:y:z::/:\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nnogroup:x:65533:\nlarge:x:800:\n")
    assert largest_id(str(tmp_path)) == 800


# Mount points in a root filesystem of somebody else's


def _bind(source: Path, destination: str) -> Mount:
    return Mount(destination, "bind", str(source), [])


def test_what_is_missing_is_made_as_directory_or_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    file = tmp_path / "file"
    file.write_text("x")
    mounts = [Mount("/proc", "proc", "proc"), Mount("/dev/shm", "tmpfs", "shm"), _bind(file, "/run/a/env")]
    make_mount_points(str(root), mounts, MAPS)
    assert (root / "proc").is_dir()
    assert (root / "dev/shm").is_dir()
    assert (root / "run/a/env").read_text() == ""


def test_what_lies_on_another_mount_is_left_to_it(tmp_path: Path) -> None:
    make_mount_points(
        str(tmp_path), [Mount("/dev", "tmpfs", "tmpfs"), Mount("/dev/pts", "devpts", "devpts")], MAPS
    )
    assert os.listdir(tmp_path / "dev") == []


def test_no_link_leads_out_of_the_root_filesystem(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "run").symlink_to(outside)
    (root / "var").symlink_to("../outside")
    for path in ("/run/x", "/var/x"):
        with pytest.raises(StorageFailed, match="cannot make"):
            make_mount_points(str(root), [Mount(path, "tmpfs", "x")], MAPS)
    assert os.listdir(outside) == []


def test_containers_that_start_at_once_make_their_mount_points_together(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    def start(root: Path) -> None:
        for number in range(20):
            make_mount_points(
                str(root), [Mount(f"/{number}/a", "tmpfs", "x"), _bind(file, f"/{number}/b/c")], MAPS
            )

    for name in "abc":
        (tmp_path / name).mkdir()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(start, [tmp_path / name] * 4))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("nowhere")
    with pytest.raises(StorageFailed, match="a link that leads nowhere"):
        make_mount_points(str(tmp_path), [Mount("/run", "tmpfs", "x")], MAPS)


def test_what_the_container_may_make_itself_is_left_to_the_runtime(tmp_path: Path) -> None:
    os.chown(tmp_path, 100_000, 100_000)
    make_mount_points(str(tmp_path), [Mount("/proc", "proc", "proc")], MAPS)
    assert os.listdir(tmp_path) == []
