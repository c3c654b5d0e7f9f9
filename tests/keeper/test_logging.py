"""The log: its form, what it leaves out, and that it neither grows nor blocks."""

from __future__ import annotations

import json
import logging as standard
import os
from typing import TYPE_CHECKING

import pytest

from supervisor import logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = standard.getLogger()
    handlers, level = list(root.handlers), logging.log.logger.level
    yield
    root.handlers[:] = handlers
    logging.log.setLevel(level)


def _append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def test_a_line_is_json_without_secrets(tmp_path: Path) -> None:
    descriptor = _append(tmp_path / "log")
    try:
        logging.configure("info", descriptor)
        log = logging.log
        log.debug("not this")
        log.info("started", pid=7, env={"A": "b"}, registry_password="hunter2", where=tmp_path)
    finally:
        os.close(descriptor)
    record = json.loads((tmp_path / "log").read_text())
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "started",
        "level": "info",
        "pid": 7,
        "env": "…",
        "registry_password": "…",
        "where": repr(tmp_path),
    }


def test_a_traceback_stays_on_its_line(tmp_path: Path) -> None:
    descriptor = _append(tmp_path / "log")
    try:
        logging.configure("info", descriptor)
        try:
            raise ValueError("a reason")
        except ValueError:
            logging.log.exception("it failed")
    finally:
        os.close(descriptor)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1
    assert "ValueError: a reason" in json.loads(lines[0])["exception"]


def test_what_a_library_warns_of_is_told_too(tmp_path: Path) -> None:
    descriptor = _append(tmp_path / "log")
    try:
        logging.configure("debug", descriptor)
        standard.getLogger("library").warning("beware of %s", "it")
        standard.getLogger("library").info("not this")
    finally:
        os.close(descriptor)
    assert json.loads((tmp_path / "log").read_text())["event"] == "beware of it"


def test_a_terminal_gets_readable_lines() -> None:
    master, slave = os.openpty()
    try:
        logging.configure("warning", slave)
        logging.log.warning("beware", of="the dog")
        text = os.read(master, 4096).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert "beware" in text
    assert not text.startswith("{")


def test_a_log_file_stays_below_its_limit_and_keeps_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "FILE_LIMIT", 10_000)
    monkeypatch.setattr(logging, "FILE_KEPT", 2_000)
    path = tmp_path / "log"
    descriptor = _append(path)
    try:
        output = logging.Output(descriptor)
        largest = 0
        for number in range(1000):
            output.msg(f"line {number} {'x' * 50}")
            largest = max(largest, path.stat().st_size)
    finally:
        os.close(descriptor)
    lines = path.read_text().splitlines()
    assert largest <= 10_100
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 1000))


def test_a_reader_that_does_not_read_costs_lines_and_no_time() -> None:
    readable, writable = os.pipe()
    try:
        output = logging.Output(writable)
        for number in range(20_000):
            output.msg(f"line {number}")  # more than a pipe holds
        taken = os.read(readable, 1 << 20)
        output.msg("after")
        rest = os.read(readable, 1 << 20)
    finally:
        os.close(readable)
        os.close(writable)
    assert taken.startswith(b"line 0\n")
    assert rest.endswith(b"nobody read them)\nafter\n")
