"""A file, or a directory with all that is in it, once more in another place: with modes, times, links, holes and attributes.

Every file is reached from a descriptor of the directory it is in, and no link is followed: whoever owns one of the two
places, and changes it meanwhile, gains nothing but a copy that is not whole. Data goes from file to file within the
kernel. What replaces something, and what is copied alone, comes into being under another name and is then renamed: it
is there as a whole or not at all. Standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import cache

from pyman.errors import InvalidArgument, NotSupported
from supervisor.archive.failures import failed, quoted
from supervisor.archive.insides import DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Duplication"]

_PIECE = 1 << 26
"""Bytes that the kernel copies at once."""
_HANDFUL = 1 << 22
"""Bytes that pass through the program at once."""
_SMALL = 1 << 16
"""Bytes of a file that is read and written at once."""
_PATIENCE = 100
"""How often a name may turn into something else while it is looked at."""
_CHANGED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EINVAL, errno.ENXIO})
_LINKS = 1_000_000
"""Files with several names that are remembered."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT_COPY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}
)
"""What the kernel says where it cannot copy between these two files itself."""
_DENIED = (errno.EACCES, errno.EPERM)
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM})
_OF_ENGINES = ("user.overlay.", "user.fuseoverlayfs.", "user.containers.")
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


class _Level:
    """A directory that is being copied."""

    __slots__ = ("entries", "names", "source", "status", "target")

    def __init__(
        self,
        source: int,
        target: int,
        entries: Iterator[os.DirEntry[str]],
        status: os.stat_result | None,
        names: tuple[str, ...],
    ) -> None:
        self.source = source
        self.target = target
        self.entries = entries
        self.status = status
        """What the copy is to have in the end; None: it stays as it is."""
        self.names = names
        """From the top of the copy on."""


class Duplication:
    """One copy."""

    def __init__(
        self,
        *,
        owner: Callable[[os.stat_result], tuple[int, int]],
        overwrite: bool,
        devices: bool,
        skip_denied: bool,
        leave_out: frozenset[str] = frozenset(),
    ) -> None:
        """`owner`: whose the copy of a file is. `overwrite`: a file may replace a directory, and the other way round.
        `devices`: they can be made. `skip_denied`: files that may not be read are left out. `leave_out`: names at the
        top."""
        self._owner = owner
        self._overwrite = overwrite
        self._devices = devices
        self._skip_denied = skip_denied
        self._leave_out = leave_out
        self._links: dict[tuple[int, int], tuple[str, ...]] = {}
        self._top = -1
        self._top_identity = (-1, -1)
        self.files = 0
        self.size = 0
        """Bytes of data."""
        self.left_out = 0

    # -- from the top -------------------------------------------------------------------------------

    def file(self, source: int, status: os.stat_result, parent: int, name: str, target: str) -> None:
        """A descriptor of a file, opened for reading if it is a regular one, to a name in a directory. DiskFull,
        InvalidArgument, StorageFailed, ArchiveRefused."""
        if stat.S_ISSOCK(status.st_mode):
            raise NotSupported(f"cannot copy {quoted(os.fsencode(name))}: it is a socket")
        if stat.S_IFMT(status.st_mode) in _DEVICES and not self._devices:
            raise NotSupported(f"cannot copy {quoted(os.fsencode(name))}: it is a device")
        try:
            if stat.S_ISREG(status.st_mode):
                os.lseek(source, 0, os.SEEK_SET)  # it may have been read from
                self._regular(source, status, parent, target, staged=True)
            else:
                self._special(status, "", parent, target)
        except OSError as error:
            raise failed(error, "copy", os.fsencode(name)) from error

    def tree(self, source: int, parent: int, target: str) -> None:
        """A descriptor of a directory, opened for reading. Without `target`: what is in it goes to the directory `parent`;
        else the directory itself gets that name in there."""
        status = os.fstat(source)
        self._refuse_itself(status, parent)
        try:
            if target:
                place, lasting = self._directory(parent, target), status
            else:
                place, lasting = os.open(".", _DIRECTORY, dir_fd=parent), None
        except OSError as error:
            raise failed(error, "copy", os.fsencode(target or ".")) from error
        self._top = place
        made = os.fstat(place)
        self._top_identity = made.st_dev, made.st_ino
        self._walk(_Level(source, place, os.scandir(source), lasting, ()))

    def _refuse_itself(self, status: os.stat_result, parent: int) -> None:
        """A copy within what is copied would have no end."""
        wanted = status.st_dev, status.st_ino
        place = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        seen = None
        for _ in range(DEPTH):
            found = os.fstat(place)
            here = found.st_dev, found.st_ino
            if here == wanted:
                raise InvalidArgument("cannot copy a directory into itself")
            if here == seen:
                break
            seen = here
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = above
        os.close(place)

    def _walk(self, top: _Level) -> None:
        levels = [top]
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop()
                self._finish(level)
                continue
            if not level.names and entry.name in self._leave_out:
                continue
            try:
                deeper = self._entry(level, entry.name)
            except OSError as error:
                if error.errno in _DENIED and self._skip_denied:
                    self.left_out += 1
                    continue
                raise failed(error, "copy", os.fsencode("/".join((*level.names, entry.name)))) from error
            if deeper is not None:
                levels.append(deeper)
                if len(levels) > DEPTH:
                    raise NotSupported(f"cannot copy more than {DEPTH} directories within one another")

    def _finish(self, level: _Level) -> None:
        try:
            if level.status is not None:
                self._complete(level.target, level.source, level.status)
        except OSError as error:
            raise failed(error, "copy", os.fsencode("/".join(level.names) or ".")) from error
        finally:
            os.close(level.target)
            if level.names:
                os.close(level.source)

    # -- one file -----------------------------------------------------------------------------------

    def _entry(self, level: _Level, name: str) -> _Level | None:
        """A directory is entered."""
        found = self._look(level.source, name)
        if found is None:
            return None  # it is gone meanwhile
        status, source, text = found
        names = (*level.names, name)
        if stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) == self._top_identity:
                raise InvalidArgument("cannot copy a directory into itself")
            entries = os.scandir(source)
            return _Level(source, self._directory(level.target, name), entries, status, names)
        try:
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFSOCK or (kind in _DEVICES and not self._devices):
                self.left_out += 1
                return None
            if status.st_nlink > 1 and self._linked(status, level.target, names):
                return None
            if kind == stat.S_IFREG:
                self._regular(source, status, level.target, name)
            else:
                self._special(status, text, level.target, name)
        finally:
            if source >= 0:
                os.close(source)
        if status.st_nlink > 1 and len(self._links) < _LINKS:
            self._links[status.st_dev, status.st_ino] = names
        return None

    def _look(self, directory: int, name: str) -> tuple[os.stat_result, int, str] | None:
        """What it is; if it is a file or a directory, opened; if it is a link, what it says. None: nothing."""
        for _ in range(_PATIENCE):
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    return status, -1, os.readlink(name, dir_fd=directory)
                if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                    return status, -1, ""
                flags = _DIRECTORY if stat.S_ISDIR(status.st_mode) else _OPEN
                source = os.open(name, flags, dir_fd=directory)
                opened = os.fstat(source)
                if stat.S_IFMT(opened.st_mode) == stat.S_IFMT(status.st_mode):
                    return opened, source, ""
                os.close(source)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno not in _CHANGED:
                    raise
        return None  # it is never twice the same

    def _directory(self, parent: int, name: str) -> int:
        """A new one, or the one that is there."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                self._refuse_other(name, "a directory", "something else")
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
        self.files += 1
        return os.open(name, _DIRECTORY, dir_fd=parent)

    def _refuse_other(self, name: str, new: str, old: str) -> None:
        if not self._overwrite:
            raise InvalidArgument(
                f"cannot replace {quoted(os.fsencode(name))}: it would be {new}, and is {old}",
                hint="use --overwrite",
            )

    def _linked(self, status: os.stat_result, target: int, names: tuple[str, ...]) -> bool:
        """A further name of a file that is there already."""
        first = self._links.get((status.st_dev, status.st_ino))
        if first is None:
            return False
        place = os.dup(self._top)
        try:
            for name in first[:-1]:
                inner = os.open(name, _DIRECTORY, dir_fd=place)
                os.close(place)
                place = inner

            def make(name: str) -> None:
                os.link(first[-1], name, src_dir_fd=place, dst_dir_fd=target, follow_symlinks=False)

            self._made(make, target, names[-1])
        except (FileNotFoundError, NotADirectoryError):
            return False  # somebody has moved it: it is copied again
        finally:
            os.close(place)
        self.files += 1
        return True

    def _special(self, status: os.stat_result, text: str, parent: int, name: str) -> None:
        """A link, a FIFO or a device."""

        def make(name: str) -> None:
            if stat.S_ISLNK(status.st_mode):
                os.symlink(text, name, dir_fd=parent)
            else:
                os.mknod(name, status.st_mode, status.st_rdev, dir_fd=parent)
            try:
                os.chown(name, *self._owner(status), dir_fd=parent, follow_symlinks=False)
                times = (status.st_atime_ns, status.st_mtime_ns)
                os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
            except BaseException:
                os.unlink(name, dir_fd=parent)
                raise

        self._made(make, parent, name)
        self.files += 1

    def _regular(
        self, source: int, status: os.stat_result, parent: int, name: str, *, staged: bool = False
    ) -> None:
        def make(name: str) -> None:
            target = os.open(name, _NEW, 0o600, dir_fd=parent)
            try:
                self._data(source, target, status)
                self._complete(target, source, status)
            except BaseException:
                os.unlink(name, dir_fd=parent)
                raise
            finally:
                os.close(target)

        before = self.size
        try:
            self._made(make, parent, name, staged=staged)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self.size = before
            self._written_over(source, status, parent, name)
        self.files += 1

    def _written_over(self, source: int, status: os.stat_result, parent: int, name: str) -> None:
        """A file that something is mounted on cannot be replaced. What is mounted gets the data, and stays what it is."""
        target = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.lseek(source, 0, os.SEEK_SET)
            os.ftruncate(target, 0)
            self._data(source, target, status)
        finally:
            os.close(target)

    def _made(self, make: Callable[[str], None], parent: int, name: str, *, staged: bool = False) -> None:
        """Make something of that name. What is there is replaced in one step, unless that is a directory."""
        if not staged:
            try:
                make(name)
            except FileExistsError:
                pass
            else:
                return
        interim = f".pyman-{os.urandom(6).hex()}"
        self._clear(parent, name)
        make(interim)
        try:
            os.rename(interim, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            # It failed; or both were names of one file, and nothing was done.
            with suppress(FileNotFoundError):
                os.unlink(interim, dir_fd=parent)

    def _clear(self, parent: int, name: str) -> None:
        """A directory gives way, if it may."""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            self._refuse_other(name, "a file", "a directory")
            _remove(parent, name)

    # -- what a file consists of --------------------------------------------------------------------

    def _data(self, source: int, target: int, status: os.stat_result) -> None:
        size = status.st_size
        if size <= _SMALL:
            # Files of /proc have no size, but data.
            while piece := os.read(source, _SMALL + 1):
                _write(target, piece)
                self.size += len(piece)
                if len(piece) < size or (size and len(piece) >= size):
                    break
        elif status.st_blocks * 512 < size:
            self._pieces(source, target, size)
        else:
            self._range(source, target, 0, size)

    def _pieces(self, source: int, target: int, size: int) -> None:
        """What is between holes."""
        at = 0
        while at < size:
            try:
                begin = os.lseek(source, at, os.SEEK_DATA)
                end = os.lseek(source, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # nothing but a hole up to the end
            at = min(end, size)
            if begin < at:
                self._range(source, target, begin, at)
        os.ftruncate(target, size)

    def _range(self, source: int, target: int, begin: int, end: int) -> None:
        """By the quickest way there is between these two files."""
        os.lseek(source, begin, os.SEEK_SET)
        os.lseek(target, begin, os.SEEK_SET)
        for way in (os.copy_file_range, _by_hand):
            try:
                while begin < end and (done := way(source, target, min(end - begin, _PIECE))):
                    begin += done
                    self.size += done
            except OSError as error:
                if way is _by_hand or error.errno not in _CANNOT_COPY:
                    raise
                continue
            if begin >= end or way is _by_hand:
                return

    def _complete(self, target: int, source: int, status: os.stat_result) -> None:
        """Owner, mode, attributes, times; in this order, for each undoes some of those after it."""
        os.chown(target, *self._owner(status))
        os.chmod(target, stat.S_IMODE(status.st_mode))
        try:
            keys = os.listxattr(source)
        except OSError:
            keys = []
        for key in keys:
            if key != "security.capability" and not (
                key.startswith("user.") and not key.startswith(_OF_ENGINES)
            ):
                continue
            try:
                os.setxattr(target, key, os.getxattr(source, key))
            except OSError as error:
                if error.errno not in _UNSUPPORTED and error.errno != errno.ENODATA:
                    raise
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _by_hand(source: int, target: int, size: int) -> int:
    """As many bytes as are taken at once. Between an overlay and others this is quicker than what the kernel has for it,
    which passes one page after the other (sendfile)."""
    place = memoryview(_buffer())[:size]
    done = os.readv(source, [place])
    _write(target, place[:done])
    return done


@cache
def _buffer() -> bytearray:
    return bytearray(_HANDFUL)


def _write(target: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


def _remove(parent: int, name: str) -> None:
    """A directory with all that is in it; no link is followed."""
    waiting = [(parent, name, os.open(name, _DIRECTORY, dir_fd=parent))]
    while waiting:
        above, name, directory = waiting[-1]
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                if len(waiting) > DEPTH:
                    raise NotSupported(f"cannot remove more than {DEPTH} directories within one another")
                inner = os.open(entry.name, _DIRECTORY, dir_fd=directory)
                waiting.append((directory, entry.name, inner))
                break
            os.unlink(entry.name, dir_fd=directory)
        else:
            waiting.pop()
            os.close(directory)
            os.rmdir(name, dir_fd=above)
