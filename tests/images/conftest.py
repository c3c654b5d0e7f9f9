"""A store of the test's own, filled by hand or by the real programs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts
from tests.images.made import built
from tests.storage.conftest import open_store, others, place, store
from tests.storage.others import Others
from tests.support import sharing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

__all__ = ["engine", "image", "open_store", "others", "place", "store"]


@pytest.fixture
def engine(request: pytest.FixtureRequest, module_engine: Engine) -> Iterator[Engine]:
    """In this room it is shared by the tests of a module, each of which finds neither image nor container."""
    with sharing.borrowed(module_engine, request, images=True) as engine:
        yield engine


@pytest.fixture(scope="session")
def _with_image() -> Iterator[Path]:
    """A graph root as Buildah leaves it, with the image of `built`: nothing in it says where it is."""
    place = Path(tempfile.mkdtemp(prefix="pyst-", dir="/tmp"))
    made = Others(place)
    try:
        (place / "scratch").mkdir()
        built(made, place / "scratch")
        yield made.root
    finally:
        for point in mounts.mounts_below(str(place)):
            mounts.unmount(point, lazy=True)
        shutil.rmtree(place)


@pytest.fixture
def image(_with_image: Path, others: Others) -> str:
    """Two layers that Buildah has made, and the name of their image. It is the same for every test."""
    subprocess.run(["cp", "-a", "-T", _with_image, others.root], check=True)
    return "localhost/made:2"
