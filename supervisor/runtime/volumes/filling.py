"""What a volume gets when a container uses it first: what the image has in its place, and an owner.

As in Podman: an empty volume gets the image's contents, once; and as long as nothing is in it, the owner, mode and times
of the image's directory, or the container's user where the image has none. What a volume has already is never touched.

The contents are copied beside the volume, and then moved into it entry by entry. A supervisor that is killed leaves a
part of a copy, which is deleted, or a whole one, which is found and moved by the next container's start.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from pyman.errors import DeadlineExceeded, DiskFull, StorageFailed
from supervisor.kernel import children, files, idmaps
from supervisor.oci.build import owner_of
from supervisor.runtime.mounts import idmapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyman.api.spec import NamedVolume
    from supervisor.oci.request import BuildRequest
    from supervisor.runtime.volumes.book import Volumes
    from supervisor.runtime.volumes.entry import Entry
    from supervisor.runtime.volumes.ground import Ground

__all__ = ["copy_tree", "fill"]

_CAPABILITY = "security.capability"


def fill(book: Volumes, request: BuildRequest, deadline: float) -> None:
    """Each volume of a container whose root filesystem is mounted. In a thread of the event loop's. `deadline`: seconds
    for the copy of one. NoSuchVolume, StorageFailed, DiskFull, DeadlineExceeded."""
    for use in request.spec.volumes:
        entry = book.find(use.name)
        if not os.path.isdir(entry.definition.mountpoint):
            raise StorageFailed(
                f"cannot use volume '{entry.name}': its directory '{entry.definition.mountpoint}' is gone",
                subject=entry.name,
                hint="remove the volume, or bring the directory back",
            )
        if entry.observed.settled:
            continue
        with _alone(entry, deadline):
            try:
                _Filling(book, entry, use, request, deadline).run()
            except OSError as error:
                raise files.storage_error(error, "fill volume", entry.name) from error


@contextmanager
def _alone(entry: Entry, deadline: float) -> Iterator[None]:
    if not entry.filling.acquire(timeout=deadline):
        raise DeadlineExceeded(
            f"cannot use volume '{entry.name}': another container still fills it", subject=entry.name
        )
    try:
        yield
    finally:
        entry.filling.release()


class _Filling:
    """Of one volume, for one container."""

    def __init__(
        self, book: Volumes, entry: Entry, use: NamedVolume, request: BuildRequest, deadline: float
    ) -> None:
        self._book = book
        self._entry = entry
        self._use = use
        self._request = request
        self._deadline = deadline
        self._data = entry.definition.mountpoint
        option = next((each for each in use.options if each.partition("=")[0] == "idmap"), "")
        self._maps = idmapping.maps_for(option, use.dest, request.userns) if option else None
        """Of a volume that is mounted with other owners than it has on the disk: from these to the host's."""

    def run(self) -> None:
        observed = self._entry.observed
        source = _source(self._request.rootfs, self._use.dest)
        try:
            # Before it is read, which is an access.
            seen = None if source is None else os.fstat(source)
            changes: dict[str, Any] = {}
            copied = False
            if observed.needs_copy_up:
                copied = self._copy_up(source)
            if copied:
                changes["needs_copy_up"] = False
            if observed.needs_chown:
                changes |= self._chown(seen, copied=copied)
            new = {key: value for key, value in changes.items() if getattr(observed, key) != value}
            if new:
                self._note(**new)
        finally:
            if source is not None:
                os.close(source)

    def _note(self, **changes: Any) -> None:
        trio.from_thread.run(partial(self._book.note, self._entry, **changes))

    def _copy_up(self, source: int | None) -> bool:
        """Whether the volume has got contents."""
        ground, entry = self._book.ground, self._entry
        if os.path.lexists(ground.copied(entry.name)):
            _move(ground, entry.name, self._data)
            return True
        unwanted = entry.definition.no_copy or "nocopy" in self._use.options
        if unwanted or source is None or not os.listdir(source) or os.listdir(self._data):
            return False
        if entry.definition.needs_mount:
            # What is mounted there need not be on the file system where a copy could wait.
            self._note(needs_copy_up=False)
            copy_tree(source, self._data, self._deadline)
            self._give_ids(self._data)
            return True
        staged = ground.stage("new")
        try:
            copy_tree(source, staged, self._deadline)
            self._give_ids(staged)
            os.rename(staged, ground.copied(entry.name))
        except BaseException:
            ground.drop(staged)
            self._book.discard_soon()
            raise
        _move(ground, entry.name, self._data)
        return True

    def _chown(self, seen: os.stat_result | None, *, copied: bool) -> dict[str, Any]:
        """What is noted of it."""
        if not copied and os.listdir(self._data):
            return {"needs_chown": False}
        user = self._on_disk(*owner_of(self._request))
        if seen is None or "U" in self._use.options:
            os.chown(self._data, *user, follow_symlinks=False)
            return {"needs_chown": not copied, "chowned": user}
        os.chown(self._data, *self._on_disk(seen.st_uid, seen.st_gid), follow_symlinks=False)
        os.chmod(self._data, stat.S_IMODE(seen.st_mode))
        os.utime(self._data, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        of_root = (seen.st_uid, seen.st_gid) == (0, 0)
        return {"needs_chown": not copied and not of_root, "chowned": user}

    def _on_disk(self, uid: int, gid: int) -> tuple[int, int]:
        """The ids that are seen as these where the volume is mounted."""
        if self._maps is None:
            return uid, gid
        return idmaps.inside(uid, self._maps.uids), idmaps.inside(gid, self._maps.gids)

    def _give_ids(self, tree: str) -> None:
        """To what was copied with the ids of the host."""
        if self._maps is None:
            return
        for _, names, others, directory in os.fwalk(tree, follow_symlinks=False):
            for name in (*names, *others):
                _chown(directory, name, self._on_disk)


def _chown(directory: int, name: str, on_disk: Callable[[int, int], tuple[int, int]]) -> None:
    """Keeps what a change of the owner takes away: set-id bits and capabilities."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    owner = on_disk(status.st_uid, status.st_gid)
    if owner == (status.st_uid, status.st_gid):
        return
    path, capability = f"/proc/self/fd/{directory}/{name}", b""
    with suppress(OSError):
        capability = os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=directory)
    if capability:
        os.setxattr(path, _CAPABILITY, capability, follow_symlinks=False)


def _source(root: str, path: str) -> int | None:
    """A descriptor of the directory in the root filesystem, out of which no link leads; none: there is none."""
    try:
        return files.open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _move(ground: Ground, name: str, data: str) -> None:
    """What was copied, into the volume. A part of it may be there already."""
    copied = ground.copied(name)
    for each in os.listdir(copied):
        with suppress(FileExistsError):
            files.rename_new(f"{copied}/{each}", f"{data}/{each}")
    ground.drop(copied)


def copy_tree(source: int, target: str, deadline: float) -> None:
    """All that is in an open directory, with owners, modes, times, links and attributes. In a thread of the event
    loop's. DiskFull, StorageFailed, DeadlineExceeded."""
    argv = [
        "cp",
        "--archive",
        "--one-file-system",
        "--reflink=auto",
        "--",
        f"/proc/self/fd/{source}/.",
        target,
    ]
    done = trio.from_thread.run(partial(children.run, argv, deadline=deadline, pass_fds=[source]))
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0].removeprefix("cp: ")
        kind = DiskFull if os.strerror(28) in reason else StorageFailed
        raise kind(f"cannot copy what the image has for a volume: {reason}", subject=target)
