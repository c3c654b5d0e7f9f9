"""The members of a layer as files, below the root of the process that does it.

The process sees nothing but the layer (see `confinement`), so that links are followed as they are in a container:
inside of it. Names that say they leave the layer are refused nevertheless. What is there already is replaced, but a
directory by a directory: those become one. Standard library only.
"""

from __future__ import annotations

import errno
import os
import stat

from pyman.errors import ArchiveRefused
from supervisor.archive.failures import Broken, failed, quoted
from supervisor.archive.layering import OPAQUE, WHITEOUT
from supervisor.archive.members import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    GLOBAL,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    cleaned,
)
from supervisor.archive.tarsplit import checksum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from supervisor.archive.members import Member
    from supervisor.archive.reading import Stream

    _T = TypeVar("_T")

__all__ = ["Extraction"]

_META = b".wh..wh."
"""What AUFS keeps for itself."""

_PIECE = 1 << 17
_SMALL = 1 << 16
"""Bytes of a file that are taken, and written, in one piece."""
_NAME_LIMIT = 4095
"""Bytes of a path; the kernel takes no more."""
_ID_LIMIT = 0xFFFF_FFFF
"""The largest is no id: it would mean that the owner stays."""
_IDS = 1 << 16
"""Owners of one layer, each counted once."""
_PARENT_MODE = 0o755
_MARKS = (b"trusted.", b"user.overlay.", b"user.fuseoverlayfs.", b"security.selinux")
"""Attributes by which file systems and engines mark what is theirs: never an archive's to set."""
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP})
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_HINT_IDS = "the user has too few subordinate ids: see /etc/subuid and /etc/subgid, or ignore_chown_errors in storage.conf"


class Extraction:
    """One layer. `add` makes a member's file; `finish` gives directories their times."""

    def __init__(
        self,
        *,
        whiteouts: bool,
        mark_opaque: Callable[[int], None],
        devices: bool,
        ignore_chown_errors: bool,
        overwrite: bool = True,
        strict: bool = True,
        parents: tuple[int, int] = (0, 0),
    ) -> None:
        """`whiteouts`: make the kernel's of `.wh.` files; else they are files like others. `mark_opaque` is called
        with the descriptor of a directory that hides what lies below. `devices`: those can be made. `overwrite`: a
        directory may be replaced by something else, and the other way round. `strict`: no name comes twice, and `.` says
        nothing of the directory that all of it goes to. `parents`: the owner of directories that the archive does not
        mention."""
        self._whiteouts = whiteouts
        self._mark_opaque = mark_opaque
        self._devices = devices
        self._ignore_chown_errors = ignore_chown_errors
        self._overwrite = overwrite
        self._strict = strict
        self._owner_of_parents = parents
        self._directories: list[tuple[bytes, int, int]] = []
        self._names: set[int] = set()
        status = os.lstat(b".")
        self._us = (os.geteuid(), os.getegid())
        # A set-gid directory or an ACL gives new files what they were not made with.
        self._inherits = bool(status.st_mode & stat.S_ISGID) or bool(os.listxattr(b"."))
        self.uids: set[int] = set()
        self.gids: set[int] = set()

    # -- one member -----------------------------------------------------------------------------

    def add(self, member: Member, stream: Stream, keep: Callable[[bytes | memoryview], None]) -> int | None:
        """Make it, taking its data from the stream. The CRC of the data if they lie in a file of that name as a
        whole; None if not: then `keep` was called with them. ArchiveRefused, DiskFull, StorageFailed, Broken."""
        name = self._accepted(member)
        try:
            return self._add(member, name, stream, keep)
        except OSError as error:
            raise failed(error, "unpack", member.name) from error

    def _accepted(self, member: Member) -> bytes:
        """Its name, relative to the root; empty: the root."""
        name = cleaned(member.name)
        if len(name) > _NAME_LIMIT or b"\0" in name:
            raise ArchiveRefused(
                f"cannot unpack {quoted(member.name)}: the name is longer than {_NAME_LIMIT} bytes"
            )
        if name == b".." or name.startswith(b"../"):
            raise ArchiveRefused(f"cannot unpack {quoted(member.name)}: it lies outside of the archive")
        key = hash(name)
        if key in self._names and self._strict:
            raise ArchiveRefused(f"cannot unpack {quoted(member.name)}: the archive has it twice")
        self._names.add(key)
        if not (0 <= member.uid < _ID_LIMIT and 0 <= member.gid < _ID_LIMIT):
            raise ArchiveRefused(
                f"cannot unpack {quoted(member.name)}: its owner {member.uid}:{member.gid} is none that there can be"
            )
        if member.kind != GLOBAL:
            self.uids.add(member.uid)
            self.gids.add(member.gid)
            if len(self.uids) > _IDS or len(self.gids) > _IDS:
                raise ArchiveRefused(f"cannot unpack the layer: its files have more than {_IDS} owners")
        return name.lstrip(b"/") if name != b"." else b""

    def _add(
        self, member: Member, name: bytes, stream: Stream, keep: Callable[[bytes | memoryview], None]
    ) -> int | None:
        kind = member.kind
        if kind == GLOBAL:
            return None
        if not name:
            if kind != DIRECTORY:
                raise ArchiveRefused("cannot unpack the layer: its root is no directory")
            if member.name.startswith(b"/") or not self._strict:
                self._directory(member, b".")
            return None
        if self._whiteouts and b"/.wh." in b"/" + name:
            base = name.rpartition(b"/")[2]
            if base.startswith(WHITEOUT):
                self._whiteout(member, name, base)
                _pass(stream, member.size, keep)
                return None
        if kind == REGULAR:
            return self._regular(member, name, stream, keep)
        if kind == DIRECTORY:
            self._directory(member, name)
        elif kind == SYMLINK:
            self._made(lambda: os.symlink(member.link, name), name)
            self._finish(member, name, follow=False)
        elif kind == HARD_LINK:
            self._link(member, name)
        elif kind == FIFO or self._devices:
            mode = {FIFO: stat.S_IFIFO, CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}[kind]
            device = 0 if kind == FIFO else os.makedev(member.major, member.minor)
            self._made(lambda: os.mknod(name, mode | (member.mode & 0o777), device), name)
            self._finish(member, name)
        return None

    # -- kinds ----------------------------------------------------------------------------------

    def _regular(
        self, member: Member, name: bytes, stream: Stream, keep: Callable[[bytes | memoryview], None]
    ) -> int | None:
        mode = member.mode & 0o7777
        try:
            fd = os.open(name, _CREATE, mode & 0o777)
        except OSError:
            fd = self._made(lambda: os.open(name, _CREATE, mode & 0o777), name)
        try:
            crc = self._fill(fd, member, mode, stream, keep)
        except BaseException:
            if not self._strict:
                os.unlink(name)  # it goes where others look: as a whole, or not at all
            raise
        finally:
            os.close(fd)
        return crc

    def _fill(
        self, fd: int, member: Member, mode: int, stream: Stream, keep: Callable[[bytes | memoryview], None]
    ) -> int | None:
        crc: int | None = 0
        size = member.size
        if member.sparse is not None:
            crc = None
            _write_sparse(fd, member, stream, keep)
        elif size:
            crc = _copy(fd, stream, size)
        owner = (member.uid, member.gid)
        if owner != self._us or self._inherits:
            self._chown(fd, member)
        if mode > 0o777 or self._inherits:
            os.fchmod(fd, mode)
        if member.xattrs:
            self._attributes(fd, member)
        mtime = member.mtime
        os.utime(fd, ns=(max(member.access_time, mtime), mtime))
        return crc

    def _directory(self, member: Member, name: bytes) -> None:
        mode = member.mode & 0o7777
        try:
            os.mkdir(name, mode & 0o777)
        except OSError:
            self._made_directory(name, mode & 0o777)
        if (member.uid, member.gid) != self._us or self._inherits or mode & stat.S_ISGID:
            self._chown(name, member)
        os.chmod(name, mode)
        if mode & stat.S_ISGID:
            self._inherits = True
        if member.xattrs:
            self._attributes(name, member)
        self._directories.append((name, max(member.access_time, member.mtime), member.mtime))

    def _made_directory(self, name: bytes, mode: int) -> None:
        def make() -> None:
            try:
                os.mkdir(name, mode)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(name).st_mode):
                    raise

        self._made(make, name, directory=True)

    def _link(self, member: Member, name: bytes) -> None:
        target = cleaned(member.link)
        if target == b".." or target.startswith(b"../"):
            raise ArchiveRefused(
                f"cannot unpack {quoted(member.name)}: it links to {quoted(member.link)}, outside of the archive"
            )
        target = target.lstrip(b"/")
        if target == name:
            raise ArchiveRefused(f"cannot unpack {quoted(member.name)}: it links to itself")
        self._made(lambda: os.link(target, name, follow_symlinks=False), name)
        status = os.lstat(name)
        if (status.st_uid, status.st_gid) != (member.uid, member.gid):
            self._chown(name, member)  # which removes capabilities, and so is not done for nothing
        self._finish(member, name, follow=not stat.S_ISLNK(status.st_mode), owned=True)

    def _whiteout(self, member: Member, name: bytes, base: bytes) -> None:
        directory = name[: -len(base)].rstrip(b"/") or b"."
        if base == OPAQUE:
            try:
                self._made(lambda: self._opaque(directory), name)
            except NotADirectoryError:
                pass  # it was removed as well
            return
        if base.startswith(_META):
            return
        hidden = base[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise ArchiveRefused(
                f"cannot unpack {quoted(member.name)}: it would remove a whole directory's parent"
            )
        path = directory + b"/" + hidden
        try:
            self._made(lambda: os.mknod(path, stat.S_IFCHR, 0), path, replace=False)
        except NotADirectoryError:
            return  # what it lies in was removed as well
        self._chown(path, member)

    def _opaque(self, directory: bytes) -> None:
        fd = os.open(directory, _DIRECTORY)
        try:
            self._mark_opaque(fd)
        finally:
            os.close(fd)

    # -- steps ----------------------------------------------------------------------------------

    def _made(
        self, make: Callable[[], _T], name: bytes, *, replace: bool = True, directory: bool = False
    ) -> _T:
        """Make something where there may be no directory for it yet, or something else. `directory`: it is one. OSError."""
        try:
            return make()
        except FileNotFoundError:
            self._parents(name)
        except FileExistsError:
            if not replace:
                raise
            self._replace(name, directory=directory)
        try:
            return make()
        except FileExistsError:
            if not replace:
                raise
            self._replace(name, directory=directory)
        return make()

    def _replace(self, name: bytes, *, directory: bool) -> None:
        """Remove what is there. ArchiveRefused: it may not be."""
        if not self._overwrite and (directory or stat.S_ISDIR(os.lstat(name).st_mode)):
            new, old = ("a directory", "something else") if directory else ("a file", "a directory")
            raise ArchiveRefused(
                f"cannot replace {quoted(name)}: it would be {new}, and is {old}", hint="use --overwrite"
            )
        _remove(name)

    def _parents(self, name: bytes) -> None:
        """Directories that the archive does not mention."""
        at = 0
        while (at := name.find(b"/", at + 1)) >= 0:
            try:
                os.mkdir(name[:at], _PARENT_MODE)
            except FileExistsError:
                continue
            if self._inherits or self._us != self._owner_of_parents:
                os.lchown(name[:at], *self._owner_of_parents)
                os.chmod(name[:at], _PARENT_MODE)

    def _finish(self, member: Member, path: bytes, *, follow: bool = True, owned: bool = False) -> None:
        """Owner, mode, attributes, times; in this order, for each undoes some of those after it."""
        if not owned:
            self._chown(path, member)
        if follow:
            os.chmod(path, member.mode & 0o7777)
        if member.xattrs:
            self._attributes(path, member)
        times = (max(member.access_time, member.mtime), member.mtime)
        os.utime(path, ns=times, follow_symlinks=False)

    def _chown(self, target: int | bytes, member: Member) -> None:
        try:
            if isinstance(target, int):
                os.fchown(target, member.uid, member.gid)
            else:
                os.lchown(target, member.uid, member.gid)
        except OSError as error:
            if self._ignore_chown_errors:
                return
            owner = f"{member.uid}:{member.gid}"
            if error.errno == errno.EINVAL:
                raise ArchiveRefused(
                    f"cannot unpack {quoted(member.name)}: its owner {owner} does not exist in this user namespace",
                    hint=_HINT_IDS,
                ) from error
            raise

    def _attributes(self, target: int | bytes, member: Member) -> None:
        for key, value in member.xattrs or ():
            if key.startswith(_MARKS):
                continue
            if key.startswith(b"system.posix_acl_default"):
                self._inherits = True
            try:
                if isinstance(target, int):
                    os.setxattr(target, key, value)
                else:
                    os.setxattr(target, key, value, follow_symlinks=False)
            except OSError as error:
                if error.errno in _UNSUPPORTED or (error.errno == errno.EPERM and not self._devices):
                    continue
                raise

    def finish(self) -> None:
        """The times of directories, which change while files are made in them."""
        for name, atime, mtime in reversed(self._directories):
            try:
                os.utime(name, ns=(atime, mtime), follow_symlinks=False)
            except FileNotFoundError:
                continue  # replaced later on
            except OSError as error:
                raise failed(error, "unpack", name) from error


def _copy(fd: int, stream: Stream, size: int) -> int:
    """So much data into a file. Their CRC."""
    piece: bytes | memoryview = stream.take(size) if size <= _SMALL else stream.some(size)
    left = size - len(piece)
    crc = checksum(piece)
    _write(fd, piece)
    while left:
        piece = stream.some(left)
        if not piece:
            raise Broken("it ends in the middle of a file")
        left -= len(piece)
        crc = checksum(piece, crc)
        _write(fd, piece)
    return crc


def _pass(stream: Stream, size: int, keep: Callable[[bytes | memoryview], None]) -> None:
    while size:
        piece = stream.some(min(size, _PIECE))
        if not piece:
            raise Broken("it ends in the middle of a file")
        size -= len(piece)
        keep(piece)


def _write_sparse(
    fd: int, member: Member, stream: Stream, keep: Callable[[bytes | memoryview], None]
) -> None:
    """The pieces where they belong, and nothing between them."""
    left = member.size
    for offset, length in member.sparse or ():
        at, end = offset, offset + length
        while at < end:
            piece = stream.some(min(end - at, _PIECE))
            if not piece:
                raise Broken("it ends in the middle of a file")
            left -= len(piece)
            keep(piece)
            rest = memoryview(piece)
            while rest:
                written = os.pwrite(fd, rest, at)
                at += written
                rest = rest[written:]
    os.ftruncate(fd, member.real_size)
    _pass(stream, left, keep)


def _write(fd: int, data: bytes | memoryview) -> None:
    written = os.write(fd, data)
    if written != len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def _remove(path: bytes) -> None:
    """A file, or a directory with all that is in it. OSError."""
    try:
        os.unlink(path)
        return
    except IsADirectoryError:
        pass
    # Bottom up, without recursion: its depth is the archive's choice.
    for directory, names, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(directory, name))
        for name in names:
            place = os.path.join(directory, name)
            if stat.S_ISLNK(os.lstat(place).st_mode):
                os.unlink(place)
            else:
                os.rmdir(place)
    os.rmdir(path)
