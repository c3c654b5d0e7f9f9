"""The same lives for an ordinary user."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.storage.images import busybox
from tests.support.registry import image_config, tar_layer
from tests.support.rootfs import make_rootfs
from tests.support.user import User, UserPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registry import RealRegistry
    from tests.support.runtimes import Place


@pytest.fixture(scope="session")
def rootfs_of_user() -> Iterator[Path]:
    """The user's own: another's root file system belongs to nobody in the user's namespace."""
    directory = Path(tempfile.mkdtemp(prefix="pm-rootfs-", dir="/tmp"))
    try:
        made = make_rootfs(directory / "rootfs")
        User.of().owns(directory)
        yield made
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def rootfs(request: pytest.FixtureRequest, oci_runtime: Place, rootfs: Path) -> Path:
    if isinstance(oci_runtime, UserPlace):
        made: Path = request.getfixturevalue("rootfs_of_user")
        return made
    return rootfs


@pytest.fixture(scope="module")
def away(registry: RealRegistry) -> str:
    """The name of an image that the registry has and no engine has."""
    files = {name: content for name, content in busybox().items() if not name.endswith("/")}
    layer = tar_layer({**files, "bin/echo": "sh", "bin/sleep": "sh"})
    config = image_config([layer], Cmd=["echo", "pulled"], Env=["PATH=/bin"])
    return registry.push("away/box", "latest", [layer], config).reference
