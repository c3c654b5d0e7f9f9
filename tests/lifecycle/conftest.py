"""The same lives for an ordinary user."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts
from tests.storage.images import busybox
from tests.support.registry import image_config, tar_layer
from tests.support.rootfs import SHARED, make_rootfs
from tests.support.user import User, UserPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.registry import RealRegistry
    from tests.support.runtimes import Place


@pytest.fixture(scope="session")
def rootfs_of_user() -> Iterator[Path]:
    """The user's own: another's root file system belongs to nobody in the user's namespace."""
    directory = Path(tempfile.mkdtemp(prefix="pm-rootfs-", dir="/tmp"))
    try:
        made = make_rootfs(directory / "rootfs")
        User.of().owns(directory)
        SHARED.append(made)
        yield made
        SHARED.remove(made)
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


@pytest.fixture(scope="module")
def podman() -> Iterator[Callable[..., str]]:
    """What Podman prints. It refuses a run root whose path is longer than 50 characters."""
    place = tempfile.mkdtemp(prefix="pm-", dir="/tmp")
    options = [
        "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp", "--runtime", "runc",
        "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--log-level", "error",
    ]  # fmt: skip

    def run(*words: str) -> str:
        done = subprocess.run(["podman", *options, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    for target in reversed(mounts.mounts_below(place)):
        mounts.unmount(target, lazy=True)
    shutil.rmtree(place)
