"""A container and its monitor by hand, with the parts under test: bundle, spec, conmon, OCI runtime."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from supervisor.conmon import exit as exits
from supervisor.conmon.find import find_conmon
from supervisor.conmon.spawn import MonitorRequest, end_monitor, make_fifos, read_sync, release, spawn_monitor
from supervisor.kernel import ancestry, cgroups, children
from supervisor.kernel.process import open_pidfd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from supervisor.conmon.find import Conmon
    from supervisor.kernel.process import Pidfd, ProcessRef
    from tests.support.runtimes import Place

__all__ = ["Bench", "Container", "open_bench"]

PATIENCE = 20.0


class Container:
    """One container of a bench. Its directories are made; nothing runs until `create`."""

    def __init__(self, bench: Bench, command: list[str], **options: Any) -> None:
        self.bench = bench
        self.id = secrets.token_hex(32)
        self.bundle = bench.base / options.pop("bundle", "bundles") / self.id
        self.persist = bench.base / "persist" / self.id
        self.log = bench.base / f"{self.id[:8]}.log"
        for directory in (self.bundle, self.persist):
            directory.mkdir(parents=True)
        self.memory = options.pop("memory", 0)
        self.fifo = options.pop("fifo", "")
        """A FIFO of the host that the command finds as /tmp/fifo."""
        self._write_config(command, terminal=options.get("terminal", False))
        fields: dict[str, Any] = {
            "id": self.id,
            "name": "by-hand",
            "bundle": str(self.bundle),
            "pid_file": str(self.bundle / "pidfile"),
            "conmon_pid_file": str(self.bundle / "conmon.pid"),
            "persist_dir": str(self.persist),
            "exit_dir": str(bench.exits),
            "runtime_path": bench.runtime,
            "log_driver": "k8s-file",
            "log_path": str(self.log),
            **options,
        }
        self.request = MonitorRequest(**fields)
        self.monitor: ProcessRef | None = None
        self.pid = 0

    def _write_config(self, command: list[str], *, terminal: bool) -> None:
        namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]
        linux: dict[str, Any] = {
            "namespaces": namespaces,
            "cgroupsPath": f"{self.bench.cgroup}/{self.id}",
            "resources": {"devices": [{"allow": True, "access": "rwm"}]},
        }
        if self.memory:
            linux["resources"]["memory"] = {"limit": self.memory}
        fifo = {"destination": "/tmp/fifo", "type": "bind", "source": self.fifo, "options": ["bind"]}
        config = {
            "ociVersion": "1.0.2",
            "process": process_spec(command, terminal=terminal),
            "root": {"path": str(self.bench.rootfs), "readonly": True},
            "hostname": "by-hand",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {
                    "destination": "/dev/pts",
                    "type": "devpts",
                    "source": "devpts",
                    "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
                },
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
                *([fifo] if self.fifo else []),
            ],
            "linux": linux,
        }
        (self.bundle / "config.json").write_text(json.dumps(config))

    async def spawn(self) -> ProcessRef:
        make_fifos(self.request.bundle)
        self.monitor = await spawn_monitor(self.bench.conmon, self.request)
        return self.monitor

    async def create(self) -> int:
        monitor = await self.spawn()
        release(self.request)
        self.pid = await read_sync(self.request, PATIENCE, monitor)
        return self.pid

    async def start(self) -> None:
        await self.bench.call("start", self.id)

    async def watch(self) -> Pidfd:
        assert self.monitor is not None
        pidfd = open_pidfd(self.monitor)
        assert pidfd is not None
        return pidfd

    async def wait(self) -> exits.Exit:
        """Until conmon has ended; what it wrote."""
        with trio.fail_after(PATIENCE):
            assert self.monitor is not None
            pidfd = open_pidfd(self.monitor)
            if pidfd is not None:
                with pidfd:
                    await pidfd.wait()
        found = exits.read_exit(str(self.bench.exits), str(self.persist), self.id)
        assert found is not None
        return found

    def lines(self) -> list[str]:
        """The container's lines as logged, without time and stream."""
        return [line.split(" ", 3)[3] for line in self.log.read_text().splitlines()]

    async def clean(self) -> None:
        await self.bench.call("delete", "--force", self.id, check=False)
        await end_monitor(self.request, self.monitor)


def process_spec(command: list[str], *, terminal: bool = False) -> dict[str, Any]:
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": command,
        "env": ["PATH=/bin:/usr/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")},
    }


class Bench:
    def __init__(self, base: Path, rootfs: Path, conmon: Conmon, runtime: str) -> None:
        self.base = base
        self.rootfs = rootfs
        self.conmon = conmon
        self.runtime = runtime
        self.exits = base / "exits"
        self.exits.mkdir()
        self.cgroup = f"/pyman-tests-{secrets.token_hex(8)}"
        self.reaped: dict[int, int] = {}
        self._containers: list[Container] = []

    def container(self, *command: str, **options: Any) -> Container:
        container = Container(self, list(command), **options)
        self._containers.append(container)
        return container

    async def started(self, *command: str, **options: Any) -> Container:
        container = self.container(*command, **options)
        await container.create()
        await container.start()
        return container

    async def call(self, *arguments: str, check: bool = True) -> children.Completed:
        completed = await children.run([self.runtime, *arguments], deadline=PATIENCE)
        assert completed.returncode == 0 or not check, completed
        return completed

    def note_reaped(self, ref: ProcessRef, status: int) -> None:
        self.reaped[ref.pid] = status

    async def close(self) -> None:
        for container in self._containers:
            await container.clean()
        await trio.to_thread.run_sync(cgroups.remove, self.cgroup)


def _runtime_program(place: Place, base: Path) -> str:
    """The OCI runtime, or a program that runs it where it works."""
    path = shutil.which(place.runtime)
    assert path is not None
    if place.holder is None:
        return path
    program = base / place.runtime
    program.write_text(
        f'#!/bin/sh\nexec nsenter --mount=/proc/{place.holder.pid}/ns/mnt --wdns="$PWD" -- {path} "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


@asynccontextmanager
async def open_bench(base: Path, rootfs: Path, place: Place) -> AsyncIterator[Bench]:
    """A bench whose process is a subreaper and collects orphans, as the supervisor's does."""
    ancestry.become_subreaper()
    conmon = await find_conmon([], os.environ["PATH"])
    bench = Bench(base, rootfs, conmon, _runtime_program(place, base))
    async with trio.open_nursery() as nursery:
        await nursery.start(children.reap_orphans, bench.note_reaped)
        try:
            yield bench
        finally:
            with trio.CancelScope(deadline=trio.current_time() + PATIENCE, shield=True):
                await bench.close()
            nursery.cancel_scope.cancel()
    children._sweep(bench.note_reaped)  # what ended after the reaper did


def stop(process: ProcessRef) -> None:
    os.kill(process.pid, signal.SIGSTOP)


def resume(process: ProcessRef) -> None:
    os.kill(process.pid, signal.SIGCONT)
