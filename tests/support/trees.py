"""Root file systems beside the host's own, with other versions of programs: entered, and never changed.

A process that enters one gets a mount namespace in which that tree is the root, copy-on-write; /proc, /sys, /dev, /run
and /tmp are the host's, and what the caller shares with it. `TreePlace` is Debian 13 with the Podman, Buildah and
Skopeo of that; pyman runs in it with the host's Python, so that all of them see the same mounts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.runtimes import Place

__all__ = ["NoTree", "TreePlace", "enter", "leave", "trixie"]

TRIXIE = Path("/var/cache/pyman-tests/trixie")
"""Where `scripts/trixie` makes Debian 13."""
CHECKOUT = Path(__file__).resolve().parents[2]
_HOSTS = ("/etc/group", "/etc/hosts", "/etc/passwd", "/etc/subgid", "/etc/subuid")
"""What `localhost` is, and who the user of the tests is."""

# Run with the tree as working directory; the shell and its programs come from the host until the last line. What is
# mounted on the tree is seen by nobody else.
_ENTER = """\
set -e
umask 022
mount -t tmpfs -o mode=0755 tmpfs mnt
mkdir mnt/upper mnt/work mnt/root
mount -t overlay -o lowerdir=.,upperdir=mnt/upper,workdir=mnt/work overlay mnt/root
cd mnt/root
for directory in proc sys dev run tmp; do mount --rbind /$directory $directory; done
for path in "$@"; do
    if [ -d "$path" ]; then
        mkdir -p ".$path"
    elif [ ! -e ".$path" ]; then
        mkdir -p ".${path%/*}"
        : >".$path"
    fi
    mount --bind "$path" ".$path"
done
pivot_root . mnt
umount -l mnt
echo ready
exec sleep infinity
"""


class NoTree(Exception):
    """There is none, or it cannot be entered."""


def enter(tree: Path, shared: list[str]) -> subprocess.Popen[bytes]:
    """A process that keeps the mount namespace in which the tree is the root, with files and directories of the
    host's at their places. Raises NoTree."""
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", *shared],
        cwd=tree,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    with holder.stdout as ready:
        if ready.readline() != b"ready\n":
            leave(holder)
            raise NoTree(f"cannot enter {tree}")
    return holder


def leave(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()


def trixie() -> Path:
    """Debian 13. Raises NoTree."""
    if not (TRIXIE / "etc/pyman-tests").exists():
        raise NoTree(f"there is no Debian 13 at {TRIXIE}: scripts/trixie makes it")
    return TRIXIE


class TreePlace(Place):
    """In Debian 13, with its runc. Raises NoTree."""

    def __init__(self) -> None:
        super().__init__("runc", enter(trixie(), _what_pyman_needs()))


def _what_pyman_needs() -> list[str]:
    """The interpreter by the names that it is called by, its library, and the checkout with the virtual environment."""
    name = sys.executable
    names = [name]
    while os.path.islink(name):
        name = os.path.join(os.path.dirname(name), os.readlink(name))
        names.append(name)
    shared = [path for path in _HOSTS if os.path.exists(path)]
    for path in (sysconfig.get_path("stdlib"), str(CHECKOUT), sys.prefix, *names):
        if not any(path == place or path.startswith(f"{place}/") for place in shared):
            shared.append(path)
    return shared
