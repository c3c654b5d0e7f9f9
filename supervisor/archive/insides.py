"""The files of containers as a program sees them that copies: with all that is mounted in them.

Of a container that runs it is a copy of what its own mount namespace shows. Of another one it is the root file system
where the engine has mounted it, with the volumes and directories that a run would mount, too. Either way nothing is
seen of the host; of two containers each has a root of its own, and no path leads from one into the other. Standard library only.
"""

from __future__ import annotations

import os
import stat

from pyman.errors import NotFound, NotSupported
from supervisor.archive import confinement
from supervisor.archive.failures import failed, quoted
from supervisor.archive.resolving import Resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from supervisor.archive.resolving import Resolved

__all__ = ["DEPTH", "OF_THE_KERNEL", "Inside", "enter"]

DEPTH = 1000
"""Directories within one another that are copied."""
OF_THE_KERNEL = frozenset({"dev", "proc", "sys"})
"""Of a container's root: no files of its own, and no end of them."""
_DESCRIPTORS = 6 * DEPTH
_PLACE = os.O_PATH | os.O_CLOEXEC
_MODE = 0o755


class Inside:
    """One container's files, once the program sees nothing else."""

    def __init__(self, root: int, job: dict[str, Any]) -> None:
        self.root = root
        self.name = str(job["name"])
        """Of the container."""
        self._unseen = [os.fsencode(path) for path in job["unseen"]]

    def find(self, path: str) -> tuple[Resolved, os.stat_result]:
        """What has to be there, and what it is. NotFound, and what `look` raises."""
        found = self.look(path)
        if found is None or found.status is None:
            raise NotFound(
                f"cannot find {quoted(os.fsencode(path))} in container '{self.name}'", subject=self.name
            )
        return found, found.status

    def look(self, path: str) -> Resolved | None:
        """Where a path leads; None: not even what it would be in is there. NotSupported: to what is there only while the
        container runs; ArchiveRefused, StorageFailed."""
        wanted = os.fsencode(path)
        try:
            found = Resolver(self.root).resolve(wanted)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failed(error, "use", wanted) from error
        for place in self._unseen:
            if found.is_within(place):
                raise NotSupported(
                    f"cannot use {quoted(wanted)} of container '{self.name}': what is mounted at {quoted(place)} is there only while it runs",
                    subject=self.name,
                    hint="start the container",
                )
        return found


def enter(jobs: Sequence[dict[str, Any]], capabilities: Sequence[int]) -> list[Inside]:
    """Give up everything but these containers' files. OSError."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    trees = [-1] * len(jobs)
    mounts: list[list[tuple[dict[str, Any], int]]] = [[] for _ in jobs]
    for number, job in enumerate(jobs):
        if job["namespace"] < 0:
            trees[number] = _copied(job["path"], job["path"], recursive=True)
            mounts[number] = [(mount, _source(mount)) for mount in job["mounts"]]
    for number, job in enumerate(jobs):
        if job["namespace"] >= 0:
            confinement.join(job["namespace"])
            trees[number] = confinement.clone(job["root"], job["name"], recursive=True)
    confinement.join(own)
    os.close(own)
    for tree in trees:
        confinement.restrict(tree, readonly=False)

    def furnish(roots: list[int]) -> None:
        for root, job, wanted in zip(roots, jobs, mounts, strict=True):
            for mount, tree in wanted:
                _mount(root, mount, tree, job)

    roots = confinement.over(trees, capabilities, descriptors=_DESCRIPTORS, furnish=furnish)
    return [Inside(root, job) for root, job in zip(roots, jobs, strict=True)]


def _copied(path: str, subject: str, *, recursive: bool) -> int:
    place = os.open(path, _PLACE)
    try:
        return confinement.clone(place, subject, recursive=recursive)
    finally:
        os.close(place)


def _source(mount: dict[str, Any]) -> int:
    """What is mounted, mounted nowhere yet."""
    place = os.open(mount["source"], _PLACE)
    if mount["sub_path"]:
        part = Resolver(place).resolve(os.fsencode(mount["sub_path"]))
        if part.status is None:
            raise FileNotFoundError(2, os.strerror(2), mount["sub_path"])
        place = part.directory if part.directory >= 0 else os.open(part.name, _PLACE, dir_fd=part.parent)
    tree = confinement.clone(place, mount["destination"], recursive=mount["recursive"])
    os.close(place)
    confinement.restrict(tree, readonly=mount["readonly"], recursive=mount["recursive"])
    return tree


def _mount(root: int, mount: dict[str, Any], tree: int, job: dict[str, Any]) -> None:
    """Where the container would have it. A place for it is made if the path `wanted` leads there, as a run would: else the
    root file system stays as it is."""
    destination, wanted = os.fsencode(mount["destination"]), os.fsencode(job["wanted"])
    resolver = Resolver(root)
    try:
        found = resolver.resolve(destination)
    except FileNotFoundError:
        found = None
    if found is None or found.status is None:
        if not (os.path.normpath(wanted) + b"/").startswith(os.path.normpath(destination) + b"/"):
            os.close(tree)
            return
        directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        found = _made(resolver, destination, directory=directory, owner=job["owner"])
    place = found.directory
    if place < 0:
        place = os.open(found.name, _PLACE | os.O_NOFOLLOW, dir_fd=found.parent)
    confinement.attach(tree, place, mount["destination"])
    os.close(tree)


def _made(resolver: Resolver, path: bytes, *, directory: bool, owner: tuple[int, int]) -> Resolved:
    """`owner`: the container's root."""
    parts = [part for part in path.split(b"/") if part]
    for number in range(1, len(parts) + 1):
        found = resolver.resolve(b"/".join(parts[:number]))
        if found.status is not None:
            continue
        if directory or number < len(parts):
            os.mkdir(found.name, _MODE, dir_fd=found.parent)
        else:
            os.close(os.open(found.name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE, dir_fd=found.parent))
        os.chown(found.name, *owner, dir_fd=found.parent, follow_symlinks=False)
    return resolver.resolve(path)
