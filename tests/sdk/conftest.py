"""A fake engine at a socket of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sdk.fake import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for socket names."""
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def fake(short_path: Path) -> Iterator[FakeEngine]:
    engine = FakeEngine(str(short_path / "s"))
    engine.start()
    yield engine
    engine.stop()
