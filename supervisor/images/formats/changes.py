"""`--change` of import and commit: lines as in a Containerfile that alter the configuration of an image.

`apply` is a pure function on the `config` object of an image's configuration, as it stands in its JSON: what no line
is about stays as it is. ENV and LABEL take one `KEY=VALUE` or several; where not every further word is a pair, the
rest of the line is the one value.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import signal
from typing import TYPE_CHECKING, Any

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["apply", "instructions"]

Config = dict[str, Any]

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SHELL = ("/bin/sh", "-c")
_TIMES = {
    "--interval": "Interval",
    "--timeout": "Timeout",
    "--start-period": "StartPeriod",
    "--start-interval": "StartInterval",
}


def apply(config: Mapping[str, Any] | None, changes: Sequence[str]) -> Config:
    """A new `config` object with these changes, made in order. Raises InvalidArgument, which quotes the line."""
    changed: Config = {
        key: value.copy() if isinstance(value, dict | list) else value
        for key, value in (config or {}).items()
    }
    for line in changes:
        word, value = _split(line)
        _INSTRUCTIONS[word](changed, value, line)
    return changed


def instructions() -> tuple[str, ...]:
    """Every instruction that a line may begin with."""
    return tuple(_INSTRUCTIONS)


def _split(line: str) -> tuple[str, str]:
    """The instruction and its argument: `KEY VALUE`, else `KEY=VALUE`."""
    word, separator, value = line.strip().partition(" ")
    if not separator:
        word, separator, value = word.partition("=")
    word = word.strip().upper()
    if word not in _INSTRUCTIONS:
        raise _refused(line, f"the instruction is none of {', '.join(_INSTRUCTIONS)}")
    if not separator and word not in _MAY_BE_EMPTY:
        raise _refused(line, "give it as 'INSTRUCTION VALUE'")
    return word, value.strip()


def _refused(line: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"cannot apply the change '{line}'", subject=line, hint=why)


def _array(value: str) -> list[str] | None:
    """The strings of a JSON array; None: it is none."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else None


def _set(config: Config, key: str, value: Any) -> None:
    """An empty value takes the field away, as encoders of images do."""
    if value:
        config[key] = value
    else:
        config.pop(key, None)


def _cmd(config: Config, value: str, _line: str) -> None:
    words = _array(value)
    _set(config, "Cmd", words if words is not None else [*_SHELL, *([value] if value else [])])


def _entrypoint(config: Config, value: str, _line: str) -> None:
    words = _array(value)
    _set(config, "Entrypoint", words if words is not None else [*_SHELL, value] if value else [])


def _env(config: Config, value: str, line: str) -> None:
    present: list[str] = list(config.get("Env") or ())
    for key, text in _pairs(value, line, bare=True):
        entry = f"{key}={text}"
        at = next((i for i, old in enumerate(present) if old.partition("=")[0] == key), None)
        if at is None:
            present.append(entry)
        else:
            present[at] = entry
    config["Env"] = present


def _label(config: Config, value: str, line: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(value, line, bare=False))}


def _pairs(value: str, line: str, *, bare: bool) -> list[tuple[str, str]]:
    """`bare`: a key needs no value, or has it behind a space."""
    several = _several(value)
    if several is not None:
        return several
    key, equals, text = value.partition("=")
    if not equals and bare and " " in value:
        key, _, text = value.partition(" ")
    elif not equals and not bare:
        raise _refused(line, "give it as 'KEY=VALUE'")
    key, text = _unquoted(key), _unquoted(text.strip())
    if not key:
        raise _refused(line, "the key is empty")
    return [(key, text)]


def _several(value: str) -> list[tuple[str, str]] | None:
    """The pairs of a line of which every word is one; None: it is not such a line."""
    try:
        words = shlex.split(value, comments=False)
    except ValueError:
        return None
    found = [word.partition("=") for word in words]
    if len(found) < 2 or not all(equals and key for key, equals, _ in found):
        return None
    return [(key, text) for key, _, text in found]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _expose(config: Config, value: str, line: str) -> None:
    words = value.split()
    if not words:
        raise _refused(line, "give it as 'PORT[/PROTOCOL]'")
    ports: dict[str, Any] = dict(config.get("ExposedPorts") or {})
    for word in words:
        number, slash, protocol = word.partition("/")
        protocol = protocol.lower() if slash else "tcp"
        first, dash, last = number.partition("-")
        if protocol not in ("tcp", "udp", "sctp"):
            raise _refused(line, "the protocol is none of tcp, udp, sctp")
        least, most = _port(first, line), _port(last if dash else first, line)
        ports |= {f"{port}/{protocol}": {} for port in range(least, most + 1)}
    config["ExposedPorts"] = ports


def _port(text: str, line: str) -> int:
    if not text.isdecimal() or len(text) > 5 or not 0 < int(text) <= 65535:
        raise _refused(line, "a port is a number from 1 to 65535")
    return int(text)


def _onbuild(config: Config, value: str, line: str) -> None:
    if not value:
        raise _refused(line, "give the instruction to carry out")
    config["OnBuild"] = [*(config.get("OnBuild") or ()), value]


def _stopsignal(config: Config, value: str, line: str) -> None:
    if not _is_signal(value):
        raise _refused(line, "give the name of a signal, or a number from 1 to 64")
    config["StopSignal"] = value


def _is_signal(text: str) -> bool:
    name = text.upper().removeprefix("SIG")
    if text.isdecimal():
        return len(text) < 4 and 1 <= int(text) <= 64
    base, plus, offset = name.partition("+")
    if base == "RTMIN" and plus:
        return offset.isdecimal() and len(offset) < 4 and int(offset) <= signal.SIGRTMAX - signal.SIGRTMIN
    return name in {known.name.removeprefix("SIG") for known in signal.Signals}


def _user(config: Config, value: str, line: str) -> None:
    if not value:
        raise _refused(line, "give a user")
    config["User"] = value


def _volume(config: Config, value: str, line: str) -> None:
    paths = _array(value)
    paths = value.split() if paths is None else paths
    if not paths or not all(paths):
        raise _refused(line, "give one path, or several")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _workdir(config: Config, value: str, line: str) -> None:
    if not value:
        raise _refused(line, "give a path")
    # Each is relative to the one before; a leading // means what / does.
    joined = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", value))
    config["WorkingDir"] = "/" + joined.lstrip("/")


def _healthcheck(config: Config, value: str, line: str) -> None:
    check: Config = {}
    rest = value
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        _health_option(check, option, line)
    kind, _, command = rest.partition(" ")
    command = command.strip()
    if kind.upper() == "NONE" and not command:
        check["Test"] = ["NONE"]
    elif kind.upper() == "CMD" and command:
        words = _array(command)
        check["Test"] = ["CMD", *words] if words is not None else ["CMD-SHELL", command]
    else:
        raise _refused(line, "give it as 'HEALTHCHECK [OPTIONS] CMD COMMAND', or 'HEALTHCHECK NONE'")
    config["Healthcheck"] = check


def _health_option(check: Config, option: str, line: str) -> None:
    name, _, text = option.partition("=")
    if name in _TIMES:
        check[_TIMES[name]] = _nanoseconds(text, line)
    elif name == "--retries" and text.isdecimal() and len(text) < 10:
        check["Retries"] = int(text)
    else:
        raise _refused(line, f"'{option}' is no option of HEALTHCHECK")


def _nanoseconds(text: str, line: str) -> int:
    """A duration as Go writes it: 1m30s."""
    parts = _DURATION.findall(text) if len(text) < 40 else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise _refused(line, f"'{text}' is no duration such as 30s or 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


_INSTRUCTIONS: dict[str, Callable[[Config, str, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
_MAY_BE_EMPTY = frozenset({"CMD", "ENTRYPOINT"})
