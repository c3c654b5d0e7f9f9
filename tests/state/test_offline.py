"""Maintenance without a supervisor."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from pyman.errors import AlreadyRunning, InternalError, LocksMismatch
from supervisor.settings.model import EngineSettings
from supervisor.state import offline
from supervisor.state.changes import EventDraft, PutRecord
from supervisor.state.database import Database
from supervisor.state.locks import HEADER, Locks
from supervisor.state.transactions import Request, Store

if TYPE_CHECKING:
    from supervisor.state.changes import Record

SETTINGS = EngineSettings(num_locks=16)


@pytest.fixture
def lock_file(tmp_path: Path) -> str:
    return str(tmp_path / "locks")


def definition(**fields: object) -> bytes:
    return msgspec.json.encode(fields)


def fill(path: str) -> None:
    """Three containers whose locks are 5, 9 and 2, an exec session of the first and one of nobody."""
    store = Store(path)
    changes = [
        PutRecord("container", str(n), f"name{n}", lock, definition(lock=lock, runtime="runc"), b"{}")
        for n, lock in enumerate((5, 9, 2))
    ]
    changes += [
        PutRecord("exec", f"x{parent}", "", None, definition(container=parent), b"{}")
        for parent in ("0", "77")
    ]
    store.run([Request(tuple(changes), (EventDraft("container", "create"),), durable=True)])[0].unwrap()
    store.close()


def relock(record: Record, number: int) -> bytes:
    return definition(**{**msgspec.json.decode(record.definition), "lock": number})


def to_crun(record: Record) -> bytes | None:
    fields = msgspec.json.decode(record.definition)
    return definition(**{**fields, "runtime": "crun"}) if "runtime" in fields else None


def container_of(record: Record) -> str:
    fields = msgspec.json.decode(record.definition)
    return str(fields["container"]) if record.kind == "exec" else ""


def events(path: str) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    bodies = [
        msgspec.json.decode(body) for (body,) in connection.execute("SELECT body FROM event ORDER BY seq")
    ]
    connection.close()
    return [(body["Type"], body["Status"]) for body in bodies]


def test_renumber_gives_every_object_a_new_number_and_records_the_event(path: str, lock_file: str) -> None:
    fill(path)
    with offline.exclusive(path, lock_file, SETTINGS) as maintenance:
        assert maintenance.renumber(relock) == 3
    with Database.open(path) as database:
        records = database.load().records
    assert [record.lock for record in records] == [0, 1, 2, None, None]
    assert [msgspec.json.decode(record.definition)["lock"] for record in records[:3]] == [0, 1, 2]
    assert events(path)[-1] == ("system", "renumber")


def test_renumber_is_the_way_out_of_a_lock_file_that_does_not_fit(path: str, lock_file: str) -> None:
    fill(path)
    Path(lock_file).write_bytes(b"something else")
    with (
        pytest.raises(LocksMismatch),
        offline.exclusive(path, lock_file, SETTINGS),
    ):
        pass
    with offline.exclusive(path, lock_file, SETTINGS, renumber=True) as maintenance:
        maintenance.renumber(relock)
    assert os.path.getsize(lock_file) == HEADER + 16
    with Database.open(path) as database:
        locks = Locks.open(lock_file, SETTINGS, database.load())
    assert locks.allocate() == 3
    locks.close()


def test_migrate_rewrites_the_definitions_that_the_callback_wants_changed(path: str, lock_file: str) -> None:
    fill(path)
    with offline.exclusive(path, lock_file, SETTINGS) as maintenance:
        assert maintenance.migrate(to_crun, {"runtime": "crun"}) == 3
    with offline.exclusive(path, lock_file, SETTINGS) as maintenance:
        assert maintenance.migrate(to_crun) == 0
        records = maintenance.loaded.records
    assert [msgspec.json.decode(record.definition).get("runtime") for record in records] == ["crun"] * 3 + [
        None
    ] * 2
    assert events(path)[-2:] == [("system", "migrate")] * 2


def test_maintenance_that_fails_changes_nothing(path: str, lock_file: str) -> None:
    fill(path)

    def clash(_record: Record) -> bytes:
        return object()  # type: ignore[return-value]

    with offline.exclusive(path, lock_file, SETTINGS) as maintenance, pytest.raises(InternalError):
        maintenance.migrate(clash)
    assert events(path) == [("container", "create")]


def test_maintenance_is_refused_while_a_supervisor_holds_the_locks(path: str, lock_file: str) -> None:
    fill(path)
    with Database.open(path) as database:
        locks = Locks.open(lock_file, SETTINGS, database.load())
        with pytest.raises(AlreadyRunning), offline.exclusive(path, lock_file, SETTINGS):
            pass
        with pytest.raises(AlreadyRunning):
            offline.reset(path, lock_file)
        locks.close()
    assert os.path.exists(path)


def test_a_supervisor_is_refused_during_maintenance(path: str, lock_file: str) -> None:
    fill(path)
    with offline.exclusive(path, lock_file, SETTINGS) as maintenance, pytest.raises(AlreadyRunning):
        Locks.open(lock_file, SETTINGS, maintenance.loaded)


def test_reset_deletes_the_state_and_the_locks(path: str, lock_file: str) -> None:
    fill(path)
    Store(path).close(clean=False)
    offline.reset(path, lock_file)
    assert os.listdir(os.path.dirname(path)) == []
    assert not os.path.exists(lock_file)
    offline.reset(path, lock_file)


def test_check_of_a_sound_state_and_of_none_finds_nothing(path: str) -> None:
    assert offline.check(path, container_of) == []
    assert not os.path.exists(path)
    Store(path).close()
    assert offline.check(path, container_of) == []
    Store(path).close(clean=False)
    assert offline.check(path, container_of) == []


def test_check_finds_sessions_of_no_container_and_repair_deletes_them(path: str, lock_file: str) -> None:
    fill(path)
    (problem,) = offline.check(path, container_of)
    assert (problem.subject, problem.repaired) == ("exec x77", False)
    with offline.exclusive(path, lock_file, SETTINGS) as maintenance:
        (problem,) = offline.check(path, container_of, maintenance)
    assert problem.repaired
    assert offline.check(path, container_of) == []


def test_check_finds_records_that_cannot_be_read(path: str) -> None:
    store = Store(path)
    store.run([Request((PutRecord("container", "1", "n", None, b"{", b"{}"),), (), durable=True)])[0].unwrap()
    store.close()
    (problem,) = offline.check(path, container_of)
    assert problem.subject == "container 1"
    assert "cannot be read" in problem.text


def test_check_finds_missing_numbers_but_not_recorded_gaps(path: str) -> None:
    store = Store(path, boot_id="first")
    draft = EventDraft("container", "create")
    store.run([Request((), (draft,) * 5, durable=True)])[0].unwrap()
    store.close(clean=False)
    store = Store(path, boot_id="second")
    store.run([Request((), (draft,) * 5, durable=True)])[0].unwrap()
    store.close()
    assert offline.check(path, container_of) == []
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM event WHERE seq = 3")
    connection.commit()
    connection.close()
    (problem,) = offline.check(path, container_of)
    assert problem.text == "the journal lacks events between 2 and 4"


def test_check_reports_a_damaged_file(path: str) -> None:
    fill(path)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(path) - 4096))
    problems = offline.check(path, container_of)
    assert problems
    assert all("damaged" in problem.text for problem in problems)
    Path(path).write_bytes(b"no database" * 1000)
    (problem,) = offline.check(path, container_of)
    assert "not a database" in problem.text
