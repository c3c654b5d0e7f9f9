"""A store in a directory of the test's own, and the engines that share it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts
from supervisor.settings.layout import Layout
from supervisor.settings.load import Options, load
from supervisor.storage.overlay import Overlays
from supervisor.storage.store import Store
from tests.storage.others import Others

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.runtimes import Place


@pytest.fixture
def place() -> Iterator[Path]:
    """Short: Podman makes sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="pyst-", dir="/tmp"))
    yield path
    for point in mounts.mounts_below(str(path)):
        mounts.unmount(point, lazy=True)
    shutil.rmtree(path)


@pytest.fixture
def open_store(place: Path) -> Iterator[Callable[..., Store]]:
    """Stores of one graph root, each as a supervisor that starts has it."""
    made: list[Store] = []

    def opened(*, uid: int = 0, options: tuple[str, ...] = (), driver: str | None = None) -> Store:
        chosen = Options(
            root=str(place / "root"),
            runroot=str(place / "run"),
            tmpdir=str(place / "pyman"),
            storage_opt=options or None,
            storage_driver=driver,
        )
        environ = {"HOME": str(place), "XDG_RUNTIME_DIR": str(place), "CONTAINERS_CONF": "/dev/null"}
        settings = load(chosen, environ, uid)
        layout = Layout.of(settings)
        made.append(Store(layout, settings, Overlays(settings, layout)))
        return made[-1]

    yield opened
    for store in made:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()


@pytest.fixture
def others(place: Path, peer: Place) -> Others:
    return Others(place, around=peer)
