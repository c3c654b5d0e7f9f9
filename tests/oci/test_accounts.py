"""Lines for users and groups that the root filesystem does not know."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING, Any

import pytest

from pyman.errors import InvalidArgument
from supervisor.oci.accounts import account_files
from supervisor.oci.build import build
from tests.oci.support import request

if TYPE_CHECKING:
    from pathlib import Path

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh"
GROUP = "root:x:0:\nkvm:x:20:al,bob\n"


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return str(tmp_path)


def lines(root: str, **spec: Any) -> tuple[list[str], list[str]]:
    """What is added to each file."""
    found = account_files(request(root, **spec))
    for path, before in (("/etc/passwd", PASSWD), ("/etc/group", GROUP)):
        assert found.get(path, before).startswith(before.rstrip())
    passwd = found.get("/etc/passwd", "").removeprefix(PASSWD).split("\n")
    group = found.get("/etc/group", "").removeprefix(GROUP).split("\n")
    return [line for line in passwd if line], [line for line in group if line]


@pytest.mark.parametrize(
    "user, expected",
    [
        ("", ([], [])),
        ("root", ([], [])),
        ("bob", ([], [])),
        ("bob:kvm", ([], [])),
        ("1000", ([], [])),
        ("1234", (["1234:*:1234:0:container user:/:/bin/sh"], [])),
        ("1234:77", (["1234:*:1234:77:container user:/:/bin/sh"], ["77:x:77:1234"])),
        ("1234:kvm", (["1234:*:1234:20:container user:/:/bin/sh"], [])),
        ("bob:77", ([], ["77:x:77:bob"])),
    ],
)
def test_a_number_gets_a_line(root: str, user: str, expected: tuple[list[str], list[str]]) -> None:
    assert lines(root, user=user) == expected
    assert lines(root, user=user, manage_password=False) == ([], [])


def test_the_lines_can_be_given(root: str) -> None:
    given = {
        "passwd_entry": "u$USERNAME:x:$UID:$GID:$NAME:$HOME/x:/bin/false",
        "group_entry": "g$GROUPNAME:x:$GID:$USERLIST,a",
    }
    expected = (["u1234:x:1234:77:container user:/tmp/x:/bin/false"], ["g77:x:77:1234,a"])
    assert lines(root, user="1234:77", work_dir="/tmp", **given) == expected


def test_users_of_the_host_are_added_once(root: str) -> None:
    nobody = pwd.getpwnam("nobody")
    line = f"nobody:*:{nobody.pw_uid}:{nobody.pw_gid}:{nobody.pw_gecos}:/:/bin/sh"
    assert lines(root, hostusers=["nobody", str(nobody.pw_uid), "root"], user=str(nobody.pw_uid))[0] == [line]


def test_a_root_filesystem_without_such_files_gets_none(tmp_path: Path) -> None:
    assert account_files(request(str(tmp_path), user="1234:77")) == {}
    assert account_files(request("", user="1234:77")) == {}


def test_a_link_out_of_the_root_filesystem_is_followed_inside_it(root: str, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").symlink_to("/etc/other")
    assert account_files(request(root, user="1234")) == {}
    (tmp_path / "etc/other").write_text(PASSWD)
    assert lines(root, user="1234")[0] == ["1234:*:1234:0:container user:/:/bin/sh"]


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ({"passwd_entry": "a:b"}, "cannot use --passwd-entry 'a:b': it is no line with 7 fields"),
        ({"passwd_entry": "a:b:c:d:e:f:g\n"}, "cannot use --passwd-entry"),
        ({"group_entry": "a:b:c:d:e"}, "cannot use --group-entry 'a:b:c:d:e': it is no line with 4 fields"),
        ({"group_entry": "a" * 5000 + ":b:c:d"}, "cannot use --group-entry"),
        ({"passwd_entry": "a:b:c:d:e:f:g", "manage_password": False}, "together with --passwd=false"),
        ({"hostusers": ["root"], "manage_password": False}, "--hostuser together with --passwd=false"),
        ({"hostusers": ["no-such-user"]}, "cannot use --hostuser 'no-such-user': the host has no such user"),
        ({"hostusers": ["4294967295999"]}, "cannot use --hostuser '4294967295999'"),
    ],
)
def test_what_makes_no_line_is_refused_by_name(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        build(request(**spec))
