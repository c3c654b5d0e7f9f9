"""The columns that `top` can show, by the words of ps(1) for AIX, and those that Podman has added."""

from __future__ import annotations

__all__ = ["CODES", "DEFAULT", "TITLES", "named", "split"]

TITLES = {
    "args": "COMMAND",
    "capamb": "AMBIENT CAPS",
    "capbnd": "BOUNDING CAPS",
    "capeff": "EFFECTIVE CAPS",
    "capinh": "INHERITED CAPS",
    "capprm": "PERMITTED CAPS",
    "comm": "COMMAND",
    "etime": "ELAPSED",
    "group": "GROUP",
    "groups": "GROUPS",
    "hgroup": "HGROUP",
    "hgroups": "HGROUPS",
    "hpid": "HPID",
    "huid": "HUID",
    "huser": "HUSER",
    "label": "LABEL",
    "nice": "NI",
    "pcpu": "%CPU",
    "pgid": "PGID",
    "pid": "PID",
    "ppid": "PPID",
    "rgroup": "RGROUP",
    "rss": "RSS",
    "ruser": "RUSER",
    "seccomp": "SECCOMP",
    "state": "STATE",
    "stime": "STIME",
    "time": "TIME",
    "tty": "TTY",
    "uid": "UID",
    "user": "USER",
    "vsz": "VSZ",
}
CODES = {
    "%C": "pcpu",
    "%G": "group",
    "%P": "ppid",
    "%U": "user",
    "%a": "args",
    "%c": "comm",
    "%g": "rgroup",
    "%n": "nice",
    "%p": "pid",
    "%r": "pgid",
    "%t": "etime",
    "%u": "ruser",
    "%x": "time",
    "%y": "tty",
    "%z": "vsz",
}
DEFAULT = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")


def split(words: list[str]) -> list[str]:
    """Several may stand in one word, separated by commas."""
    return [part.strip() for word in words for part in word.split(",") if part.strip()]


def named(word: str) -> str:
    """The name of a column that is asked for by its name or its code; empty: there is none."""
    name = CODES.get(word, word)
    return name if name in TITLES else ""
