"""What goes wrong on demand, and a client that is not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import trio

from pyman.api.container import ExecRequest
from pyman.errors import DiskFull
from supervisor.rpc.dispatch import Call
from supervisor.rpc.peer import Peer
from supervisor.state.database import Database
from tests.support.processes import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["FullDisk", "call", "sockets", "wish"]


class FullDisk:
    """Refuses commits with an event that fits, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fits: Callable[[str], bool], times: int = 1) -> None:
        self.left = times
        commit = Database.commit

        async def refuse(database: Database, changes: Any, events: Any = (), **options: Any) -> Any:
            await trio.lowlevel.checkpoint()
            if self.left and any(fits(event.status) for event in events):
                self.left -= 1
                raise DiskFull("cannot write: the disk is full")
            return await commit(database, changes, events, **options)

        monkeypatch.setattr(Database, "commit", refuse)


def call() -> Call:
    """A call as a handler gets it; what it sends goes nowhere."""

    async def nowhere(_message: bytearray, _descriptors: Any) -> None:
        await trio.lowlevel.checkpoint()

    return Call("a test", Peer(os.getpid(), 0, 0), more=True, oneway=False, descriptors=[], transmit=nowhere)


def sockets() -> int:
    """How many this process has open."""
    return sum(target.startswith("socket:") for target in descriptors(os.getpid()).values())


def wish(*command: str, **more: Any) -> ExecRequest:
    """An exec session to ask the engine for."""
    return ExecRequest(name="web", command=list(command), **more)
