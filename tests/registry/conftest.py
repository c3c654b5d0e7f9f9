"""What the tests of registries share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.registry.support import STALL, Home
from tests.support.hostile import hostile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from supervisor.registry.client import Registries
    from tests.support.hostile import Hostile


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """A registry program that serves a whole module: it takes half a second to start. It must never complain."""
    complaints = tmp_path_factory.mktemp("program") / "stderr"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        argv = [
            sys.executable,
            "-P",
            "-m",
            "supervisor.registry",
            str(os.getpid()),
            str(theirs.fileno()),
            "600",
        ]
        environ = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        with complaints.open("wb") as stderr:
            process = subprocess.Popen(argv, env=environ, pass_fds=[theirs.fileno()], cwd="/", stderr=stderr)
        theirs.close()
        try:
            yield ours
        finally:
            ours.close()
            assert process.wait(10) == 0
            assert complaints.read_text() == ""


@pytest.fixture
async def bad() -> AsyncIterator[Hostile]:
    """A registry that does what it is told to."""
    async with hostile() as one:
        yield one


@pytest.fixture
async def registries(home: Home, program: socket.socket) -> AsyncIterator[Registries]:
    """With little patience."""
    async with home.registries(program, stall=STALL) as found:
        yield found
