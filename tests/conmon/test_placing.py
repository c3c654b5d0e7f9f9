"""A program finds descriptors under the numbers that it expects."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from supervisor.conmon import placing

if TYPE_CHECKING:
    from pathlib import Path


def links(places: dict[int, int | None], *passed: int) -> dict[int, str]:
    """Where the descriptors from 3 on lead that a program has."""
    script = 'for path in /proc/$$/fd/*; do echo "${path##*/} $(readlink $path)"; done'
    argv = placing.command(places, ["/bin/sh", "-c", script])
    done = subprocess.run(argv, pass_fds=passed, capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return {int(number): path for number, path in found.items() if int(number) > 2 and path.startswith("/")}


def test_descriptors_have_the_numbers_that_were_wished(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    with open(tmp_path / "a", "rb") as first, open(tmp_path / "b", "rb") as second:
        a, b = first.fileno(), second.fileno()
        # Also where each has the number of the other.
        swapped = links({a: b, b: a}, a, b)
        assert (swapped[a], swapped[b]) == (str(tmp_path / "b"), str(tmp_path / "a"))
        spread = links({3: a, 4: None, 5: b, 200: a}, a, b)
        assert spread == {3: f"{tmp_path}/a", 4: os.devnull, 5: f"{tmp_path}/b", 200: f"{tmp_path}/a"}


def test_the_program_takes_signals_as_ever(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as file:
        argv = placing.command({3: file.fileno()}, ["/bin/sh", "-c", "grep ^SigIgn /proc/self/status"])
        done = subprocess.run(argv, pass_fds=[file.fileno()], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1], 16) == 0
