"""The limits that whoever started the supervisor happened to have are not the engine's."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.engine import Engine


@pytest.mark.oci_runtime("runc")
def test_the_daemon_may_open_as_many_files_as_it_is_permitted(engine: Engine) -> None:
    _, most = resource.prlimit(engine.keeper_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(engine.keeper_pid, resource.RLIMIT_NOFILE, (100, most))
    engine.kill()
    (line,) = [
        text
        for text in Path(f"/proc/{engine.pid}/limits").read_text().splitlines()
        if text.startswith("Max open files")
    ]
    assert line.split()[3:5] == [str(most), str(most)]
