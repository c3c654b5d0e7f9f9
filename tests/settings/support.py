"""Configuration files in a directory of the test's own, instead of this machine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.settings.load import load
from supervisor.settings.model import Options

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.settings.model import Settings


class Machine:
    """A machine's configuration files; paths are relative to its root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {"HOME": f"{root}/home", "XDG_RUNTIME_DIR": f"{root}/runtime"}
        # A profile is there: its absence would be one more warning.
        self.write("usr/seccomp.json", "{}")

    def write(self, path: str, text: str) -> str:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return str(file)

    def load(self, options: Options | None = None, *, uid: int = 0) -> Settings:
        places = {"system": f"{self.root}/usr", "administrator": f"{self.root}/etc"}
        return load(options or Options(), self.environ, uid, **places)
