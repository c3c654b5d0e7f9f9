"""The log of events in a file."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from supervisor.events.journal import Journal
from supervisor.events.journald import JournaldSink
from supervisor.events.sinks import FileSink, sink_of
from supervisor.settings.model import EngineSettings
from supervisor.state.database import Database, EventDraft
from tests.events.samples import commit, draft

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events" / "events.log"


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def seqs(log: Path) -> list[int]:
    return [line["Seq"] for line in lines(log)]


async def copy(database: Database, sink: FileSink) -> None:
    """Let the sink write all there is. A closed journal ends it then."""
    journal = Journal(database)
    journal.close()
    await sink.run(journal)


async def test_every_event_is_a_line_of_json_as_podman_writes_it(
    database: Database, journal: Journal, log: Path
) -> None:
    drafts = [
        EventDraft("container", "died", "a" * 64, "web", "img", {"containerExitCode": "3", "app": "shop"}),
        EventDraft("system", "refresh"),
    ]
    died, refresh = await database.commit([], drafts)
    await copy(database, FileSink(str(log), 0))
    assert lines(log) == [
        {
            "Status": "died",
            "Time": died.time,
            "Type": "container",
            "Attributes": {"containerExitCode": "3", "app": "shop"},
            "Seq": 1,
            "Journal": journal.id,
            "ID": "a" * 64,
            "Image": "img",
            "Name": "web",
            "ContainerExitCode": 3,
        },
        {
            "Status": "refresh",
            "Time": refresh.time,
            "Type": "system",
            "Attributes": None,
            "Seq": 2,
            "Journal": journal.id,
        },
    ]
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_change_of_health_is_written_as_podman_does(database: Database, log: Path) -> None:
    told = {"health_status": "unhealthy", "health_failing_streak": "3", "health_log": "{}"}
    await database.commit([], [draft("health_status", **told), draft("start", **told)])
    await copy(database, FileSink(str(log), 0))
    changed, other = lines(log)
    assert (changed["health_status"], changed["health_failing_streak"]) == ("unhealthy", 3)
    assert changed["health_log"] == "{}"
    assert "health_status" not in other


async def test_podman_reads_the_log(database: Database, log: Path, tmp_path: Path) -> None:
    podman = shutil.which("podman")
    if podman is None or os.geteuid() != 0:
        pytest.skip("needs podman and root")
    await database.commit([], [draft("start", "web", label="x"), EventDraft("volume", "create", name="data")])
    await copy(database, FileSink(str(log), 0))
    # Podman refuses a long runroot.
    with tempfile.TemporaryDirectory(prefix="pyman-", dir="/tmp") as runroot:
        dirs = [f"--root={tmp_path / 'root'}", f"--runroot={runroot}", f"--tmpdir={log.parent.parent}"]
        command = [podman, "--events-backend=file", *dirs, "--storage-driver=vfs", "events"]
        command += ["--stream=false", "--since=1h", "--format={{.Type}} {{.Status}} {{.Name}}"]
        answer = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    assert b"container start web\nvolume create data\n" in answer.stdout


async def test_a_log_goes_on_where_it_ended(database: Database, log: Path) -> None:
    for _ in range(3):
        await commit(database, 30)
        await copy(database, FileSink(str(log), 0))
    assert seqs(log) == list(range(1, 91))


async def test_a_line_that_was_cut_off_is_written_anew(database: Database, log: Path) -> None:
    await commit(database, 10)
    await copy(database, FileSink(str(log), 0))
    os.truncate(log, log.stat().st_size - 5)
    await copy(database, FileSink(str(log), 0))
    assert seqs(log) == list(range(1, 11))


async def test_lines_of_another_journal_or_program_stay_and_do_not_count(
    database: Database, log: Path
) -> None:
    log.parent.mkdir()
    foreign = [{"Seq": 99, "Journal": "another"}, {"Status": "create", "Type": "container"}]
    log.write_text("".join(json.dumps(line) + "\n" for line in foreign) + "rubbish\n")
    await commit(database, 3)
    await copy(database, FileSink(str(log), 0))
    await commit(database, 1)
    with log.open("a") as file:
        file.write(json.dumps(foreign[1]) + "\n")
    await copy(database, FileSink(str(log), 0))
    text = log.read_text().splitlines()
    assert text[:3] == [*(json.dumps(line) for line in foreign), "rubbish"]
    assert [json.loads(line).get("Seq") for line in text[3:]] == [1, 2, 3, None, 4]


async def test_a_log_that_grows_too_large_keeps_its_newer_half(database: Database, log: Path) -> None:
    await database.commit([], [draft() for _ in range(1000)])
    await copy(database, FileSink(str(log), 50_000))
    assert log.stat().st_size <= 50_000
    written = seqs(log)
    assert len(written) > 20
    assert written == list(range(written[0], 1001))
    assert os.listdir(log.parent) == ["events.log"]


async def test_a_log_that_is_moved_away_begins_anew_with_what_comes(
    database: Database, journal: Journal, log: Path
) -> None:
    sink = FileSink(str(log), 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run, journal)
        for name in ("first", "second"):
            await commit(database, 3)
            await settled(journal)
            log.rename(log.parent / name)
        nursery.cancel_scope.cancel()
    assert seqs(log.parent / "first") == [1, 2, 3]
    assert seqs(log.parent / "second") == [4, 5, 6]


async def settled(journal: Journal) -> None:
    """The sink waits for the next event when it has written the last one, or cannot."""
    while not journal.statistics()["waiting"]:
        await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.fixture
def small_disk(log: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    log.parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", log.parent], check=True)
    yield log.parent
    subprocess.run(["umount", "-l", log.parent], check=True)


async def test_on_a_full_disk_no_line_is_torn_and_it_goes_on_with_space(
    database: Database, journal: Journal, log: Path, small_disk: Path
) -> None:
    await commit(database, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(FileSink(str(log), 0).run, journal)
        await settled(journal)
        assert len(seqs(log)) < 100
        remount = ["mount", "-o", "remount,size=1m", str(small_disk)]
        await trio.run_process(remount)
        await commit(database, 1)
        await settled(journal)
        nursery.cancel_scope.cancel()
    assert seqs(log) == list(range(1, 102))


async def test_a_log_that_cannot_be_opened_does_not_end_the_sink(
    database: Database, journal: Journal, log: Path
) -> None:
    log.mkdir(parents=True)
    await commit(database, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(FileSink(str(log), 0).run, journal)
        await settled(journal)
        log.rmdir()
        await commit(database, 1)
        await settled(journal)
        nursery.cancel_scope.cancel()
    assert seqs(log) == [1, 2, 3]


async def test_the_sink_ends_with_the_journal(database: Database, journal: Journal, log: Path) -> None:
    await commit(database, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(FileSink(str(log), 0).run, journal)
        await settled(journal)
        journal.close()
    assert seqs(log) == [1, 2]


async def test_killed_at_any_instant_the_log_has_every_event_exactly_once(path: str, log: Path) -> None:
    for _ in range(5):
        command = [sys.executable, "-m", "tests.events.copier", path, str(log)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as program:  # noqa: ASYNC220
            assert program.stdout is not None
            for _ in range(random.randint(1, 500)):
                program.stdout.readline()
            program.kill()
    with Database.open(path) as database:
        await copy(database, FileSink(str(log), 20_000_000))
        assert seqs(log) == list(range(1, database.last_seq + 1))


def test_the_settings_choose_the_sink(database: Database) -> None:
    assert sink_of(EngineSettings(events_logger="none"), "/default", database) is None
    sink = sink_of(EngineSettings(events_logger="file"), "/default", database)
    assert isinstance(sink, FileSink)
    assert sink.path == "/default"
    chosen = EngineSettings(events_logger="file", events_logfile_path="/p", events_logfile_max_size=7)
    sink = sink_of(chosen, "/default", database)
    assert isinstance(sink, FileSink)
    assert (sink.path, sink.max_size) == ("/p", 7)
    sink = sink_of(EngineSettings(events_logger="journald"), "/default", database)
    assert isinstance(sink, JournaldSink)
    assert sink.path == "/run/systemd/journal/socket"
