"""`--secret`: which secrets a container is given, and how."""

from __future__ import annotations

from pyman.cli.options import LIST
from pyman.errors import InvalidArgument
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["SECRET_OPTIONS", "secret_settings"]

SECRET_OPTIONS: tuple[Option, ...] = (
    (
        "secret",
        "",
        LIST,
        "NAME[,OPTION=VALUE]",
        "Give it a secret, as type=mount (default; target, uid, gid, mode) or type=env (target)",
    ),
)
_ID_MOST = (1 << 32) - 1
_MODE_MOST = 0o7777


def secret_settings(args: Parsed) -> dict[str, Any]:
    """The spec's fields that `--secret` sets. InvalidArgument."""
    mounted: list[dict[str, Any]] = []
    variables: dict[str, str] = {}
    for text in args.secret:
        given = _fields(text)
        kind = given.pop("type", "mount")
        if kind == "mount":
            mounted.append(given)
            continue
        for key in ("uid", "gid", "mode"):
            if key in given:
                raise _wrong(text, f"{key} is for type=mount only")
        target = given.get("target") or given["source"]
        if target in variables:
            raise _wrong(text, f"there is another one for the variable '{target}'")
        variables[target] = given["source"]
    found: dict[str, Any] = {"secrets": mounted} if mounted else {}
    if variables:
        found["secret_env"] = variables
    return found


def _fields(text: str) -> dict[str, Any]:
    words = text.split(",")
    found: dict[str, Any] = {}
    if "=" not in words[0]:
        found["source"] = words.pop(0)
    for word in words:
        name, equals, value = word.partition("=")
        key = name.lower() if name in ("UID", "GID") else name
        if key not in ("source", "type", "target", "uid", "gid", "mode") or not equals:
            raise _wrong(text, f"'{word}' is none of source=, type=, target=, uid=, gid=, mode=")
        if key in found and (key in ("source", "type")):
            raise _wrong(text, f"it has two of {key}")
        if key == "type" and value not in ("mount", "env"):
            raise _wrong(text, f"type is mount or env, not '{value}'")
        found[key] = _number(text, key, value) if key in ("uid", "gid", "mode") else value
    if not found.get("source"):
        raise _wrong(text, "it names no secret")
    return found


def _number(text: str, key: str, value: str) -> int:
    base, most = (8, _MODE_MOST) if key == "mode" else (10, _ID_MOST)
    is_number = is_decimal(value) and not (base == 8 and value.strip("01234567"))
    number = int(value, base) if is_number else -1
    if not 0 <= number <= most:
        expected = "an octal number up to 7777" if key == "mode" else "a number"
        raise _wrong(text, f"{key} is {expected}, not '{value}'")
    return number


def _wrong(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"option --secret cannot be '{text}': {why}", subject=text)
