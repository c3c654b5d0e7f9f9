"""The other engines on the same graph root, as the real programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from tests.support.runtimes import Place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Others", "missing"]


def missing(*programs: str) -> str:
    """Why a test cannot be run, or an empty string."""
    return next((f"{program} is not installed" for program in programs if shutil.which(program) is None), "")


class Others:
    """Podman, Buildah and Skopeo with one graph root and run root: the installed ones, or those `around`."""

    def __init__(self, place: Path, options: Sequence[str] = (), around: Place | None = None) -> None:
        self.place = place
        self._around = around or Place("runc")
        self._options = list(options)
        self.root = place / "root"
        self.run = place / "run"

    @property
    def _places(self) -> list[str]:
        return [
            "--root",
            str(self.root),
            "--runroot",
            str(self.run),
            "--storage-driver",
            "overlay",
            *self._options,
        ]

    def podman(self, *words: str, check: bool = True, stdin: bytes | None = None) -> str:
        fixed = ["--events-backend", "file", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]
        fixed += ["--tmpdir", str(self.place / "tmp")]
        return self._run(["podman", *self._places, *fixed, *words], check, stdin)

    def run_in(self, image: str, script: str) -> str:
        """What a container of an image says, with limits that every host permits."""
        options = ["--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        return self.podman("run", *options, image, "sh", "-c", script)

    def buildah(self, *words: str, check: bool = True) -> str:
        return self._run(["buildah", *self._places, *words], check)

    def storage(self, name: str) -> str:
        """An image as Skopeo calls it."""
        return f"containers-storage:[overlay@{self.root}+{self.run}]{name}"

    def skopeo(self, *words: str, check: bool = True) -> str:
        return self._run(["skopeo", "--insecure-policy", *words], check)

    def images(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.podman("images", "--all", "--format", "json"))
        return listed

    def _run(self, argv: list[str], check: bool, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            [*self._around.prefix("/"), *argv],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            cwd="/",
            env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
        )
        if check and done.returncode:
            raise AssertionError(
                f"{argv} ended with {done.returncode}: {(done.stdout + done.stderr).decode()}"
            )
        return done.stdout.decode().strip()
