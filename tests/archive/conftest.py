from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.archive.podman import Podman

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def podman() -> Iterator[Podman]:
    """Podman with an empty store; its run root may have no more than 50 characters."""
    if os.geteuid() != 0:
        pytest.skip("only root has a Podman without a user namespace here")
    place = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    made = Podman(place)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(place)
