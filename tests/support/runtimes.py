"""Which OCI runtimes the tests can use here, and what each needs to work.

runc works everywhere. crun refuses a hybrid cgroup hierarchy (v1 controllers with a v2 tree beside them);
in a mount namespace in which the v2 side is unmounted it works. `Place` is such a surrounding: a prefix for
command lines, and the process that keeps the namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

__all__ = ["BY_USER", "NAMES", "Place", "hybrid_cgroups", "make_place"]

NAMES = ("runc", "crun")
BY_USER = ("crun", "rootless")
"""For what no OCI runtime has a say in: once by root, with crun, and once by an ordinary user, with runc."""

_UNIFIED = "/sys/fs/cgroup/unified"
_HOLD = f"umount {_UNIFIED} && echo ready && exec sleep infinity"


def hybrid_cgroups() -> bool:
    return os.path.ismount(_UNIFIED)


@dataclass
class Place:
    """Where programs run: on the host as it is, or in the mount namespace that `holder` keeps."""

    runtime: str
    holder: subprocess.Popen[bytes] | None = None

    @property
    def mount_namespaces(self) -> tuple[int, ...]:
        """Pids whose mounts belong to this place besides the host's own."""
        return (self.holder.pid,) if self.holder else ()

    def prefix(self, cwd: str) -> list[str]:
        """What to put before a command line so that it runs here, in the directory `cwd`."""
        if self.holder is None:
            return []
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", f"--wdns={cwd}", "--"]

    def close(self) -> None:
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()


def make_place(runtime: str) -> Place:
    """Raises LookupError where the runtime is not installed."""
    if shutil.which(runtime) is None:
        raise LookupError(f"{runtime} is not installed")
    if runtime != "crun" or not hybrid_cgroups():
        return Place(runtime)
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    with holder.stdout as ready:
        if ready.readline() != b"ready\n":
            holder.kill()
            holder.wait()
            raise LookupError(f"{runtime} cannot work here: no mount namespace without {_UNIFIED}")
    return Place(runtime, holder)
