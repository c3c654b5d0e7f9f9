"""Numbered locks: which number an object gets, and who is kept away from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyman.errors import AlreadyRunning, LocksMismatch, PermissionDenied, StorageFailed
from supervisor.settings.model import EngineSettings
from supervisor.state.changes import Loaded, Record
from supervisor.state.locks import HEADER, Locks, hold

JOURNAL = "a" * 32


@pytest.fixture
def lock_file(tmp_path: Path) -> str:
    return str(tmp_path / "locks")


def loaded(*numbers: int | None, journal: str = JOURNAL) -> Loaded:
    records = [Record("container", str(index), "", number, b"", b"") for index, number in enumerate(numbers)]
    return Loaded(meta={}, records=records, last_seq=0, journal_id=journal)


def settings(num_locks: int = 4) -> EngineSettings:
    return EngineSettings(num_locks=num_locks)


def test_the_lowest_free_number_is_given_first(lock_file: str) -> None:
    locks = Locks.open(lock_file, settings(8), loaded(0, 1, None, 4))
    assert [locks.allocate() for _ in range(4)] == [2, 3, 5, 6]
    locks.release(4)
    locks.release(1)
    locks.release(1)
    locks.release(None)
    assert [locks.allocate() for _ in range(3)] == [1, 4, 7]
    assert locks.used == 8
    locks.close()


def test_the_file_has_room_for_num_locks_and_grows_when_they_run_out(lock_file: str) -> None:
    locks = Locks.open(lock_file, settings(4), loaded())
    assert os.path.getsize(lock_file) == HEADER + 4
    assert os.stat(lock_file).st_mode & 0o777 == 0o600
    assert [locks.allocate() for _ in range(5)] == list(range(5))
    assert locks.size == 8
    assert os.path.getsize(lock_file) == HEADER + 8
    locks.close()
    # The size that it has grown to stays, whatever the setting says.
    for num_locks, size in ((4, 8), (100, 100), (4, 100)):
        locks = Locks.open(lock_file, settings(num_locks), loaded(0))
        assert locks.size == size
        locks.close()


def test_a_file_that_is_gone_is_made_again_for_the_recorded_numbers(lock_file: str) -> None:
    """/dev/shm is empty after a reboot."""
    locks = Locks.open(lock_file, settings(4), loaded(0, 17))
    assert locks.size >= 18
    assert locks.allocate() == 1
    locks.close()


def test_a_second_process_is_kept_away_until_the_first_ends(lock_file: str) -> None:
    program = (
        "import sys\n"
        "from supervisor.state.locks import hold_all\n"
        "held = hold_all(sys.argv[1])\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, lock_file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning, match="another process holds it"):
            Locks.open(lock_file, settings(), loaded())
        with pytest.raises(AlreadyRunning):
            hold(lock_file, 3)
        other.kill()
        other.wait()
    Locks.open(lock_file, settings(), loaded()).close()


def test_a_lock_that_the_file_grows_into_is_held_too(lock_file: str) -> None:
    locks = Locks.open(lock_file, settings(4), loaded())
    with pytest.raises(AlreadyRunning):
        hold(lock_file, 1000)
    locks.close()
    hold(lock_file, 1000).close()


def test_tools_exclude_each_other_per_object_and_a_supervisor_altogether(lock_file: str) -> None:
    Locks.open(lock_file, settings(), loaded()).close()
    first = hold(lock_file, 1, 2)
    second = hold(lock_file, 3)
    with pytest.raises(AlreadyRunning):
        hold(lock_file, 2)
    with pytest.raises(AlreadyRunning):
        Locks.open(lock_file, settings(), loaded())
    first.close()
    hold(lock_file, 2).close()
    second.close()
    Locks.open(lock_file, settings(), loaded()).close()


def test_the_lock_file_of_another_state_is_refused_unless_renumbering(lock_file: str) -> None:
    Locks.open(lock_file, settings(), loaded(0)).close()
    with pytest.raises(LocksMismatch, match="another root") as raised:
        Locks.open(lock_file, settings(), loaded(0, journal="b" * 32))
    assert "system renumber" in raised.value.hint
    Locks.open(lock_file, settings(), loaded(0, journal="b" * 32), renumber=True).close()
    with pytest.raises(LocksMismatch):
        Locks.open(lock_file, settings(), loaded(0))


def test_a_state_without_any_object_takes_over_whatever_file_there_is(lock_file: str) -> None:
    """A root that was deleted and made anew finds the old lock file."""
    Locks.open(lock_file, settings(), loaded(0)).close()
    Locks.open(lock_file, settings(), loaded(journal="b" * 32)).close()


@pytest.mark.parametrize("content", [b"something else", b"x" * 4096])
def test_a_foreign_file_is_refused_and_left_as_it_is(lock_file: str, content: bytes) -> None:
    Path(lock_file).write_bytes(content)
    with pytest.raises(LocksMismatch, match="not a lock file of pyman"):
        Locks.open(lock_file, settings(), loaded(0))
    assert Path(lock_file).read_bytes() == content


def test_a_file_that_is_cut_short_is_refused(lock_file: str) -> None:
    Locks.open(lock_file, settings(100), loaded(0)).close()
    os.truncate(lock_file, HEADER + 50)
    with pytest.raises(LocksMismatch, match="too short for the 100 locks"):
        Locks.open(lock_file, settings(), loaded(0))


def test_an_empty_file_is_a_new_one(lock_file: str) -> None:
    """A process that was killed just after it had made the file leaves it so."""
    Path(lock_file).touch()
    Locks.open(lock_file, settings(), loaded(0)).close()


def test_a_file_that_somebody_else_put_there_is_refused(lock_file: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    Path(lock_file).touch()
    os.chown(lock_file, 1234, 1234)
    with pytest.raises(PermissionDenied):
        Locks.open(lock_file, settings(), loaded())


def test_a_symbolic_link_is_not_followed(lock_file: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", lock_file)
    with pytest.raises(StorageFailed):
        Locks.open(lock_file, settings(), loaded())
