"""What an engine has told of images, what it was about to do, and the moment in which it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.conftest import Faulty

__all__ = ["IMAGE", "intents", "kill", "state", "statuses"]

IMAGE = "io.pyman.Image"


@contextlib.contextmanager
def state(engine: Faulty) -> Iterator[sqlite3.Connection]:
    """The state database. While it is locked (`BEGIN IMMEDIATE`) the engine records and tells nothing."""
    connection = sqlite3.connect(engine.root / "pyman/state.db", isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def intents(engine: Faulty) -> int:
    with state(engine) as connection:
        count: int = connection.execute("SELECT count(*) FROM intent").fetchone()[0]
        return count


def statuses(engine: Faulty) -> list[str]:
    return [event["Status"] for event in engine.events(type=["image"])]


def kill(engine: Faulty, daemon: int) -> None:
    """SIGKILL; the next one is not waited for."""
    engine.drain_notices()
    os.kill(daemon, signal.SIGKILL)
