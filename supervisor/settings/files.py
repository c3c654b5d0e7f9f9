"""Which configuration files are read, in which order, and reading one of them.

containers.conf: the system's, the administrator's and, for a user other than root, the user's own file,
each followed by the `*.conf` files of its `.d` directory in the order of their names; later files win.
`--config`, else $CONTAINERS_CONF, replaces all of these; $CONTAINERS_CONF_OVERRIDE comes last in any case.
storage.conf: one file, the administrator's hiding the system's; a user's own file is read after it.
A file that is named explicitly has to exist.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING, Any

from pyman.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.settings.xdg import Xdg

__all__ = ["containers_files", "drop_ins", "explicit_config", "read_table", "storage_files"]

SYSTEM = "/usr/share/containers"
ADMINISTRATOR = "/etc/containers"

_MAX_BYTES = 1 << 20


def explicit_config(option: str | None, environ: Mapping[str, str]) -> str:
    """The one file that replaces all others, absolute; empty if there is none."""
    path = option or environ.get("CONTAINERS_CONF", "")
    return os.path.abspath(path) if path else ""


def containers_files(
    explicit: str, environ: Mapping[str, str], uid: int, xdg: Xdg, system: str, administrator: str
) -> list[str]:
    """The files to read, in order; those of the list that were found by looking do exist."""
    if explicit:
        files = [explicit]
    else:
        files = [
            *_with_drop_ins(f"{system}/containers.conf"),
            *_with_drop_ins(f"{administrator}/containers.conf"),
        ]
        if uid != 0:
            rootless = f"{administrator}/containers.rootless.conf"
            files += [*_with_drop_ins(rootless), *drop_ins(f"{rootless}.d/{uid}")]
            files += _with_drop_ins(f"{xdg.config_home}/containers/containers.conf")
    override = environ.get("CONTAINERS_CONF_OVERRIDE", "")
    return [*files, os.path.abspath(override)] if override else files


def storage_files(
    environ: Mapping[str, str], uid: int, xdg: Xdg, system: str, administrator: str
) -> list[tuple[str, bool]]:
    """The storage.conf files, in order; True: it may say where the store of this user is."""
    explicit = environ.get("CONTAINERS_STORAGE_CONF", "")
    if explicit:
        return [(os.path.abspath(explicit), True)]
    files: list[tuple[str, bool]] = []
    for path in (f"{administrator}/storage.conf", f"{system}/storage.conf"):
        if os.path.lexists(path):
            files.append((path, uid == 0))
            break
    own = f"{xdg.config_home}/containers/storage.conf"
    if uid != 0 and os.path.lexists(own):
        files.append((own, True))
    return files


def _with_drop_ins(path: str) -> Iterator[str]:
    if os.path.lexists(path):
        yield path
    yield from drop_ins(f"{path}.d")


def drop_ins(directory: str) -> list[str]:
    """Its `*.conf` files, in the order of their names; none where there is no directory. InvalidConfig: unreadable."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(directory, error) from error
    paths = [f"{directory}/{name}" for name in sorted(names) if name.endswith(".conf")]
    return [path for path in paths if not os.path.isdir(path)]


def read_table(path: str) -> dict[str, Any]:
    """The file as TOML. InvalidConfig names the file, and the line and column of what is no TOML."""
    try:
        data = _read(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise _not_toml(path, line, column, "it is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        reason, line, column = _place(str(error), data.decode())
        raise _not_toml(path, line, column, reason) from error
    except RecursionError:
        raise InvalidConfig(f"cannot read '{path}': it is nested too deeply", subject=path) from None


def _read(path: str) -> bytes:
    # Non-blocking, so that a FIFO cannot hold up the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file")
    with open(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, "it is larger than 1 MiB")
    return data


def _place(message: str, text: str) -> tuple[str, int, int]:
    """The reason without the place, and the place: tomllib only tells it in its message."""
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if match:
        return match[1], int(match[2]), int(match[3])
    lines = text.split("\n")
    return message.removesuffix(" (at end of document)"), len(lines), len(lines[-1]) + 1


def _not_toml(path: str, line: int, column: int, reason: str) -> InvalidConfig:
    reason = reason[:1].lower() + reason[1:]
    return InvalidConfig(f"cannot read '{path}': line {line}, column {column}: {reason}", subject=path)


def _unreadable(path: str, error: OSError) -> InvalidConfig:
    reason = (error.strerror or str(error)).lower()
    return InvalidConfig(f"cannot read the configuration file '{path}': {reason}", subject=path)
