"""Podman as the bench uses it: directories of its own, cgroupfs, the events in a file.

With a tree (a root file system with a newer Podman, as `scripts/trixie` makes one) every command enters it. The host's
OCI runtime is put over the tree's, so that both engines use the same one; where that one is too old for the newer Podman, the tree's own is left, and `runtime` says so.
What entering costs is measured and taken off.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.measure import Failed, command_time, median
from tests.support import processes
from tests.support.leaks import cgroup_directories, mount_points, remove_cgroups
from tests.support.rootfs import make_rootfs
from tests.support.trees import NoTree, enter, leave

__all__ = ["CONFIG", "Podman", "define_network", "in_tree", "ulimits"]

CONFIG = """\
[containers]
log_driver = "k8s-file"
default_ulimits = [{ulimits}]

[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "file"

[engine.runtimes]
{runtime} = ["{path}"]

[network]
network_backend = "netavark"
network_config_dir = "{directory}/networks"
"""
_DEFAULT_NETWORK = {
    "name": "podman",
    "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
    "driver": "bridge",
    "network_interface": "podman9",
    "created": "2026-01-01T00:00:00Z",
    "subnets": [{"subnet": "10.99.0.0/16", "gateway": "10.99.0.1"}],
    "ipv6_enabled": False,
    "internal": False,
    "dns_enabled": False,
    "ipam_options": {"driver": "host-local"},
}
"""Podman's own but for the bridge and the addresses: pyman's is beside it."""

_LIMIT = 30_000
"""Podman gives its children less than 32 768 processes; root's are counted together."""


class Podman:
    """One Podman with its own root. `version` is as it says itself."""

    def __init__(self, runtime: str, tree: Path | None = None, directory: str = "/tmp") -> None:
        found = shutil.which(runtime)
        if found is None:
            raise Failed(f"{runtime} is not installed")
        self._mounts_before = mount_points()
        self._ids: set[str] = set()
        self._holder: subprocess.Popen[bytes] | None = None
        self.path = Path(tempfile.mkdtemp(prefix="pb-", dir=directory))
        try:
            self._configure(runtime, os.path.realpath(found))
            self.rootfs = make_rootfs(self.path / "rootfs")
            if tree is None and shutil.which("podman") is None:
                raise Failed("podman is not installed")
            self.entering = 0.0
            if tree is not None:
                self._enter_usefully(tree, os.path.realpath(found))
            self.version = self.out("version", "--format", "{{.Client.Version}}")
            told = subprocess.run(
                [*self._prefix, runtime, "--version"], capture_output=True, text=True, check=True
            )
            self.runtime = told.stdout.splitlines()[0]
        except BaseException:
            self.close()
            raise

    def _enter_usefully(self, tree: Path, program: str) -> None:
        self._holder = in_tree(tree, [program])
        try:
            self.out("run", "--rm", "--network", "none", "--rootfs", f"{self.rootfs}:O", "true")
        except Failed:
            leave(self._holder)
            self._holder = in_tree(tree, [])
        plain = [command_time(["true"], self.environment) for _ in range(15)]
        entered = [command_time([*self._prefix, "true"], self.environment) for _ in range(15)]
        self.entering = max(0.0, median(entered) - median(plain))

    def _configure(self, runtime: str, path: str) -> None:
        (self.path / "containers.conf").write_text(
            CONFIG.format(
                ulimits=ulimits(),
                runtime=runtime,
                path=path,
                directory=self.path,
            )
        )
        define_network(self.path)
        (self.path / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.path}/root"\nrunroot = "{self.path}/run"\n'
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.path),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "LANG": "C.UTF-8",
            "CONTAINERS_CONF": str(self.path / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.path / "storage.conf"),
        }

    @property
    def _prefix(self) -> list[str]:
        return [] if self._holder is None else ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]

    def command(self, *arguments: str | Path) -> list[str]:
        own = [f"--root={self.path}/root", f"--runroot={self.path}/run", f"--tmpdir={self.path}/tmp"]
        return [*self._prefix, "podman", *own, *map(str, arguments)]

    def time(self, *arguments: str | Path) -> float:
        """Seconds of one command, without what entering its tree costs."""
        return command_time(self.command(*arguments), self.environment) - self.entering

    def out(self, *arguments: str | Path, timeout: float = 120.0) -> str:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise Failed(f"podman {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout.strip()

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out("container", "inspect", *names))
        return found

    def remove_containers(self) -> None:
        self._remember()
        self.out("rm", "--all", "--force", "--time", "0", timeout=600)

    def _remember(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ids.update(name for name in os.listdir(self.path / "tmp/exits") if len(name) == 64)
        for pid in processes.mentions([str(self.path)]):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                self._ids.update(word for word in words if len(word) == 64 and "/" not in word)

    def close(self) -> None:
        """Ends and removes everything; never raises for what is broken already."""
        self._remember()
        if (self.path / "root").exists():
            with contextlib.suppress(Failed, subprocess.TimeoutExpired, FileNotFoundError):
                self.remove_containers()
        for _ in range(2):
            found = processes.mentions([str(self.path), *self._ids]) - {os.getpid()}
            processes.end(processes.family(found) - {os.getpid()})
        if self._holder is not None:
            leave(self._holder)
        mine = {path for path in mount_points() - self._mounts_before if path.startswith(f"{self.path}/")}
        for path in sorted(mine, key=len, reverse=True):
            subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
        remove_cgroups({path for path in cgroup_directories() if any(name in path for name in self._ids)})
        shutil.rmtree(self.path, ignore_errors=True)


def define_network(directory: Path) -> None:
    """The default one, beside pyman's."""
    (directory / "networks").mkdir()
    (directory / "networks/podman.json").write_text(json.dumps(_DEFAULT_NETWORK))


def ulimits() -> str:
    """For containers.conf: where CAP_SYS_RESOURCE is missing, Podman's own defaults are more than the OCI runtime
    may set."""
    limits = (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
    return ", ".join(f'"{name}={_at_most(number)}:{_at_most(number)}"' for name, number in limits)


def _at_most(number: int) -> int:
    hard = resource.getrlimit(number)[1]
    return min(_LIMIT, hard) if hard >= 0 else _LIMIT


def in_tree(tree: Path, shared: list[str]) -> subprocess.Popen[bytes]:
    """A process that keeps the mount namespace of a tree, with programs of the host's."""
    try:
        return enter(tree, shared)
    except NoTree as error:
        raise Failed(str(error)) from None
