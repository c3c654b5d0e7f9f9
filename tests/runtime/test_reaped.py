"""How orphans ended, for containers without a monitor: exactly that process, whatever pids do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.kernel.process import ProcessRef
from supervisor.runtime.services import REAPED_KEPT, Reaped

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pid_that_was_used_before_tells_nothing_about_the_next_process() -> None:
    reaped = Reaped()
    reaped.note(ProcessRef(100, 5), 7 << 8)
    assert reaped.status_of(ProcessRef(100, 9)) is None
    reaped.note(ProcessRef(100, 9), 9)
    assert reaped.status_of(ProcessRef(100, 9)) == 9


def test_a_status_can_be_asked_for_again_when_recording_it_has_failed() -> None:
    reaped = Reaped()
    reaped.note(ProcessRef(100, 5), 7 << 8)
    assert [reaped.status_of(ProcessRef(100, 5)) for _ in range(2)] == [7 << 8, 7 << 8]


def test_only_the_last_ones_are_kept() -> None:
    reaped = Reaped()
    for pid in range(REAPED_KEPT + 1):
        reaped.note(ProcessRef(pid, 1), 0)
    assert reaped.status_of(ProcessRef(0, 1)) is None
    assert reaped.status_of(ProcessRef(REAPED_KEPT, 1)) == 0


def test_what_the_keeper_wrote_down_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "reaped"
    path.write_text("100 5 1792\nhalf a li")
    reaped = Reaped()
    reaped.read(str(path))
    assert reaped.status_of(ProcessRef(100, 5)) == 1792
    assert not path.exists()
    reaped.read(str(path))
