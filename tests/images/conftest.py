"""A store of the test's own, filled by hand or by the real programs."""

from __future__ import annotations

from tests.storage.conftest import open_store, others, place, store

__all__ = ["open_store", "others", "place", "store"]
