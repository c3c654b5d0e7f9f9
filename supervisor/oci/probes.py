"""What is asked of the OCI runtimes of this host before one is chosen: `begin` starts it, `runtimes` has the answers.

Each name of `[engine.runtimes]` has paths; the first that is an executable file is taken and asked for its
version. That a runtime is there does not mean that it works here (crun refuses a hybrid cgroup hierarchy):
those that are quick about it are asked to create a container whose command does not exist. They complain
about the command last, so any other complaint is the reason why they cannot work; nothing is left behind.
"""

from __future__ import annotations

import os
import stat
import tempfile
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import RuntimeNotFound
from supervisor.kernel.begun import begin as begin_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.begun import Begun
    from supervisor.settings.model import EngineSettings

__all__ = ["NO_SUCH_COMMAND", "Probe", "Trial", "begin", "is_executable"]

NO_SUCH_COMMAND = "/pyman-probe-no-such-command"
_TRIED = frozenset({"crun", "youki"})
"""Quick to refuse: about 5 ms. runc takes 30 ms and works on every hierarchy; the others start machines."""

_SPEC = {
    "ociVersion": "1.0.0",
    "process": {"args": [NO_SUCH_COMMAND], "cwd": "/", "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
}


class Trial:
    """A runtime is having a container created. `close` when it has ended."""

    def __init__(self, path: str, place: str | None) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="pyman-probe-", dir=place)
        directory = self._scratch.name
        for name in ("state", "rootfs", "rootfs/dev", "rootfs/proc"):
            os.mkdir(f"{directory}/{name}")
        with open(f"{directory}/config.json", "wb") as file:
            file.write(msgspec.json.encode(_SPEC))
        own = [path, "--root", f"{directory}/state"]
        id = os.path.basename(directory)
        self.program = begin_program([*own, "create", "--bundle", directory, id])
        self.undo = [*own, "delete", "--force", id]
        """For a runtime that looks for the command only later."""

    def close(self) -> None:
        self._scratch.cleanup()


class Probe:
    """One runtime."""

    def __init__(self, name: str, path: str, place: str | None) -> None:
        self.name = name
        self.path = path
        self.version: Begun = begin_program([path, "--version"])
        self.trial = Trial(path, place) if os.path.basename(path) in _TRIED else None

    def abandon(self) -> None:
        """What nobody has waited for."""
        self.version.abandon()
        if self.trial is not None:
            self.trial.program.abandon()
            self.trial.close()


def begin(engine: EngineSettings, place: str | None = None) -> list[Probe]:
    """RuntimeNotFound: the configured one is no program. `place`: a directory for what is tried; none: the host's for
    temporary files."""
    found = {name: path for name, paths in engine.runtimes.items() if (path := _first_executable(paths))}
    if engine.runtime.startswith("/") and engine.runtime not in found.values():
        if not is_executable(engine.runtime):
            message = f"cannot use the OCI runtime '{engine.runtime}': it is not an executable file"
            raise RuntimeNotFound(message, subject=engine.runtime)
        found[engine.runtime] = engine.runtime
    return [Probe(name, path, place) for name, path in found.items()]


def _first_executable(paths: Sequence[str]) -> str:
    return next((path for path in paths if is_executable(path)), "")


def is_executable(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False
