"""A server with the trial contract, on three sockets of different rights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.api import Access
from supervisor.rpc.server import Listener, serve
from tests.rpc.client import Service
from tests.rpc.contract import INTERFACE, Trial, listening_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for socket names."""
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def service(short_path: Path, nursery: trio.Nursery) -> AsyncIterator[Service]:
    trial = Trial()
    paths = {access.value: str(short_path / access.value) for access in Access if access is not Access.NOBODY}
    listeners = [Listener(listening_socket(path), Access(value)) for value, path in paths.items()]

    async def run(task_status: trio.TaskStatus[object]) -> None:
        with scope:
            await serve(
                listeners, trial.handlers(), interfaces=[INTERFACE], complete=False, task_status=task_status
            )

    scope = trio.CancelScope()
    server = await nursery.start(run)
    yield Service(server, trial, paths, scope)
    scope.cancel()
