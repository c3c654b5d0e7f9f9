"""Supervisors around a stand-in engine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.keeper.support import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    path = Path(tempfile.mkdtemp(prefix="pk-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def supervisor(short_path: Path) -> Iterator[Supervisor]:
    """Not started yet."""
    made = Supervisor(short_path)
    yield made
    made.close()


_OWN_RUN = 'mount -t tmpfs tmpfs /run && exec "$@"'


@pytest.fixture
def secluded(short_path: Path) -> Iterator[Supervisor]:
    """Not started yet; it has a /run of its own, in which its directory of sockets can be removed."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    unshare = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _OWN_RUN, "sh"]
    made = Supervisor(short_path, prefix=unshare)
    yield made
    made.close()
