"""`system reset` removes the volumes of this engine, mounted or not, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts

if TYPE_CHECKING:
    from tests.support.engine import Engine


@pytest.mark.oci_runtime("runc")
def test_a_reset_takes_the_volumes_along_and_leaves_what_others_have(engine: Engine) -> None:
    root = Path(str(engine.root)) / "volumes"
    engine.cli("volume", "create", "plain")
    engine.cli("volume", "create", "--opt", "type=tmpfs", "mounted")
    engine.call("io.pyman.Volume.Mount", {"name": "mounted"})
    assert mounts.mounts_below(str(root)) == [str(root / "mounted/_data")]
    (root / "foreign/_data").mkdir(parents=True)
    (root / "foreign/_data/file").write_text("theirs")
    engine.stop()
    engine.cli("system", "reset", "--force")
    assert os.listdir(root) == ["foreign"]
    assert (root / "foreign/_data/file").read_text() == "theirs"
    assert mounts.mounts_below(str(root)) == []
