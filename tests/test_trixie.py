"""The set-up of Debian 13 for the tests: whole or not at all, once, and never changed. debootstrap is a stand-in here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.trees import TRIXIE, TreePlace, trixie

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a root file system")

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/trixie"
_APT = "#!/bin/sh\necho http://mirror.example/debian/\n"
_MAKES = """\
#!/bin/sh
echo "$@" >>"$CALLS"
for word in "$@"; do case $word in /*) made=$word ;; esac; done
mkdir -p "$made/etc" "$made/var/cache/apt/archives" "$made/var/lib/apt/lists" "$made/proc"
mount -t proc proc "$made/proc"
touch "$made/var/cache/apt/archives/a.deb" "$made/var/lib/apt/lists/a"
"""
_FAILS = _MAKES + 'echo "E: the mirror does not answer"\nexit 1\n'
# In a mount namespace in which the cache is the test's own.
_RUN = 'mount --bind "$1" /var/cache; shift; exec "$@"'


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def set_up(tmp_path: Path, cache: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs the script with this debootstrap."""
    programs = tmp_path / "bin"
    for directory in (programs, cache):
        directory.mkdir()

    def run(debootstrap: str) -> subprocess.CompletedProcess[str]:
        for name, text in (("debootstrap", debootstrap), ("apt-get", _APT)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _RUN, "sh", cache, SCRIPT],
            env={"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_it_is_made_once_and_found_from_then_on(
    set_up: Callable[[str], subprocess.CompletedProcess[str]], cache: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        done = set_up(_MAKES)
        assert (done.returncode, done.stdout) == (0, f"{TRIXIE}\n")
    (call,) = calls(tmp_path)
    assert "podman" in call
    assert call.endswith(f" trixie {TRIXIE}.made http://mirror.example/debian/")
    tree = cache / TRIXIE.relative_to("/var/cache")
    assert sorted(path.name for path in tree.parent.iterdir()) == ["lock", "log", "trixie"]
    assert [path.name for path in tree.rglob("*") if path.is_file()] == ["pyman-tests"]


def test_one_of_other_packages_is_made_anew(
    set_up: Callable[[str], subprocess.CompletedProcess[str]], cache: Path, tmp_path: Path
) -> None:
    set_up(_MAKES)
    stamp = cache / TRIXIE.relative_to("/var/cache") / "etc/pyman-tests"
    wanted = stamp.read_text()
    stamp.write_text("podman")
    assert set_up(_MAKES).returncode == 0
    assert len(calls(tmp_path)) == 2
    assert stamp.read_text() == wanted


def test_one_that_cannot_be_made_is_not_there_and_says_why(
    set_up: Callable[[str], subprocess.CompletedProcess[str]], cache: Path
) -> None:
    done = set_up(_FAILS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "E: the mirror does not answer" in done.stderr
    assert f"trixie: cannot make {TRIXIE}" in done.stderr
    assert sorted(path.name for path in (cache / "pyman-tests").iterdir()) == ["lock", "log"]


def test_whoever_enters_it_does_not_change_it() -> None:
    for _ in range(2):
        place = TreePlace()
        try:
            told = subprocess.run(
                [*place.prefix("/"), "sh", "-c", "cat /etc/debian_version; ls /new; touch /new /etc/new"],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            place.close()
        assert told.returncode == 0
        assert told.stdout.startswith("13")
        assert "/new" in told.stderr, "what was there before is there still"
    assert not (trixie() / "new").exists()
