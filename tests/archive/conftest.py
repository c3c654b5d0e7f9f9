"""What the tests of archive programs share."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.archive.podman import Podman
from tests.archive.unpacker import Unpacker
from tests.support.user import User, UserPlace

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


@pytest.fixture(scope="module", params=["root", "user"])
def unpacker(request: pytest.FixtureRequest) -> Iterator[Unpacker]:
    """Layers are unpacked by root, and by an ordinary user in a user namespace."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if request.param == "root":
        made = Unpacker(None, [], None)
    else:
        programs: Path = request.getfixturevalue("programs")
        place = UserPlace(User.of())
        prefix = [*place.prefix("/"), "unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--"]
        made = Unpacker(place.user, prefix, programs / "python")
    try:
        yield made
    finally:
        made.close()
