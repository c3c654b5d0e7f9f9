"""`python -m pyman.cli`: the same as the console script `pyman`."""

from __future__ import annotations

from pyman.cli.main import program

program()
