"""Which container has which ids, and starts in namespaces that are not what they were."""

from __future__ import annotations

import pytest

from pyman.errors import InvalidArgument
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.runtime.userns import IdLedger

LINES = (IdRange(0, 100, 10),)
POOL = ([range(100, 110)], [range(100, 110)])


def test_ids_are_one_containers_until_they_are_released() -> None:
    ledger = IdLedger()
    for id in ("a", "b"):
        ledger.open(id)
    assert ledger.allocate("a", 10, POOL, IdMaps(), ()) == (LINES, LINES)
    with pytest.raises(InvalidArgument, match="0 are left"):
        ledger.allocate("b", 10, POOL, IdMaps(), ())
    ledger.release("a")
    assert ledger.allocate("b", 10, POOL, IdMaps(), ()) == (LINES, LINES)


def test_a_thread_that_comes_late_keeps_no_ids() -> None:
    """It waited for a root filesystem, and the container was given up meanwhile."""
    ledger = IdLedger()
    ledger.open("late")
    ledger.release("late")
    ledger.allocate("late", 10, POOL, IdMaps(), ())
    ledger.claim("late", IdMaps(LINES, LINES))
    ledger.open("next")
    assert ledger.allocate("next", 10, POOL, IdMaps(), ()) == (LINES, LINES)
