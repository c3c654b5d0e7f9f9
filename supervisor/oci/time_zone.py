"""The container's time zone: its /etc/localtime.

Where the root filesystem is the container's own view of an image or a directory, and has data of that zone, /etc/localtime
becomes a link to it, from which programs learn the zone's name. Else it is the host's file, mounted.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.kernel import files
from supervisor.oci.mountpoints import make_directory

if TYPE_CHECKING:
    from supervisor.oci.request import BuildRequest

__all__ = ["LOCALTIME", "check", "data", "is_link", "is_mounted", "make_link"]

LOCALTIME = "/etc/localtime"
_ZONES = "/usr/share/zoneinfo"
_LOCAL = "local"
_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_LONGEST = 1 << 20
_MAGIC = b"TZif"


def check(request: BuildRequest) -> None:
    """InvalidArgument: the host has no such zone."""
    data(request)


def data(request: BuildRequest) -> bytes:
    """The host's data of the zone. InvalidArgument."""
    zone, path = _zone(request), _path(request)
    content = b""
    if path:
        with suppress(OSError):
            content = files.read_small(path, _LONGEST)
    if content.startswith(_MAGIC):
        return content
    raise InvalidArgument(
        f"cannot use --tz '{zone[:80]}': the host has no such time zone",
        subject=zone,
        hint=f"give a name below {_ZONES}, or local",
    )


def is_mounted(request: BuildRequest) -> bool:
    """The host's file is mounted; where the root filesystem cannot be looked into, too."""
    return not _has_zone(request)


def is_link(root: str, request: BuildRequest) -> bool:
    """What is /etc/localtime below this directory is a link as `make_link` makes it."""
    try:
        descriptor = files.open_in_root(root, LOCALTIME, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return os.readlink("", dir_fd=descriptor) == _target(request)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def make_link(request: BuildRequest, owner: tuple[int, int] | None) -> None:
    """In the container's own view of its root filesystem: the link, or room for what is mounted, in the place of what
    was there. A directory that is itself the root filesystem stays as it is. StorageFailed, DiskFull."""
    if not _is_own_view(request):
        return
    linked = _has_zone(request)
    if linked and is_link(request.rootfs, request):
        return
    user = owner or (os.geteuid(), os.getegid())
    try:
        make_directory(request.rootfs, "/etc", user, user)
        directory = files.open_in_root(request.rootfs, "/etc", os.O_RDONLY | os.O_DIRECTORY)
        try:
            _replace(directory, _target(request) if linked else "", user)
        finally:
            os.close(directory)
    except OSError as error:
        raise files.storage_error(error, "make", f"{request.rootfs}{LOCALTIME}") from error


def _replace(directory: int, target: str, user: tuple[int, int]) -> None:
    name = os.path.basename(LOCALTIME)
    before = os.fstat(directory)
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        pass
    else:
        if not target and stat.S_ISREG(there.st_mode):
            return
        os.unlink(name, dir_fd=directory)
    if target:
        os.symlink(target, name, dir_fd=directory)
        os.chown(name, *user, dir_fd=directory, follow_symlinks=False)
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def _zone(request: BuildRequest) -> str:
    return request.spec.timezone or request.settings.containers.tz


def _path(request: BuildRequest) -> str:
    """Of the host's file; empty: it is no name of a zone."""
    zone = _zone(request)
    if zone == _LOCAL:
        return os.path.realpath(LOCALTIME)
    return f"{_ZONES}/{zone}" if _NAME.fullmatch(zone) else ""


def _target(request: BuildRequest) -> str:
    return f"..{_path(request)}"


def _is_own_view(request: BuildRequest) -> bool:
    return bool(request.rootfs) and (bool(request.spec.image) or request.spec.rootfs_overlay)


def _has_zone(request: BuildRequest) -> bool:
    """There is data of the zone in the container's own view of its root filesystem."""
    path = _path(request)
    if not _is_own_view(request) or not path.startswith(f"{_ZONES}/"):
        return False
    try:
        os.close(files.open_in_root(request.rootfs, path, os.O_PATH))
    except OSError:
        return False
    return True
