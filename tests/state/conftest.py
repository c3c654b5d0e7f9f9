"""Where a test's database is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a state database may be; its directory does not exist yet."""
    return str(tmp_path / "static" / "state.db")
