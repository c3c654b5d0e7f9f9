"""An engine in the test's own process, with the real runc and conmon, that can be ended and begun anew."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.api.event import Event
from pyman.api.spec import Caller, ContainerSpec
from pyman.errors import PymanError
from supervisor.kernel import ancestry
from supervisor.runtime.engine import Engine
from supervisor.runtime.life import requests as rq
from supervisor.settings.layout import Layout
from supervisor.settings.load import Options, load
from tests.support.leaks import cgroup_directories, remove_cgroups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from supervisor.runtime.registry import Entry

CONFIG = """\
[containers]
netns = "none"
[engine]
runtime = "runc"
lock_type = "file"
[pyman]
restart_delay = 0.01
"""


class House:
    """`path` holds everything of the engine."""

    def __init__(self, path: Path, rootfs: Path) -> None:
        self.path = path
        self.rootfs = rootfs
        self.engine: Engine
        self.configuration = path / "containers.conf"
        self.configuration.write_text(CONFIG)

    def make(self) -> Engine:
        options = Options(
            root=str(self.path / "root"), runroot=str(self.path / "run"), tmpdir=str(self.path / "tmp")
        )
        settings = load(options, {"CONTAINERS_CONF": str(self.configuration)}, 0)
        return Engine(settings, Layout.of(settings))

    @asynccontextmanager
    async def open(self, *, leave: bool = False) -> AsyncIterator[Engine]:
        """An engine that runs. `leave`: its containers stay as they are, for the next one."""
        self.engine = self.make()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.engine.run)
            try:
                yield self.engine
            finally:
                with trio.CancelScope(shield=True):
                    if not leave:
                        await self.clear()
                    nursery.cancel_scope.cancel()

    async def clear(self) -> None:
        for entry in self.engine.registry:
            with suppress(PymanError), trio.move_on_after(20):
                await entry.worker.ask(rq.Remove(force=True, timeout=0))

    async def create(self, *command: str, **wish: Any) -> Entry:
        wish = {"rootfs": str(self.rootfs), "rootfs_overlay": True, "command": list(command), **wish}
        return await self.engine.create(ContainerSpec(**wish), Caller(), None, replace=False)

    async def run(self, *command: str, **wish: Any) -> Entry:
        entry = await self.create(*command, **wish)
        await entry.worker.ask(rq.Start())
        return entry

    async def events(self, entry: Entry | None = None) -> list[Event]:
        cursor = self.engine.services.journal.cursor(since_seq=0, stream=False)
        found: list[Event] = []
        while items := await cursor.next():
            found += [item for item in items if isinstance(item, Event)]
        return [event for event in found if entry is None or event.id == entry.container.id]

    async def event(self, entry: Entry, status: str, number: int = 1, seconds: float = 20) -> Event:
        """The first such event of a container, or the one of that number, once it has been told."""
        cursor = self.engine.services.journal.cursor(since_seq=0)
        with trio.fail_after(seconds):
            while True:
                for item in await cursor.next():
                    if isinstance(item, Event) and (item.id, item.status) == (entry.container.id, status):
                        number -= 1
                        if not number:
                            return item

    async def statuses(self, entry: Entry) -> list[str]:
        return [event.status for event in await self.events(entry)]

    def sweep(self) -> None:
        """What a test that failed may have left: monitors and first processes by their bundles, mounts, cgroups."""
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if str(self.path).encode() in file.read() and int(name) != os.getpid():
                    os.kill(int(name), signal.SIGKILL)
        places = (self.path / "tmp/containers", self.path / "root/pyman/containers")
        ids = {name for place in places if place.exists() for name in os.listdir(place)}
        if not ids:
            return
        for id in ids:
            subprocess.run(["runc", "delete", "--force", id], check=False, capture_output=True)
            subprocess.run(
                ["umount", "-l", self.path / "tmp/containers" / id / "rootfs"],
                check=False,
                capture_output=True,
            )
        remove_cgroups({path for path in cgroup_directories() if any(id in path for id in ids)})


@pytest.fixture
def house(tmp_path: Path, rootfs: Path) -> Iterator[House]:
    if os.geteuid() != 0 or shutil.which("runc") is None:
        pytest.skip("needs root and runc")
    ancestry.become_subreaper()
    house = House(tmp_path, rootfs)
    yield house
    house.sweep()
