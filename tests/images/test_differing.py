"""What several layers change as a whole."""

from __future__ import annotations

import time

import pytest

from supervisor.archive.jobs import Changes
from supervisor.images.differing import combined


def changes(*, added: str = "", changed: str = "", deleted: str = "") -> Changes:
    return Changes(added=added.split(), changed=changed.split(), deleted=deleted.split())


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([changes(added="/a /a/b"), changes(deleted="/a")], ([], [], [])),
        ([changes(changed="/a /a/b"), changes(deleted="/a")], ([], [], ["/a"])),
        ([changes(deleted="/a"), changes(added="/a")], (["/a"], [], [])),
        ([changes(changed="/ab /a"), changes(deleted="/a")], (["/ab"], [], ["/a"])),
        ([changes(added="/a"), changes(changed="/a")], ([], ["/a"], [])),
    ],
)
def test_what_comes_and_goes_in_between_is_not_told(
    steps: list[Changes], expected: tuple[list[str], list[str], list[str]]
) -> None:
    reply = combined(steps)
    assert (reply.changed, reply.added, reply.deleted) == expected


def test_many_files_that_are_deleted_take_no_longer_than_as_many_that_are_added() -> None:
    paths = [f"/usr/share/doc/{number}" for number in range(20_000)]
    begun = time.process_time()
    reply = combined([Changes(added=[], changed=[], deleted=paths)])
    assert time.process_time() - begun < 2
    assert reply.deleted == sorted(paths)
