"""Making the user's id maps with newuidmap and newgidmap: both, one of them, or none."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.user import UserPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.user import User

_REFUSES = "#!/bin/sh\necho told >&2\necho not you >&2\nexit 1\n"
_SCRIPT = """
import sys
from supervisor.rootless import entering
entering._PATH, entering._PATIENCE = sys.argv[1], 0.3
print(entering._make())
for kind in "ug":
    print(len(open(f"/proc/self/{kind}id_map").readlines()))
"""


@pytest.fixture
def mappers() -> Iterator[Path]:
    """A directory that the user can look into."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.parametrize("refusing", [(), ("newuidmap",), ("newgidmap",), ("newuidmap", "newgidmap")])
def test_what_one_program_refuses_is_the_users_own_id_alone(
    user: User, programs: Path, mappers: Path, refusing: tuple[str, ...]
) -> None:
    for name in ("newuidmap", "newgidmap"):
        if name in refusing:
            (mappers / name).write_text(_REFUSES)
            (mappers / name).chmod(0o755)
        else:
            (mappers / name).symlink_to(str(shutil.which(name)))
    warning, uids, gids = _make(user, programs, mappers)
    assert warning == (f"{refusing[0]} refused: not you: only one id can be used" if refusing else "")
    assert uids == (1 if "newuidmap" in refusing else 2)
    assert gids == (1 if "newgidmap" in refusing else 2)


def test_one_that_is_not_there_is_named(user: User, programs: Path, mappers: Path) -> None:
    (mappers / "newuidmap").symlink_to(str(shutil.which("newuidmap")))
    assert _make(user, programs, mappers)[0] == "newgidmap is not installed: only one id can be used"


def test_one_that_does_not_end_is_ended(user: User, programs: Path, mappers: Path) -> None:
    (mappers / "newgidmap").symlink_to(str(shutil.which("newgidmap")))
    (mappers / "newuidmap").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (mappers / "newuidmap").chmod(0o755)
    assert _make(user, programs, mappers)[0].startswith(
        "newuidmap cannot be used: it has not ended within 0.3 s"
    )


def _make(user: User, programs: Path, mappers: Path) -> tuple[str, int, int]:
    argv = [*UserPlace(user).prefix("/"), str(programs / "python"), "-P", "-c", _SCRIPT, str(mappers)]
    done = subprocess.run(argv, cwd="/", capture_output=True, text=True, timeout=20, check=True)
    warning, uids, gids = done.stdout.splitlines()
    return warning, int(uids), int(gids)
