"""The default network's bridge, and what an engine has noted of bridges."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.networking.conftest import Net

__all__ = ["BRIDGE", "expected"]

BRIDGE = "podman0"


def expected(net: Net) -> list[str]:
    """Bridges that a supervisor would look after if this one were killed."""
    with sqlite3.connect(net.engine.path / "root" / "pyman" / "state.db") as state:
        found = state.execute("SELECT id FROM intent WHERE id LIKE 'bridge-%'").fetchall()
    state.close()
    return [row[0] for row in found]
