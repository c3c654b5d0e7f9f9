"""Who runs the command: names from the container's own files, and nothing from the host's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyman.errors import CommandNotExecutable
from supervisor.oci.users import Identity, look_up

if TYPE_CHECKING:
    from pathlib import Path

PASSWD = """\
# a comment
root:x:0:0:root:/root:/bin/sh
bob:x:1000:1000::/home/bob:/bin/sh
broken:x:many:1::/
short:x:1
nohome:x:1002:5:::
2000:x:3000:3000::/home/digits:/bin/sh
"""
GROUP = """\
root:x:0:
bob:x:1000:
wheel:x:10:bob
kvm:x:20:al,bob
bobs:x:30:bobby
bad:x:nan:bob
"""


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return str(tmp_path)


@pytest.mark.parametrize(
    "user, groups, expected",
    [
        ("", [], Identity(0, 0, [], "/root")),
        ("", ["kvm"], Identity(0, 0, [20], "/root")),
        ("root", [], Identity(0, 0, [0], "/root")),
        ("bob", [], Identity(1000, 1000, [1000, 10, 20], "/home/bob")),
        ("1000", [], Identity(1000, 1000, [1000, 10, 20], "/home/bob")),
        ("bob:kvm", [], Identity(1000, 20, [20], "/home/bob")),
        ("bob:77", [], Identity(1000, 77, [77], "/home/bob")),
        ("bob:", [], Identity(1000, 1000, [1000, 10, 20], "/home/bob")),
        (":kvm", [], Identity(0, 20, [20], "/root")),
        ("1234", [], Identity(1234, 0, [0], "/")),
        ("1234:77", [], Identity(1234, 77, [77], "/")),
        ("bob", ["99", "wheel"], Identity(1000, 1000, [1000, 10, 20, 99], "/home/bob")),
        ("bob:bob", ["99"], Identity(1000, 1000, [1000, 99], "/home/bob")),
        ("nohome", [], Identity(1002, 5, [5], "/")),
        ("2000", [], Identity(3000, 3000, [3000], "/home/digits")),
    ],
)
def test_users_and_groups_are_found_by_name_or_number(
    root: str, user: str, groups: list[str], expected: Identity
) -> None:
    assert look_up(root, user, groups) == expected


@pytest.mark.parametrize(
    "user, groups, message",
    [
        ("nosuch", [], "cannot use the user 'nosuch': the root filesystem's /etc/passwd does not have it"),
        ("broken", [], "cannot use the user 'broken'"),
        ("short", [], "cannot use the user 'short'"),
        (
            "bob:nosuch",
            [],
            "cannot use the group 'nosuch': the root filesystem's /etc/group does not have it",
        ),
        ("bob", ["bad"], "cannot use the group 'bad'"),
        ("-1", [], "cannot use the user '-1'"),
        ("2147483648", [], "cannot use the user '2147483648': numbers go up to 2147483647"),
        ("0:2147483648", [], "cannot use the group '2147483648': numbers go up to"),
        ("0:99999999999999999999999", [], "cannot use the group '99999999999999999999999'"),
    ],
)
def test_what_cannot_be_found_is_named(root: str, user: str, groups: list[str], message: str) -> None:
    with pytest.raises(CommandNotExecutable, match=message):
        look_up(root, user, groups)


def test_numbers_need_no_files(tmp_path: Path) -> None:
    assert look_up(str(tmp_path), "5:6", ["7"]) == Identity(5, 6, [6, 7], "/")
    assert look_up(str(tmp_path), "") == Identity(0, 0, [], "/")
    with pytest.raises(CommandNotExecutable):
        look_up(str(tmp_path), "root")


def test_a_link_out_of_the_root_filesystem_ends_inside_it(root: str) -> None:
    """As the container would see it: absolute, and with as many `..` as one likes."""
    secret = f"{root}-outside"
    with open(secret, "w", encoding="utf-8") as file:
        file.write("spy:x:7:7::/spy:\n")
    for target in (secret, f"../../../../../../../..{secret}"):
        os.unlink(f"{root}/etc/passwd")
        os.symlink(target, f"{root}/etc/passwd")
        with pytest.raises(CommandNotExecutable, match="does not have it"):
            look_up(root, "spy")


def test_a_link_inside_the_root_filesystem_is_followed(root: str) -> None:
    os.rename(f"{root}/etc", f"{root}/real")
    os.symlink("/real", f"{root}/etc")
    assert look_up(root, "bob").uid == 1000


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop", "device"])
def test_what_is_no_regular_file_is_refused_without_waiting(root: str, kind: str) -> None:
    path = f"{root}/etc/passwd"
    os.unlink(path)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "device":
        if os.geteuid() != 0:
            pytest.skip("only root can make a device")
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    else:
        os.symlink("passwd", path)
    with pytest.raises(CommandNotExecutable, match="cannot read '/etc/passwd' in the root filesystem"):
        look_up(root, "bob")


def test_a_file_without_end_is_not_read_to_it(root: str) -> None:
    os.truncate(f"{root}/etc/passwd", 1 << 40)
    with pytest.raises(CommandNotExecutable, match="larger than 4 MiB"):
        look_up(root, "bob")


def test_bytes_that_are_no_text_harm_nothing(root: str) -> None:
    with open(f"{root}/etc/passwd", "ab") as file:
        file.write(b"\xff\xfe:x:7:7::/\xff:\nlast:x:8:8::/l:\n")
    assert look_up(root, "last").uid == 8
