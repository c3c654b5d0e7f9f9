"""The command line without a supervisor: `fake` answers its calls from canned replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyman import wire
from tests.cli.fake import FakeSupervisor, check_calls

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_supervisor_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither called nor started by a command that was to fail before it calls any."""
    monkeypatch.setattr(wire, "socket_path", lambda *_: pytest.fail("this command calls a supervisor"))


@pytest.fixture
def fake(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeSupervisor]:
    """Every connection of this process goes to the fake."""
    path = str(tmp_path_factory.mktemp("s") / "s")
    monkeypatch.setattr(wire, "socket_path", lambda *_: path)
    with FakeSupervisor(path) as server:
        yield server
        check_calls(server.calls)
