"""A program: a client that starts the stand-in where no supervisor answers, and says what came of it.

`python client.py ROOT RUNROOT TMPDIR` prints what the supervisor says of itself as JSON, or the code and
the text of the error. LAUNCH_SYSTEMD names the directory that means "systemd runs".
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from pyman.cli import launch
from pyman.errors import PymanError
from pyman.wire import Selection, connect

if TYPE_CHECKING:
    from collections.abc import Mapping


def _program() -> list[str]:
    return [sys.executable, "-P", os.path.join(os.path.dirname(os.path.abspath(__file__)), "standin.py")]


def _environment(environ: Mapping[str, str], uid: int = 0) -> dict[str, str]:
    told = {name: value for name, value in environ.items() if name.startswith("STANDIN_")}
    return {**_clean(environ, uid), **told}


if __name__ == "__main__":
    _clean = launch.clean_environment
    vars(launch).update(
        program=_program,
        clean_environment=_environment,
        _SYSTEMD=os.environ.get("LAUNCH_SYSTEMD", "/nowhere"),
    )
    begun = time.monotonic()
    root, runroot, tmpdir = sys.argv[1:4]
    try:
        with connect(Selection(root, runroot, tmpdir)) as connection:
            told = connection.call("System.Info")["supervisor"]
    except PymanError as error:
        told = {"error": error.code, "text": str(error)}
    sys.stdout.write(json.dumps({**told, "seconds": time.monotonic() - begun}))
