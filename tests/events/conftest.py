"""A journal on a database of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.events.journal import Journal
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "static" / "state.db")


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    with Database.open(path) as database:
        yield database


@pytest.fixture
def journal(database: Database) -> Journal:
    """One that keeps few events in memory, so that both ways of reading are walked."""
    return Journal(database, tail=16)
