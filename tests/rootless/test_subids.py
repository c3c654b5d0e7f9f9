"""What /etc/subuid gives a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.kernel.idmaps import IdRange
from supervisor.rootless.subids import Subordinate, id_map, ranges, read

if TYPE_CHECKING:
    from pathlib import Path


def test_by_name_and_by_number_and_several() -> None:
    lines = ["other:1:5", "me:100000:65536", "1000:300000:10", "  me:400000:1  ", "1001:9:9"]
    assert ranges(lines, "me", 1000) == [
        Subordinate(100_000, 65_536),
        Subordinate(300_000, 10),
        Subordinate(400_000, 1),
    ]


@pytest.mark.parametrize(
    "line",
    ["", "# me:1:2", "me", "me:1", "me:1:2:3", "me:x:2", "me:1:0", "me:-1:5", "me:4294967295:1", ":1:2"],
)
def test_what_is_no_range_is_passed_over(line: str) -> None:
    assert ranges([line, "me:7:1"], "me", 1000) == [Subordinate(7, 1)]


def test_no_id_comes_twice_and_none_lies_behind_the_last() -> None:
    assert ranges(["me:10:10", "me:19:5", "me:10:10"], "me", 1000) == [Subordinate(10, 10)]
    assert ranges(["me:4294967000:1000"], "me", 1000) == [Subordinate(4_294_967_000, 295)]


def test_the_user_is_root_and_the_others_follow_without_a_gap() -> None:
    assert id_map(1000, [Subordinate(100_000, 65_536), Subordinate(5, 2)]) == [
        IdRange(0, 1000, 1),
        IdRange(1, 100_000, 65_536),
        IdRange(65_537, 5, 2),
    ]
    assert id_map(1000, []) == [IdRange(0, 1000, 1)]


def test_a_file_that_is_not_there_gives_nothing(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none"), "me", 1000) == []
    (tmp_path / "subuid").write_bytes(b"me:1:2\n\xff\xfe:3:4\nme:5:6")
    assert read(str(tmp_path / "subuid"), "me", 1000) == [Subordinate(1, 2), Subordinate(5, 6)]
