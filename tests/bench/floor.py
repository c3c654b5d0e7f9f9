"""A container's whole life by hand: what conmon and the OCI runtime take, with nothing around them.

The spec is the one that pyman wrote for the same container, so both do the same work; the clean-up is part of
the life. This is the floor that a connected client of the supervisor is held against.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
import uuid
from glob import glob
from pathlib import Path
from typing import Any

from supervisor.kernel import mounts
from tests.bench.measure import Failed
from tests.support.leaks import remove_cgroups

__all__ = ["Floor"]

_CGROUP = "pyman-bench"


class Floor:
    """`template`: a config.json. `steps` collects the seconds of each step of every life."""

    def __init__(self, runtime: str, rootfs: Path, template: dict[str, Any]) -> None:
        self._runtime = shutil.which(runtime) or runtime
        self._conmon = shutil.which("conmon") or "/usr/bin/conmon"
        self._rootfs = rootfs
        self._template = template
        self.path = Path(tempfile.mkdtemp(prefix="pf-", dir="/tmp"))
        for name in ("exits", "attach"):
            (self.path / name).mkdir()
        self.steps: dict[str, list[float]] = {}

    def life(self) -> float:
        """Seconds from the first directory to the last one removed."""
        id = uuid.uuid4().hex * 2
        bundle = self.path / id
        begun = mark = time.perf_counter()

        def step(name: str) -> None:
            nonlocal mark
            now = time.perf_counter()
            self.steps.setdefault(name, []).append(now - mark)
            mark = now

        self._prepare(id, bundle)
        step("overlay, spec")
        self._create(id, bundle)
        step("conmon, create")
        monitor = os.pidfd_open(int((bundle / "conmon.pid").read_text()))
        try:
            subprocess.run([self._runtime, "start", id], check=True, stdin=subprocess.DEVNULL)
            step("start")
            if not select.select([monitor], [], [], 30)[0]:
                raise Failed("by hand: the container does not end")
        finally:
            os.close(monitor)
        if (self.path / "exits" / id).read_text() != "0":
            raise Failed("by hand: the container failed")
        step("exit, conmon gone")
        self._clean(id, bundle)
        step("delete, unmount")
        return time.perf_counter() - begun

    def _prepare(self, id: str, bundle: Path) -> None:
        for name in ("", "upper", "work", "merged"):
            os.mkdir(bundle / name)
        mounts.overlay(
            str(bundle / "merged"), [str(self._rootfs)], str(bundle / "upper"), str(bundle / "work")
        )
        spec = {**self._template, "root": {**self._template["root"], "path": str(bundle / "merged")}}
        spec["linux"] = {**self._template["linux"], "cgroupsPath": f"/{_CGROUP}/{id}"}
        (bundle / "config.json").write_text(json.dumps(spec))

    def _create(self, id: str, bundle: Path) -> None:
        sync_read, sync_write = os.pipe()
        start_read, start_write = os.pipe()
        argv = [
            *(self._conmon, "--api-version", "1"),
            *("-c", id, "-u", id, "-n", "by-hand"),
            *("-r", self._runtime, "-b", str(bundle), "-p", str(bundle / "pidfile")),
            *("--conmon-pidfile", str(bundle / "conmon.pid")),
            *("--exit-dir", str(self.path / "exits"), "--socket-dir-path", str(self.path / "attach")),
            *("-l", f"k8s-file:{bundle}/ctr.log", "--log-level", "error"),
        ]
        pipes = {"_OCI_SYNCPIPE": str(sync_write), "_OCI_STARTPIPE": str(start_read)}
        try:
            conmon = subprocess.Popen(
                argv,
                pass_fds=(sync_write, start_read),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ["PATH"], **pipes},
            )
        finally:
            os.close(sync_write)
            os.close(start_read)
        os.write(start_write, b"1")
        os.close(start_write)
        with os.fdopen(sync_read, "rb") as sync:
            answer = json.loads(sync.readline() or b'{"data": -1}')
        conmon.wait()
        if answer["data"] <= 0:
            raise Failed(f"by hand: {answer.get('message', 'conmon gave no answer')}")

    def _clean(self, id: str, bundle: Path) -> None:
        subprocess.run([self._runtime, "delete", id], check=True, stdin=subprocess.DEVNULL)
        mounts.unmount(str(bundle / "merged"), lazy=True)
        os.unlink(self.path / "exits" / id)
        (self.path / "attach" / id).unlink(missing_ok=True)
        shutil.rmtree(bundle)

    def close(self) -> None:
        for entry in self.path.iterdir():
            if (entry / "merged").exists():
                subprocess.run(
                    [self._runtime, "delete", "--force", entry.name], check=False, capture_output=True
                )
                mounts.unmount(str(entry / "merged"), lazy=True)
        remove_cgroups({f"{root}/{_CGROUP}" for root in glob("/sys/fs/cgroup/*") if os.path.isdir(root)})
        shutil.rmtree(self.path, ignore_errors=True)
