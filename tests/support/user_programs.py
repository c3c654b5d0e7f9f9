"""pyman's programs where an ordinary user can execute them, wherever this checkout lies.

A checkout below root's home cannot even be entered by another user. Then the packages are copied, and a virtual
environment of the system's Python finds the copy.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.engine import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.user import UserPlace

__all__ = ["copied", "programs_for"]

TOP = Path(__file__).resolve().parents[2]
_ONLY_FOR_TESTS = shutil.ignore_patterns(
    "__pycache__",
    "_pyman.pth",
    "*mypy*",
    "ruff*",
    "pip*",
    "hypothesis*",
    "setuptools*",
    "*pytest*",
    "pygments*",
)
_PROGRAM = """\
#!{python}
import sys
from {module} import {name}
sys.exit({name}())
"""


def programs_for(place: UserPlace) -> Iterator[Path]:
    """The directory with `pyman` and `pyman-supervisor`; a generator that removes what it had to make."""
    argv = [*place.prefix("/"), str(BIN / "pyman"), "--version"]
    if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
        yield BIN
        return
    directory = Path(tempfile.mkdtemp(prefix="pm-programs-", dir="/tmp"))
    try:
        directory.chmod(0o755)
        yield copied(directory)
    finally:
        shutil.rmtree(directory)


def copied(directory: Path) -> Path:
    """Programs of copies in a directory that everybody can enter."""
    site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    shutil.copytree(site, directory / "packages", ignore=_ONLY_FOR_TESTS, symlinks=True)
    for name in ("pyman", "supervisor"):
        shutil.copytree(
            TOP / name, directory / "packages" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    made = directory / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", made], check=True)
    (next((made / "lib").glob("python3*/site-packages")) / "copied.pth").write_text(f"{directory}/packages\n")
    for program, module, name in (
        ("pyman", "pyman.cli.main", "program"),
        ("pyman-supervisor", "supervisor.__main__", "main"),
    ):
        script = made / "bin" / program
        script.write_text(_PROGRAM.format(python=made / "bin/python", module=module, name=name))
        script.chmod(0o755)
    return made / "bin"
