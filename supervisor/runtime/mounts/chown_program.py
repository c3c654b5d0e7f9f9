"""A program: gives a file, or a directory with all that is in it, to a user and a group.

    python chown_program.py DESCRIPTOR UID GID

Everything is opened from the directory that it lies in, and no link is followed: whoever moves things about meanwhile leads
it nowhere else. What belongs to the two already is left alone: to change the owner takes set-uid bits away, and
capabilities. Standard library only; the first failure is told in one line, and ends it.
"""

from __future__ import annotations

import os
import resource
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> int:
    descriptor, uid, gid = map(int, sys.argv[1:])
    # A directory is open for each level of the tree.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        _give(f"/proc/self/fd/{descriptor}", uid, gid)
    except OSError as error:
        sys.stderr.write(f"{(error.strerror or str(error)).lower()}\n")
        return 1
    return 0


def _give(top: str, uid: int, gid: int) -> None:
    status = os.stat(top)
    if (status.st_uid, status.st_gid) != (uid, gid):
        os.chown(top, uid, gid)
    if not stat.S_ISDIR(status.st_mode):
        return
    levels: list[tuple[int, Iterator[str]]] = [_opened(top, None)]
    while levels:
        directory, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
            os.close(directory)
        elif _given(name, directory, uid, gid):
            try:
                levels.append(_opened(name, directory))
            except (FileNotFoundError, NotADirectoryError):
                continue  # something else is there by now


def _opened(name: str, directory: int | None) -> tuple[int, Iterator[str]]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if directory is None else os.O_NOFOLLOW)
    found = os.open(name, flags, dir_fd=directory)
    return found, iter(os.listdir(found))


def _given(name: str, directory: int, uid: int, gid: int) -> bool:
    """It is a directory."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode)


if __name__ == "__main__":
    sys.exit(main())
