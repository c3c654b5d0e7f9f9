"""hosts and resolv.conf of a container that comes on a network, or off it, while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyman.errors import StorageFailed
from supervisor.oci.live_files import changed_hosts, changed_lines, rewrite

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = "127.0.0.1\tlocalhost\n10.1.0.5\tbox web # mine\n10.1.0.5\tother\n# 10.1.0.5 web\n"
NAMES = ["box", "web"]


@pytest.mark.parametrize(
    ("former", "now", "expected"),
    [
        (["10.1.0.5"], ["10.1.0.5"], HOSTS),
        (["10.1.0.5"], ["10.1.0.5", "fd00::5"], f"{HOSTS}fd00::5\tbox web\n"),
        # What others have written of the address stays.
        (["10.1.0.5"], [], "127.0.0.1\tlocalhost\n10.1.0.5\tother\n# 10.1.0.5 web\n"),
        # It is there already.
        ([], ["10.1.0.5"], HOSTS),
        (["127.0.0.1"], ["10.1.0.5"], HOSTS),
    ],
)
def test_its_own_addresses_come_and_go(former: list[str], now: list[str], expected: str) -> None:
    assert changed_hosts(HOSTS, former, now, NAMES) == expected


def test_what_others_have_written_stays_to_the_letter() -> None:
    odd = "# a page\x0cand another\u2028one\n10.1.0.9\tmine\r\n\n"
    assert changed_hosts(odd, ["10.1.0.5"], ["10.1.0.6"], NAMES) == f"{odd}10.1.0.6\tbox web\n"
    assert changed_lines(odd, "nameserver a\n", "nameserver b\n") == f"{odd}nameserver b\n"
    assert changed_hosts("", [], ["10.1.0.6"], NAMES) == "10.1.0.6\tbox web\n"


def test_a_file_without_a_last_newline_is_not_continued() -> None:
    assert changed_hosts("10.1.0.1 x", [], ["10.1.0.5"], ["box"]) == "10.1.0.1 x\n10.1.0.5\tbox\n"


@pytest.mark.parametrize(
    ("text", "former", "now", "expected"),
    [
        ("nameserver a\noptions x\n", "nameserver a\n", "nameserver b\n", "nameserver b\noptions x\n"),
        ("# mine\nnameserver a\n", "nameserver a\n", "nameserver a\nnameserver b\n", "# mine\nnameserver a\nnameserver b\n"),
        ("nameserver c\n", "nameserver a\n", "nameserver b\n", "nameserver c\nnameserver b\n"),
        ("nameserver b\n", "nameserver a\n", "nameserver b\n", "nameserver b\n"),
        ("x\n", "nameserver a\n", "nameserver a\n", "x\n"),
    ],
)  # fmt: skip
def test_lines_are_replaced_where_they_are(text: str, former: str, now: str, expected: str) -> None:
    assert changed_lines(text, former, now) == expected


def test_a_file_is_written_in_place(tmp_path: Path) -> None:
    file, link = tmp_path / "hosts", tmp_path / "link"
    rewrite(str(file), lambda _text: "made")
    assert not file.exists()
    file.write_bytes(b"long and \xff\n")
    file.chmod(0o640)
    inode = file.stat().st_ino
    rewrite(str(file), lambda text: text.replace("long ", ""))
    assert file.read_bytes() == b"and \xff\n"
    assert (file.stat().st_ino, file.stat().st_mode & 0o777) == (inode, 0o640)
    file.write_bytes(b"x" * ((1 << 21) + 1))
    rewrite(str(file), lambda _text: "")
    assert file.stat().st_size > 1 << 21, "it is left as it is"
    link.symlink_to(file)
    file.write_bytes(b"x")
    with pytest.raises(StorageFailed, match="cannot write"):
        rewrite(str(link), lambda _text: "y")
    assert file.read_bytes() == b"x"
