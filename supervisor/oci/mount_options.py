"""The options of mounts: which go together, and what is added where nobody said it.

Pure functions. What contradicts itself, and what a kind of mount does not know, is refused.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from pyman.mounttext import PROPAGATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["checked"]

_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_OCTAL = re.compile(r"[0-7]{1,5}", re.ASCII)
_SIZE = re.compile(r"\d{1,18}[kKmMgG%]?", re.ASCII)
_SWITCHES = {
    **dict.fromkeys(("exec", "noexec"), "exec"),
    **dict.fromkeys(("suid", "nosuid"), "suid"),
    **dict.fromkeys(("dev", "nodev"), "dev"),
    **dict.fromkeys(("rw", "ro"), "access"),
    **dict.fromkeys(PROPAGATIONS, "propagation"),
}
_OF_BINDS = {
    **_SWITCHES,
    **dict.fromkeys(("bind", "rbind"), "recursion"),
    **dict.fromkeys(("z", "Z"), "label"),
    "U": "U",
    "idmap": "idmap",
}
_OF_TMPFS = {
    **_SWITCHES,
    **dict.fromkeys(("tmpcopyup", "notmpcopyup"), "copy-up"),
    **dict.fromkeys(("noatime", "noswap", "U"), ""),
}
_WORDS: dict[str, dict[str, str]] = {
    "bind": {**_OF_BINDS, "no-dereference": "no-dereference"},
    "volume": {**_OF_BINDS, **dict.fromkeys(("copy", "nocopy"), "copy"), "nocreate": "nocreate", "O": "O"},
    "overlay": {"U": "U"},
    "tmpfs": _OF_TMPFS,
    "ramfs": _SWITCHES,
    "devpts": {"newinstance": "newinstance"},
}
"""By kind: each word, and what it decides about. Of those that decide about the same, one may be given."""
_VALUES: dict[str, dict[str, re.Pattern[str]]] = {
    "tmpfs": {"mode": _OCTAL, "size": _SIZE},
    "ramfs": {"mode": _OCTAL},
    "devpts": {"gid": _NUMBER, "max": _NUMBER, "mode": _OCTAL, "ptmxmode": _OCTAL, "uid": _NUMBER},
}


def checked(kind: str, options: Sequence[str], where: str, source: str = "", *, rootless: bool) -> list[str]:
    """The options with what goes without saying. `where` is the destination, `source` a path on the host whose
    file system's own restrictions hold. InvalidArgument, NotSupported; OSError: the source cannot be looked at."""
    seen: set[str] = set()
    for option in options:
        topic = _topic(kind, option, where)
        if topic in seen:
            raise InvalidArgument(
                f"cannot mount '{where}': option '{option}' contradicts another one, or repeats it"
            )
        seen.add(topic)
    if rootless and "noswap" in options:
        raise NotSupported(f"cannot mount '{where}': 'noswap' is for root alone")
    found = list(options)
    if kind == "overlay":
        _check_overlay(found, where)
        return found
    if kind == "devpts":
        return found
    if kind == "volume" and "O" in seen:
        _check_overlay(found, where)
    if "propagation" not in seen:
        found.append("private" if "bind" in options else "rprivate")
    found += _restrictions(kind, source, seen)
    if kind == "tmpfs" and "copy-up" not in seen:
        found.append("tmpcopyup")
    if kind in ("bind", "volume") and "recursion" not in seen:
        found.append("rbind")
    return found


def _topic(kind: str, option: str, where: str) -> str:
    """What it decides about."""
    key, equals, value = option.partition("=")
    problem = InvalidArgument(f"cannot mount '{where}': '{option}' is no option of {kind} mounts")
    if key in ("upperdir", "workdir") and kind in ("overlay", "volume"):
        if not os.path.isabs(value):
            raise InvalidArgument(f"cannot mount '{where}': the path of '{option}' is not absolute")
        return key
    if kind == "volume" and key == "volume-opt":
        if not value.partition("=")[1]:
            raise InvalidArgument(
                f"cannot mount '{where}': '{option}' is not of the form volume-opt=KEY=VALUE"
            )
        return option
    if key == "idmap" and key in _WORDS[kind]:
        return key
    pattern = _VALUES.get(kind, {}).get(key)
    if pattern is not None and equals:
        if not pattern.fullmatch(value):
            raise InvalidArgument(f"cannot mount '{where}': '{value}' is no {key}")
        return key
    if option not in _WORDS[kind]:
        raise problem
    return _WORDS[kind][option] or option


def _check_overlay(options: Iterable[str], where: str) -> None:
    keys = {option.partition("=")[0] for option in options}
    if ("upperdir" in keys) != ("workdir" in keys):
        raise InvalidArgument(f"cannot mount '{where}': upperdir and workdir go together")
    if others := sorted(keys - {"O", "U", "upperdir", "workdir"}):
        raise InvalidArgument(f"cannot mount '{where}': 'O' does not go together with '{others[0]}'")


def _restrictions(kind: str, source: str, seen: set[str]) -> list[str]:
    """A bind keeps those of its file system: who may not drop them must say them. A tmpfs has the usual ones."""
    if kind == "bind":
        flags = os.statvfs(source).f_flag
        found = [
            (topic, word)
            for topic, word, flag in (
                ("exec", "noexec", os.ST_NOEXEC),
                ("suid", "nosuid", os.ST_NOSUID),
                ("dev", "nodev", os.ST_NODEV),
            )
            if flags & flag
        ]
    else:
        found = [("suid", "nosuid"), ("dev", "nodev")]
    return [word for topic, word in found if topic not in seen]
