"""The files that a container is given for a run: secrets, and copies of what mounts.conf names, on a tmpfs of their own.

Undone by `runtime.mounts.staging.undo`, as everything that is mounted there. Can be repeated. All of it blocks and is
called in a thread.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import StorageFailed
from supervisor.kernel import files, mounts
from supervisor.kernel.idmaps import outside
from supervisor.logging import log
from supervisor.oci import build
from supervisor.oci.given import place_of, shown_directory, source_of, subscribed
from supervisor.runtime.secrets.choosing import check_owner

if TYPE_CHECKING:
    from supervisor.oci.given import Given
    from supervisor.oci.request import BuildRequest
    from supervisor.settings.layout import Layout

__all__ = ["prepare"]

MOST_BYTES = 16 << 20
"""Of all that mounts.conf names."""
MOST_FILES = 4096
_DEPTH = 32
_PASSED_OVER = "cannot copy what mounts.conf names"
_PAGE = os.sysconf("SC_PAGESIZE")
_ROOM = 64 << 10
"""Bytes beyond what is given: for the mount points that the OCI runtime makes."""


class _File(NamedTuple):
    """`path`: below the tmpfs. `data`: None for a directory."""

    path: str
    data: bytes | None
    mode: int
    owner: tuple[int, int]


def prepare(layout: Layout, request: BuildRequest) -> None:
    """InvalidArgument, StorageFailed, DiskFull."""
    place = place_of(request.run_directory)
    wanted = [*_subscriptions(request, place), *_secrets(layout, request, place)]
    try:
        if mounts.mounted(place):
            mounts.unmount(place, lazy=True)  # of a start that was not finished
        os.makedirs(os.path.dirname(place), mode=0o711, exist_ok=True)
        os.makedirs(place, mode=0o700, exist_ok=True)
        sizes = ((len(each.data or b"") + _PAGE - 1) // _PAGE * _PAGE for each in wanted)
        _mount(place, sum(sizes) + _PAGE * len(wanted) + _ROOM)
        for each in wanted:
            _make(each)
    except OSError as error:
        raise files.storage_error(error, "give the container", place) from error


def _mount(place: str, size: int) -> None:
    try:
        mounts.tmpfs(place, size=size, mode=0o711, options="noswap")
    except OSError:  # a kernel before 6.4, or an ordinary user's
        mounts.tmpfs(place, size=size, mode=0o711)


def _make(each: _File) -> None:
    if each.data is None:
        os.mkdir(each.path, 0o700)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(each.path, flags, 0o600), "wb") as file:
            file.write(each.data)
    os.chown(each.path, *each.owner)
    os.chmod(each.path, each.mode)


# ---------------------------------------------------------------------- secrets


def _secrets(layout: Layout, request: BuildRequest, place: str) -> list[_File]:
    if not request.secrets:
        return []
    found = [_File(shown_directory(place), None, 0o755, _root(request))]
    for number, each in enumerate(request.secrets):
        path = f"{layout.container_secrets(request.id)}/{number}"
        try:
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
                data = file.read()
        except OSError as error:
            raise files.storage_error(error, f"read the copy of secret '{each.name}'", path) from error
        found.append(_File(source_of(place, number), data, each.mode, _owner(request, each)))
    return found


def _owner(request: BuildRequest, given: Given) -> tuple[int, int]:
    if request.userns is None:
        return given.uid, given.gid
    maps = request.userns.maps
    check_owner(given, maps)  # another container's namespace is known when that runs
    return outside(given.uid, maps.uids), outside(given.gid, maps.gids)


def _root(request: BuildRequest) -> tuple[int, int]:
    return build.root_of(request) or (0, 0)


# ---------------------------------------------------------------------- mounts.conf


class _Budget:
    def __init__(self) -> None:
        self.bytes = MOST_BYTES
        self.files = MOST_FILES

    def take(self, size: int, path: str) -> None:
        self.bytes -= size
        self.files -= 1
        if self.bytes < 0 or self.files < 0:
            raise StorageFailed(
                f"cannot copy '{path}', which mounts.conf has for containers: there are more than {MOST_FILES} files or"
                f" {MOST_BYTES >> 20} MiB",
                subject=path,
            )


def _subscriptions(request: BuildRequest, place: str) -> list[_File]:
    """What is not there is an empty directory, so that the container starts all the same."""
    found: list[_File] = []
    budget, owner = _Budget(), _root(request)
    for number, (source, _) in enumerate(request.subscriptions):
        target = subscribed(place, number)
        try:
            found += _copied(source, target, owner, budget)
        except OSError as error:
            log.warning(_PASSED_OVER, path=source, error=error.strerror)
            found.append(_File(target, None, 0o755, owner))
    return found


def _copied(source: str, target: str, owner: tuple[int, int], budget: _Budget, depth: int = 0) -> list[_File]:
    """A file, or a directory with all that is in it. Links are followed, as they lead from what an administrator has
    named; what cannot be read in it is passed over. OSError."""
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISREG(status.st_mode):
            budget.take(status.st_size, source)
            with open(descriptor, "rb", closefd=False) as file:
                return [_File(target, file.read(status.st_size), mode, owner)]
        if not stat.S_ISDIR(status.st_mode) or depth > _DEPTH:
            return []
        budget.take(0, source)
        names = sorted(os.listdir(descriptor))
    finally:
        os.close(descriptor)
    found = [_File(target, None, mode, owner)]
    for name in names:
        try:
            found += _copied(f"{source}/{name}", f"{target}/{name}", owner, budget, depth + 1)
        except OSError as error:  # as a link that leads nowhere
            log.warning(_PASSED_OVER, path=f"{source}/{name}", error=error.strerror)
    return found
