"""A book of helper programs outside of an engine, and one to be killed. Run as a program: a supervisor that is killed
after the step that its third argument names.

    helping.py PATH KIND STEP
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from supervisor.kernel import ancestry, children
from supervisor.runtime.answers import in_background
from supervisor.runtime.networks.programs.helper_book import KIND, Helpers
from supervisor.runtime.networks.programs.helper_program import Helper, Program
from supervisor.runtime.services import Reaped
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import ExitStack

    from pyman.api.event import Event
    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.answers import Answer

PROGRAM = Path(__file__).with_name("helper_program.py")
STEPS = ("launched", "recorded", "released", "begun", "ready")


class Worker(Helper):
    """`kind`: plain, tells (a descriptor), forks (a pid file), fails, hangs, stubborn (SIGTERM does not end it)."""

    key = "worker-1"
    name = "worker"
    subject_id, subject_name = "0123", "somebody"

    def __init__(self, path: Path, kind: str = "tells", network: int | None = None) -> None:
        self.path = path
        self.kind = kind
        self.network = network
        self.is_wanted = True
        self.began: list[ProcessRef] = []

    async def program(self, stack: ExitStack) -> Program:  # noqa: ARG002 - opens nothing
        return Program(
            [str(PROGRAM), self.kind, str(self.path)],
            ready="--ready-fd" if self.kind == "tells" else "",
            pid_file=str(self.path / "worker.pid") if self.kind in ("forks", "fails", "hangs") else "",
            network=self.network,
        )

    async def begun(self, ref: ProcessRef) -> None:
        self.began.append(ref)

    async def wanted(self) -> bool:
        return self.is_wanted


class Book:
    def __init__(self, path: Path) -> None:
        self.path = path
        options = Options(root=f"{path}/root", runroot=f"{path}/run", tmpdir=f"{path}/tmp")
        conf = path / "containers.conf"
        conf.touch()
        self.settings = load(options, {"CONTAINERS_CONF": str(conf)}, 0)
        self.layout = Layout.of(self.settings)
        self.database: Database
        self.helpers: Helpers
        self.spawn: Callable[[Callable[[], Awaitable[Any]]], Answer[Any]]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Helpers]:
        """As a supervisor has it. At the end the helpers stay."""
        make_directories(self.layout)
        with Database.open(self.layout.database) as self.database:
            self.events: list[Event] = []
            self.database.on_events = self.events.extend
            reaped = Reaped()
            async with trio.open_nursery() as nursery:
                await nursery.start(children.reap_orphans, reaped.note)
                self.spawn = lambda work: in_background(nursery, work)
                self.helpers = Helpers(
                    self.layout, self.database, reaped, self.spawn, trio.CapacityLimiter(4)
                )
                self.helpers.load(self.database.load().records)
                try:
                    yield self.helpers
                finally:
                    nursery.cancel_scope.cancel()

    def records(self) -> list[str]:
        return [record.id for record in self.database.load().records if record.kind == KIND]

    def told(self) -> list[tuple[str, str]]:
        return [(event.status, event.attributes["pid"]) for event in self.events]


class _Told(Worker):
    """With a supervisor that is killed when it is ready."""

    async def begun(self, ref: ProcessRef) -> None:
        await super().begun(ref)
        if _Killed.step == "begun":
            os.kill(os.getpid(), signal.SIGKILL)


class _Killed(Helpers):
    """SIGKILL to itself after a step."""

    step = ""

    def _after(self, step: str) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    async def _complete(self, kept: Any, program: Any, waiting: Any, readable: int) -> Any:
        self._after("launched")
        release = waiting.release

        def recorded() -> None:
            self._after("recorded")
            release()
            self._after("released")

        waiting.release = recorded
        return await super()._complete(kept, program, waiting, readable)


async def _first(path: Path, kind: str, step: str) -> None:
    book = Book(path)
    async with book.open() as helpers:
        helpers.__class__ = _Killed
        _Killed.step = step
        await helpers.ensure(_Told(path, kind))
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    ancestry.become_subreaper()
    trio.run(_first, Path(sys.argv[1]), sys.argv[2], sys.argv[3])
