"""The bench that tests of real monitors work at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conmon.monitors import open_bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conmon.monitors import Bench
    from tests.support.runtimes import Place


@pytest.fixture
async def bench(tmp_path: Path, rootfs: Path, oci_runtime: Place) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, rootfs, oci_runtime) as bench:
        yield bench
