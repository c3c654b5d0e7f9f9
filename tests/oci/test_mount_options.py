"""Options of mounts: what goes together, what is added, and what an OCI runtime gets of it."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.oci.mount_options import checked
from supervisor.oci.request import UserNamespace
from supervisor.oci.user_mounts import for_runtime, root_propagation
from supervisor.runtime.mounts.idmapping import maps_for


def test_what_goes_without_saying_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked("volume", [], "/x", rootless=False) == ["rprivate", "nosuid", "nodev", "rbind"]
    assert checked("volume", ["bind", "dev"], "/x", rootless=False) == ["bind", "dev", "private", "nosuid"]
    assert checked("tmpfs", ["suid", "shared"], "/x", rootless=False) == [
        "suid",
        "shared",
        "nodev",
        "tmpcopyup",
    ]
    assert checked("devpts", ["mode=600"], "/x", rootless=False) == ["mode=600"]
    assert checked("bind", [], "/x", "/", rootless=False) == ["rprivate", "rbind"]
    # What the file system of the source does not permit has to be said.
    monkeypatch.setattr("os.statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_NOSUID | os.ST_NOEXEC))
    assert checked("bind", ["exec"], "/x", "/", rootless=False) == ["exec", "rprivate", "nosuid", "rbind"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("tmpfs", ["size=1m", "size=2m"]),
        ("tmpfs", ["tmpcopyup", "notmpcopyup"]),
        ("tmpfs", ["size"]),
        ("tmpfs", ["bind"]),
        ("ramfs", ["size=1m"]),
        ("ramfs", ["U"]),
        ("volume", ["z", "Z"]),
        ("volume", ["copy", "nocopy"]),
        ("volume", ["O", "workdir=/w"]),
        ("volume", ["O", "upperdir=w", "workdir=/w"]),
        ("volume", ["idmap", "idmap=uids=0-0-1;gids=0-0-1"]),
        ("bind", ["nocopy"]),
        ("bind", ["ro=1"]),
        ("devpts", ["uid=-1"]),
        ("devpts", ["ro"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_destination(kind: str, options: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="'/x'"):
        checked(kind, options, "/x", "/", rootless=False)


def test_swap_is_roots() -> None:
    assert "noswap" in checked("tmpfs", ["noswap"], "/x", rootless=False)
    with pytest.raises(NotSupported, match="for root alone"):
        checked("tmpfs", ["noswap"], "/x", rootless=True)


def test_a_runtime_gets_what_it_knows() -> None:
    given = [
        "ro",
        "z",
        "U",
        "idmap=uids=0-0-1;gids=0-0-1",
        "nocopy",
        "rprivate",
        "volume-opt=a=b",
        "O",
        "rbind",
    ]
    assert for_runtime(given) == ["ro", "rprivate", "rbind"]


@pytest.mark.parametrize(
    ("every", "wanted"),
    [
        ([["rprivate"]], ""),
        ([["slave"], ["rprivate"]], "rslave"),
        ([["rslave"], ["shared"]], "shared"),
        ([["rshared"], ["slave"]], "shared"),
    ],
)
def test_the_root_follows_the_strongest(every: list[list[str]], wanted: str) -> None:
    assert root_propagation(every) == wanted


def test_ids_are_mapped_as_described() -> None:
    space = UserNamespace(IdMaps((IdRange(0, 5000, 100),), (IdRange(0, 6000, 100),)))
    assert maps_for("idmap", "/x", space) == space.maps
    found = maps_for("idmap=uids=0-7-2#@5-10-3;gids=@0-1-1", "/x", space)
    assert found == (((0, 7, 2), (5, 5010, 3)), ((0, 6001, 1),))


@pytest.mark.parametrize(
    "option",
    [
        "idmap",
        "idmap=",
        "idmap=uids=0-0-1",
        "idmap=uids=0-0-0;gids=0-0-1",
        "idmap=uids=0-1;gids=0-0-1",
        "idmap=uids=a-b-c;gids=0-0-1",
        "idmap=uids=4294967295-0-2;gids=0-0-1",
        "idmap=uids=0-0-1;uids=0-0-1",
        "idmap=uids=" + "#".join(["0-0-1"] * 400) + ";gids=0-0-1",
    ],
)
def test_a_map_that_is_none_is_refused(option: str) -> None:
    with pytest.raises(InvalidArgument, match="'/x'"):
        maps_for(option, "/x", None)
