"""`--user name[:group]` looked up in the container's own /etc/passwd and /etc/group.

The root filesystem is the container's to shape, so nothing of it is trusted: paths are resolved inside it
whatever links it contains, only regular files are read, and only so much of them. Numbers need no entry.
"""

from __future__ import annotations

import errno
import os
import stat
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import CommandNotExecutable
from supervisor.kernel import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Identity", "fields_of", "group_number", "largest_id", "look_up", "number_of", "text_of"]

_MAX_BYTES = 4 << 20
_MAX_ID = (1 << 31) - 1
_NOBODY = (1 << 16) - 2
_MAX_GROUPS = 1 << 16
"""The kernel's limit."""


class Identity(msgspec.Struct, frozen=True):
    uid: int
    gid: int
    groups: list[int]
    """Supplementary."""
    home: str


def look_up(
    root: str, user: str, groups: Sequence[str] = (), texts: Mapping[str, str] = MappingProxyType({})
) -> Identity:
    """Who `user` (`name`, `1000`, `name:group`, `1000:100`; empty: root) and further `groups` are.

    Without a group, the user's own groups come along. `texts`: what other files are mounted over files of the root
    filesystem, by their paths. CommandNotExecutable: a name that is not there, a number
    out of range, or a file that cannot be read.
    """
    name, _, group = user.partition(":")
    passwd, listed = (_reader(root, path, texts) for path in ("/etc/passwd", "/etc/group"))
    entry = _passwd_entry(passwd, name or "0", name)
    numbers = _group_numbers(listed, groups) if groups else []
    if group:
        gid = _group_numbers(listed, [group])[0]
        numbers = [gid, *numbers]
    else:
        gid = entry.gid
        if name:
            numbers = [gid, *_memberships(listed, entry.name), *numbers]
    unique = list(dict.fromkeys(numbers))
    if len(unique) > _MAX_GROUPS:
        raise CommandNotExecutable(
            f"cannot use the user '{user}': it is in more than {_MAX_GROUPS} groups", subject=user
        )
    return Identity(uid=entry.uid, gid=gid, groups=unique, home=entry.home or "/")


class _Entry(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str


def _reader(root: str, path: str, texts: Mapping[str, str]) -> Callable[[], str]:
    return lambda: texts[path] if path in texts else text_of(root, path)


def _passwd_entry(passwd: Callable[[], str], wanted: str, shown: str) -> _Entry:
    number = number_of(wanted)
    for fields in fields_of(passwd(), 6):
        uid, gid = number_of(fields[2]), number_of(fields[3])
        if uid is not None and gid is not None and (fields[0] == wanted or uid == number):
            found_uid, found_gid = (
                _checked(id, kind, wanted) for id, kind in ((uid, "user"), (gid, "group"))
            )
            return _Entry(fields[0], found_uid, found_gid, fields[5])
    if number is None:
        message = f"cannot use the user '{shown}': the root filesystem's /etc/passwd does not have it"
        raise CommandNotExecutable(message, subject=shown)
    return _Entry("", _checked(number, "user", wanted), 0, "")


def _group_numbers(groups: Callable[[], str], wanted: Sequence[str]) -> list[int]:
    known: dict[str, int] = {}
    if any(number_of(name) is None for name in wanted):
        for fields in fields_of(groups(), 3):
            gid = number_of(fields[2])
            if gid is not None:
                known.setdefault(fields[0], gid)
    found: list[int] = []
    for name in wanted:
        gid = known.get(name, number_of(name))
        if gid is None:
            message = f"cannot use the group '{name}': the root filesystem's /etc/group does not have it"
            raise CommandNotExecutable(message, subject=name)
        found.append(_checked(gid, "group", name))
    return found


def group_number(text: str, name: str) -> int | None:
    """Of a group by its name or number; `text` is that of the file of groups. None: it is not there."""
    for fields in fields_of(text, 3, lambda line: line.startswith(f"{name}:")):
        if (gid := number_of(fields[2])) is not None:
            return gid
    return number_of(name)


def _memberships(groups: Callable[[], str], name: str) -> Iterator[int]:
    if not name:
        return
    for fields in fields_of(groups(), 4, lambda line: name in line):
        gid = number_of(fields[2])
        if gid is not None and name in fields[3].split(","):
            yield gid


def number_of(text: str) -> int | None:
    """Of a user or a group that is given by its number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _checked(number: int, kind: str, shown: str) -> int:
    if number > _MAX_ID:
        raise CommandNotExecutable(
            f"cannot use the {kind} '{shown}': numbers go up to {_MAX_ID}", subject=shown
        )
    return number


def fields_of(
    text: str, fields: int, wanted: Callable[[str], bool] = lambda _line: True
) -> Iterator[list[str]]:
    """The lines of such a file with at least so many fields, split at the colons."""
    for line in text.split("\n"):
        if line and not line.startswith("#") and wanted(line):
            parts = line.strip().split(":")
            if len(parts) >= fields and parts[0]:
                yield parts


def largest_id(root: str) -> int:
    """The largest uid or gid that the root filesystem's accounts have, but for nobody's; 0 without accounts."""
    found = 0
    for path, columns in (("/etc/passwd", (2, 3)), ("/etc/group", (2,))):
        for fields in fields_of(text_of(root, path), max(columns) + 1):
            if fields[0] not in ("nobody", "nogroup"):
                numbers = (number_of(fields[column]) for column in columns)
                found = max(found, *(id for id in numbers if id is not None and id != _NOBODY), 0)
    return found


def text_of(root: str, path: str) -> str:
    """The text of a file in the root filesystem; empty if there is none. CommandNotExecutable: it is none to read."""
    try:
        # Non-blocking: a FIFO in its place must not hold up the supervisor.
        descriptor = files.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return ""
        raise _unusable(path, (error.strerror or str(error)).lower()) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unusable(path, "it is not a regular file")
    with open(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise _unusable(path, f"it is larger than {_MAX_BYTES >> 20} MiB")
    return data.decode(errors="replace")


def _unusable(path: str, reason: str) -> CommandNotExecutable:
    return CommandNotExecutable(f"cannot read '{path}' in the root filesystem: {reason}", subject=path)
