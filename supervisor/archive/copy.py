"""The program that copies into containers, out of them, and from one to another.

`python -m supervisor.archive.copy`, started by `jobs.copy`. It sees the files of the containers in question (`insides`)
and what it was given descriptors of: a file or directory of the client's, or a tar archive. An archive is read, or
written, with one container in view alone, which then is all there is.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

from pyman.errors import InvalidArgument, NotFound
from supervisor.archive import confinement, insides, owners, program
from supervisor.archive.duplicating import Duplication
from supervisor.archive.failures import failed, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.archive.insides import Inside

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Copy as the job says. What was copied, in the words of `Copied`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is half done is removed on the way out
    if job["feed"]:
        from supervisor.archive import putting

        return putting.put(job)
    if job["out"] >= 0:
        from supervisor.archive import taking

        return taking.take(job)
    return _duplicate(job)


class _From:
    """What is copied: opened, unless nothing is read from it."""

    def __init__(self, job: dict[str, Any], inside: Inside | None) -> None:
        given = job["source"]
        self.text = str(given["path"])
        self.contents = bool(given["contents"])
        """What is in the directory, and not itself."""
        self.at_root = False
        if inside is None:
            self.fd, self.name = int(given["fd"]), str(given["name"])
            self.status = os.fstat(self.fd)
            return
        found, self.status = inside.find(self.text)
        self.name = os.fsdecode(found.name)
        self.fd = -1
        self.at_root = not found.names
        self.contents |= self.at_root
        try:
            if found.directory >= 0:
                self.fd = os.open(".", _DIRECTORY, dir_fd=found.directory)
            elif stat.S_ISREG(self.status.st_mode):
                self.fd = os.open(found.name, _OPEN, dir_fd=found.parent)
                self.status = os.fstat(self.fd)
        except OSError as error:
            raise failed(error, "copy", os.fsencode(self.text)) from error

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def _duplicate(job: dict[str, Any]) -> dict[str, Any]:
    source, target = job["source"], job["target"]
    seen = insides.enter(job["insides"], (*confinement.WRITING, *confinement.READING))
    begin = _From(job, seen[source["inside"]] if source["inside"] >= 0 else None)
    if target["inside"] >= 0:
        parent, name = _destination(seen[target["inside"]], str(target["path"]), begin)
    else:
        parent, name = int(target["fd"]), str(target["name"])
        if begin.is_directory and target["is_file"]:
            raise _no_directory(begin, name)
        if not name and not begin.contents:
            name = begin.name
    copy = Duplication(
        owner=owners.of_copies(job),
        overwrite=job["overwrite"],
        devices=job["devices"],
        skip_denied=job["skip_denied"],
        leave_out=insides.OF_THE_KERNEL if begin.at_root else frozenset(),
    )
    if begin.is_directory:
        copy.tree(begin.fd, parent, name)
    else:
        copy.file(begin.fd, begin.status, parent, begin.text, name)
    return {"files": copy.files, "size": copy.size, "left_out": copy.left_out}


def _destination(inside: Inside, path: str, begin: _From) -> tuple[int, str]:
    """The directory that it goes to, and its name there; no name: its contents go there."""
    found = inside.look(path)
    if found is None or (found.status is None and path.endswith(("/", "/."))):
        raise NotFound(
            f"cannot copy to {quoted(os.fsencode(path))} in container '{inside.name}': there is no such directory",
            subject=inside.name,
        )
    if found.directory >= 0:
        return found.directory, "" if begin.contents and begin.is_directory else begin.name
    if found.status is not None and begin.is_directory:
        raise _no_directory(begin, path)
    return found.parent, os.fsdecode(found.name)


def _no_directory(begin: _From, target: str) -> InvalidArgument:
    shown, other = quoted(os.fsencode(begin.text)), quoted(os.fsencode(target))
    return InvalidArgument(f"cannot copy the directory {shown} to {other}: that is no directory")


if __name__ == "__main__":
    sys.exit(program.main(work, "copy", gently=True))
