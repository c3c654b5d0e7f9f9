"""The values that options take: durations, sizes, limits, `KEY=VALUE` files. Standard library only, and little."""

from __future__ import annotations

import os

from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["absolute", "duration", "environment", "labels", "proxies", "read_pairs", "rlimits", "size"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LARGEST = 1e30
_BLANKS = " \t\v\f\r\n"


def duration(text: str) -> float | None:
    """Seconds of `1.5`, `500ms` or `1h30m`; None: not a duration."""
    try:
        number = float(text)
    except ValueError:
        return _with_units(text)
    return number if 0 <= number < 1e15 else None


def _with_units(text: str) -> float | None:
    total, rest = 0.0, text
    while rest:
        split = 0
        while split < len(rest) and (rest[split].isdecimal() or rest[split] == "."):
            split += 1
        end = split
        while end < len(rest) and rest[end].isalpha():
            end += 1
        unit = _UNITS.get(rest[split:end])
        try:
            number = float(rest[:split])
        except ValueError:
            return None
        if unit is None:
            return None
        total += number * unit
        rest = rest[end:]
    return total if text else None


def size(text: str, *, base: int) -> int | None:
    """Bytes of `10m`, `10MB`, `10MiB` or `1.5g`, with the given base of the prefixes; None: not a size."""
    split = len(text)
    while split and not (text[split - 1].isdecimal() or text[split - 1] == "."):
        split -= 1
    unit = text[split:].strip().lower()
    for suffix in ("ib", "b"):
        if len(unit) > len(suffix) and unit.endswith(suffix):
            unit = unit[: -len(suffix)]
            break
    try:
        number = float(text[:split])
    except ValueError:
        return None
    return int(number * base ** _SIZES[unit]) if unit in _SIZES and number < _LARGEST else None


def read_pairs(path: str, option: str) -> list[str]:
    """The lines of an env or label file that say something: neither blank nor starting with `#`."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise InvalidArgument(
            f"cannot read the file '{path}' of option {option}: it is not UTF-8", subject=path
        ) from None
    except OSError as problem:
        raise InvalidArgument(
            f"cannot read the file '{path}' of option {option}: {problem.strerror or problem}", subject=path
        ) from problem
    lines = (line.lstrip(_BLANKS) for line in text.split("\n"))
    return [line.removesuffix("\r") for line in lines if line and not line.startswith("#")]


def environment(pairs: Iterable[str], caller: Mapping[str, str], source: str) -> dict[str, str]:
    """Variables of `NAME=VALUE`; `NAME` takes the caller's value, if there is one, `PREFIX*` all such."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or (name != name.strip(_BLANKS) or any(blank in name for blank in _BLANKS)):
            raise InvalidArgument(
                f"cannot use the environment variable '{pair}' of {source}",
                hint="it must be NAME=VALUE or NAME",
            )
        if equals:
            found[name] = value
        elif name.endswith("*"):
            found.update((key, caller[key]) for key in caller if key.startswith(name[:-1]))
        elif name in caller:
            found[name] = caller[name]
    return found


def proxies(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables of proxies."""
    names = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
    return {name: caller[name] for name in (*names, *map(str.upper, names)) if name in caller}


def labels(pairs: Iterable[str], source: str) -> dict[str, str]:
    """Labels of `KEY=VALUE` or `KEY`."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key.strip(_BLANKS):
            raise InvalidArgument(
                f"cannot use the label '{pair}' of {source}", hint="it must be KEY=VALUE or KEY"
            )
        found[key] = value
    return found


_LIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
UNLIMITED = -1


def rlimits(values: Iterable[str]) -> list[dict[str, Any]]:
    """Limits of `nofile=1024:4096` (soft:hard), `nofile=1024` (both), and `host` (all of the caller's)."""
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        if value == "host":
            found.update(_own_limits())
            continue
        name, equals, numbers = value.partition("=")
        name = name.lower().removeprefix("rlimit_")
        soft, colon, hard = numbers.partition(":")
        try:
            pair = int(soft), int(hard if colon else soft)
        except ValueError:
            pair = (-2, -2)
        if not equals or name not in _LIMITS or min(pair) < -1:
            raise InvalidArgument(
                f"option --ulimit cannot be '{value}'",
                hint=f"it must be NAME=SOFT[:HARD], NAME one of {', '.join(_LIMITS)}",
            )
        if pair[1] != UNLIMITED and not -1 < pair[0] <= pair[1]:
            raise InvalidArgument(
                f"option --ulimit cannot be '{value}'", hint="the soft limit is above the hard limit"
            )
        found[name] = {"type": f"RLIMIT_{name.upper()}", "soft": pair[0], "hard": pair[1]}
    return list(found.values())


def _own_limits() -> dict[str, dict[str, Any]]:
    import resource

    found = {}
    for name in _LIMITS:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            soft, hard = resource.getrlimit(number)
            found[name] = {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
    return found


def absolute(path: str) -> str:
    """As the caller sees it: the supervisor has another working directory. Raises InvalidArgument."""
    try:
        return os.path.abspath(path) if path else ""
    except OSError as problem:
        raise InvalidArgument(
            f"cannot tell where '{path}' is: the working directory is gone", subject=path
        ) from problem
