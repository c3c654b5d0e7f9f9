"""systemd mode in config.json, on hosts of each kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.spec import ContainerSpec, Namespace
from pyman.errors import InvalidArgument
from supervisor.oci import security, systemd_mode
from tests.oci.support import built, request, settings

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "c" * 64
OWN = ("/run", "/run/lock", "/tmp", "/var/log/journal")
V1 = "/sys/fs/cgroup/systemd"


def mounts(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in config["mounts"]}


class Flags:
    def __init__(self, flags: int) -> None:
        self.f_flag = flags


@pytest.fixture
def change_v1(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """The flags of the mount of systemd's hierarchy of v1; None: there is none."""

    def change(flags: int | None) -> None:
        def statvfs(path: str) -> Flags:
            assert path == V1
            if flags is None:
                raise FileNotFoundError(path)
            return Flags(flags)

        monkeypatch.setattr("supervisor.oci.systemd_mounts.os.statvfs", statvfs)

    return change


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/sbin/init"], True),
        (["/usr/sbin/init", "3"], True),
        (["/usr/local/sbin/init"], True),
        (["/usr/lib/systemd/systemd"], True),
        (["systemd"], True),
        (["/bin/sh", "-c", "/sbin/init"], True),
        (["/bin/sh", "-c"], False),
        (["init"], False),
        (["/bin/init"], False),
        (["sh", "/sbin/init"], False),
        (["/usr/bin/systemd-run", "x"], False),
        ([], False),
    ],
)
def test_the_command_decides(words: list[str], expected: bool) -> None:
    spec = ContainerSpec(command=words)
    assert systemd_mode.is_on(spec, init=False) is expected
    assert systemd_mode.is_on(spec, init=True) is False
    assert systemd_mode.is_on(msgspec.structs.replace(spec, systemd="false"), init=False) is False
    assert systemd_mode.is_on(msgspec.structs.replace(spec, systemd="always"), init=False) is True


def test_an_entrypoint_comes_before_the_command() -> None:
    assert systemd_mode.is_on(ContainerSpec(entrypoint=["/sbin/init"], command=["x"]), init=False)
    assert not systemd_mode.is_on(ContainerSpec(entrypoint=["x"], command=["/sbin/init"]), init=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"systemd": "on"}, "cannot use --systemd on"),
        ({"systemd": "always", "init": True}, "cannot use --init with --systemd always"),
        ({"shm_size_systemd": -1}, "cannot use --shm-size-systemd -1"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        systemd_mode.check(ContainerSpec(**fields), init=bool(fields.get("init")))


def test_it_has_tmpfs_and_a_uuid(change_host: Callable[..., None]) -> None:
    change_host(unified=True)
    config = built(request(systemd="always", shm_size_systemd=4096))
    found = mounts(config)
    for path in OWN:
        assert found[path]["type"] == "tmpfs"
        assert found[path]["options"] == ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup", "size=4096"]
    order = [mount["destination"] for mount in config["mounts"]]
    assert order.index("/run") < order.index("/run/lock")
    assert order.index("/run") < order.index("/run/.containerenv")
    assert f"container_uuid={ID[:32]}" in config["process"]["env"]
    assert "size=" not in str(mounts(built(request(systemd="always")))["/run"]["options"])
    own = built(request(systemd="always", env={"container_uuid": "own"}))
    assert "container_uuid=own" in own["process"]["env"]
    plain = built(request())
    assert "/run" not in mounts(plain)
    assert "container_uuid" not in str(plain["process"]["env"])


def test_read_only_it_has_what_it_writes_to(change_host: Callable[..., None]) -> None:
    change_host(unified=True)
    found = built(request(systemd="always", read_only_filesystem=True))["mounts"]
    assert [mount["destination"] for mount in found].count("/run") == 1
    assert "/run/lock" in mounts({"mounts": found})


def test_on_cgroup_v2_the_tree_is_writable(change_host: Callable[..., None]) -> None:
    change_host(unified=True)
    tree = mounts(built(request(systemd="always")))["/sys/fs/cgroup"]
    assert (tree["type"], tree["options"][-1]) == ("cgroup", "rw")
    tree = mounts(built(request(systemd="always", cgroupns=Namespace("host"))))["/sys/fs/cgroup"]
    assert (tree["type"], tree["source"], tree["options"][0]) == ("bind", "/sys/fs/cgroup", "bind")
    assert "rw" in tree["options"]
    assert V1 not in mounts(built(request(systemd="always")))


def test_on_cgroup_v1_systemds_hierarchy_is(
    change_host: Callable[..., None], change_v1: Callable[[int | None], None]
) -> None:
    change_host(unified=False)
    change_v1(os.ST_NOSUID | os.ST_NOEXEC)
    config = built(request(systemd="always"))
    assert mounts(config)["/sys/fs/cgroup"]["options"][-1] == "ro"
    bound = mounts(config)[V1]
    assert (bound["type"], bound["source"]) == ("bind", V1)
    assert bound["options"] == ["bind", "rprivate", "nosuid", "noexec", "rw"]
    assert security.RELEASE_AGENT in config["linux"]["maskedPaths"]
    assert security.RELEASE_AGENT not in built(request())["linux"]["maskedPaths"]
    privileged = built(request(systemd="always", privileged=True))
    assert privileged["linux"]["maskedPaths"] == [security.RELEASE_AGENT]
    change_v1(None)
    assert V1 not in mounts(built(request(systemd="always")))


def test_with_a_cgroup_namespace_on_v1_only_the_containers_own_part_is(
    change_host: Callable[..., None], change_v1: Callable[[int | None], None]
) -> None:
    change_host(unified=False)
    change_v1(0)
    own: dict[str, Any] = {"systemd": "always", "cgroupns": Namespace("private")}
    assert mounts(built(request(**own)))[V1]["source"] == f"{V1}/pyman/ctr-{ID}"
    by_systemd = msgspec.structs.replace(
        settings(), engine=msgspec.structs.replace(settings().engine, cgroup_manager="systemd")
    )
    source = mounts(built(request(chosen=by_systemd, cgroup_parent="a-b.slice", **own)))[V1]["source"]
    assert source == f"{V1}/a.slice/a-b.slice/pyman-{ID}.scope"
