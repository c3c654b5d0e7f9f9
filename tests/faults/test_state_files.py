"""Configuration, database and lock file that cannot be used: who asks is told in one line, and nothing is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.engine import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.conftest import Faulty, MakeEngine


@pytest.fixture
def idle(make_engine: MakeEngine) -> Faulty:
    """Not started: the first command would do that."""
    return make_engine(start=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 125, done
    assert done.stderr.startswith("Error: cannot ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


# Configuration


@pytest.mark.parametrize(
    "extra, key, value",
    [
        ("[containers]\npids_limit = 'many'\n", "pids_limit", "many"),
        ("[network]\ndefault_network = 5\n", "default_network", "5"),
        ("[containers]\nlog_driver = ['a']\n", "log_driver", '["a"]'),
        ("[containers]\nenv = ['=x']\n", "env", "=x"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_file_key_and_value(
    idle: Faulty, extra: str, key: str, value: str
) -> None:
    idle.configure(extra)
    refused(idle.cli("ps", check=False), str(idle.configuration), key, value)


def test_a_file_that_is_not_toml_is_told_with_the_line(idle: Faulty) -> None:
    good = idle.configuration.read_text()
    idle.configuration.write_text(f"{good}[containers\n")
    refused(idle.cli("ps", check=False), str(idle.configuration), str(good.count("\n") + 1))


@pytest.mark.parametrize("kind", ["directory", "missing", "binary"])
def test_a_configuration_that_cannot_be_read_is_named(idle: Faulty, kind: str) -> None:
    idle.configuration.unlink()
    if kind == "directory":
        idle.configuration.mkdir()
    elif kind == "binary":
        idle.configuration.write_bytes(b"\xff\xfe\0\0")
    refused(idle.cli("ps", check=False), str(idle.configuration))


def test_a_typo_read_on_request_leaves_the_engine_as_it_was(faulty: Faulty, rootfs: Path) -> None:
    good = faulty.configuration.read_text()
    try:
        faulty.configure("[containers]\nlog_driver = 7\n")
        refused(faulty.cli("system", "reload", check=False), str(faulty.configuration), "log_driver", "7")
        faulty.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true")
    finally:
        faulty.configuration.write_text(good)
    faulty.cli("system", "reload")


# The database


@pytest.fixture
def used(idle: Faulty, rootfs: Path) -> Faulty:
    """With a container, and ended in order."""
    idle.start()
    idle.cli("create", "--name", "kept", "--rootfs", f"{rootfs}:O", "true")
    assert idle.stop() == 0
    return idle


def test_a_damaged_database_is_named_with_what_to_do_and_left_alone(used: Faulty) -> None:
    database = used.root / "pyman/state.db"
    good = database.read_bytes()
    damaged = b"\xa5" * len(good)
    database.write_bytes(damaged)
    refused(used.cli("ps", check=False), str(database), "system check")
    assert database.read_bytes() == damaged
    database.write_bytes(good)
    used.start()
    assert used.out("ps", "-a", "--format", "{{.Names}}") == "kept"


@contextlib.contextmanager
def edited(engine: Faulty, *words: str) -> Iterator[sqlite3.Connection]:
    """The database of an engine that does not run, to be changed; nobody starts with it, and it is undone."""
    database = engine.root / "pyman/state.db"
    good = database.read_bytes()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        yield connection
        connection.commit()
    refused(engine.cli("ps", check=False), *words)
    database.write_bytes(good)


@pytest.mark.parametrize("damaged", [b"", b'{"id":', b"\xff", b"{}"])
def test_a_record_that_is_damaged_keeps_the_engine_from_forgetting_what_it_owns(
    used: Faulty, damaged: bytes
) -> None:
    with edited(used, "kept", "system check") as connection:
        connection.execute("UPDATE record SET definition = ?", (damaged,))
    used.start()
    assert used.out("ps", "-a", "--format", "{{.Names}}") == "kept"


def test_a_database_of_a_later_version_is_refused_and_left_alone(used: Faulty) -> None:
    with edited(used, str(used.root / "pyman/state.db"), "newer") as connection:
        connection.execute("PRAGMA user_version = 9999")
    used.start()
    assert used.out("ps", "-a", "--format", "{{.Names}}") == "kept"


@pytest.fixture
def read_only(used: Faulty) -> Iterator[Faulty]:
    """Its root is mounted read-only."""
    subprocess.run(["mount", "--bind", used.root, used.root], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", used.root], check=True)
    yield used
    subprocess.run(["umount", "--lazy", used.root], check=True)


def test_a_database_that_cannot_be_written_is_named(read_only: Faulty) -> None:
    refused(read_only.cli("ps", check=False), str(read_only.root / "pyman"))


@pytest.mark.parametrize("what", ["directory", "state.db"])
def test_what_is_another_users_is_not_trusted(used: Faulty, what: str) -> None:
    path = used.root / "pyman" if what == "directory" else used.root / "pyman" / what
    os.chown(path, 65534, 65534)
    refused(used.cli("ps", check=False), str(path), "65534" if what == "directory" else "")
    os.chown(path, 0, 0)
    used.start()


def test_a_state_directory_in_the_place_of_which_there_is_a_file_is_named(idle: Faulty) -> None:
    idle.root.mkdir()
    (idle.root / "pyman").write_text("mine")
    refused(idle.cli("ps", check=False), str(idle.root / "pyman"))
    assert (idle.root / "pyman").read_text() == "mine"
    (idle.root / "pyman").unlink()


# The lock file


def test_a_lock_file_of_another_engine_is_refused_until_renumbering(
    used: Faulty, make_engine: MakeEngine, rootfs: Path
) -> None:
    other = make_engine(start=False)
    other.start()
    other.cli("create", "--name", "other", "--rootfs", f"{rootfs}:O", "true")
    assert other.stop() == 0
    lock = used.lock_file
    shutil.copy(other.lock_file, lock)
    refused(used.cli("ps", check=False), lock, "renumber")
    used.cli("system", "renumber")
    used.start()
    assert used.out("ps", "-a", "--format", "{{.Names}}") == "kept"


def test_a_link_in_the_place_of_the_lock_file_is_not_followed(used: Faulty, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    lock = used.lock_file
    os.unlink(lock)
    os.symlink(target, lock)
    refused(used.cli("ps", check=False), lock)
    assert target.read_text() == "precious"
    os.unlink(lock)


def test_a_second_engine_for_the_same_state_names_the_first(faulty: Faulty) -> None:
    command = [str(BIN / "pyman-supervisor"), *faulty.selection]
    done = subprocess.run(command, env=faulty.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert str(faulty.keeper_pid) in done.stderr
    assert processes.alive(faulty.keeper_pid)
