"""Reading a seccomp profile: the format that Docker and containers-common have in common, and what is wrong with a file.

A file of a user's is read strictly: a field, an action or a condition that is misspelt would else silently allow or forbid
something. In the file that the host has installed, fields that are not known are passed over: a newer one may have more.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["LIMIT", "Argument", "BadProfile", "Condition", "Profile", "Rule", "errno_of", "parse"]

LIMIT = 512 * 1024
"""Bytes of a profile. The usual one has 12 KiB."""

_ACTIONS = frozenset(
    f"SCMP_ACT_{word}"
    for word in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
)
_NOTIFY = "SCMP_ACT_NOTIFY"
_COMPARISONS = frozenset(f"SCMP_CMP_{word}" for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_ARCHITECTURES = frozenset(
    f"SCMP_ARCH_{word}"
    for word in (
        *(
            "NATIVE",
            "X86",
            "X86_64",
            "X32",
            "ARM",
            "AARCH64",
            "MIPS",
            "MIPS64",
            "MIPS64N32",
            "MIPSEL",
            "MIPSEL64",
        ),
        *("MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64"),
        *("LOONGARCH64", "M68K", "SH", "SHEB"),
    )
)
_FLAGS = frozenset(
    f"SECCOMP_FILTER_FLAG_{word}" for word in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")
)
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}")
_ERRORS = 4096
_ARGUMENTS = 6
"""Of a system call."""


class BadProfile(ValueError):
    """The text says why it is no profile."""


class Condition(msgspec.Struct, frozen=True):
    arches: frozenset[str] = frozenset()
    caps: frozenset[str] = frozenset()
    min_kernel: str = msgspec.field(name="minKernel", default="")


class Argument(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    index: int
    value: int
    op: str
    value_two: int = 0


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    action: str
    names: list[str] = []
    name: str = ""
    args: list[Argument] | None = None
    errno: str = ""
    """A name or a number; it counts more than `errno_ret`."""
    errno_ret: int | None = None
    includes: Condition = Condition()
    excludes: Condition = Condition()
    comment: str = ""


class Architecture(msgspec.Struct, frozen=True, rename="camel"):
    architecture: str
    sub_architectures: list[str] | None = None


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    default_action: str
    default_errno: str = ""
    default_errno_ret: int | None = None
    arch_map: list[Architecture] | None = None
    architectures: list[str] | None = None
    flags: list[str] | None = None
    syscalls: list[Rule] | None = None
    listener_path: str = ""
    listener_metadata: str = ""


# Made here and not at first use: specs are built in threads, and msgspec learns a type in steps that two
# threads at once turn into a crash of the process.
_decode = msgspec.json.Decoder(Profile).decode


def parse(text: bytes | str, *, strict: bool) -> Profile:
    """The profile. `strict`: every field has to be known. BadProfile."""
    if len(text) > LIMIT:
        raise BadProfile(f"it is larger than {LIMIT >> 10} KiB")
    try:
        found = _decode(text)
        document: dict[str, Any] = msgspec.json.decode(text) if strict else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadProfile(str(error)) from None
    if strict:
        _check_fields(document)
    _check(found)
    return found


def errno_of(name: str, number: int | None) -> int | None:
    """`EPERM` or `1`, else the number. BadProfile: there is no such error."""
    if not name:
        if number is not None and not 0 <= number < _ERRORS:
            raise BadProfile(f"there is no error {number}")
        return number
    if name.isascii() and name.isdecimal() and len(name) < 5:
        return int(name)
    found = getattr(errno, name, None) if name.startswith("E") else None
    if not isinstance(found, int):
        raise BadProfile(f"there is no error '{name}'")
    return found


def _names_of(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(struct.__struct_encode_fields__)


_OF_PROFILE, _OF_RULE = _names_of(Profile), _names_of(Rule)
_OF_CONDITION, _OF_ARGUMENT = _names_of(Condition), _names_of(Argument)
_OF_ARCHITECTURE = _names_of(Architecture)


def _check_fields(document: dict[str, Any]) -> None:
    """The types are right already."""
    for where, known, found in _objects(document):
        if unknown := sorted(found.keys() - known):
            raise BadProfile(f"the field '{unknown[0]}' is not known{where}")


def _objects(document: dict[str, Any]) -> Iterator[tuple[str, frozenset[str], dict[str, Any]]]:
    yield "", _OF_PROFILE, document
    for entry in document.get("archMap") or ():
        yield " in archMap", _OF_ARCHITECTURE, entry
    for number, rule in enumerate(document.get("syscalls") or ()):
        where = f" in syscalls[{number}]"
        yield where, _OF_RULE, rule
        for key in ("includes", "excludes"):
            yield f"{where}.{key}", _OF_CONDITION, rule.get(key) or {}
        for argument in rule.get("args") or ():
            yield f"{where}.args", _OF_ARGUMENT, argument


def _check(found: Profile) -> None:
    if found.architectures and found.arch_map:
        raise BadProfile("it has both 'architectures' and 'archMap'")
    named = [*(found.architectures or ())]
    for entry in found.arch_map or ():
        named += [entry.architecture, *(entry.sub_architectures or ())]
    _known("architecture", named, _ARCHITECTURES)
    _known("flag", found.flags or (), _FLAGS)
    rules = found.syscalls or []
    _known("action", [found.default_action, *(rule.action for rule in rules)], _ACTIONS)
    if not found.listener_path and any(rule.action == _NOTIFY for rule in rules):
        raise BadProfile(f"{_NOTIFY} needs a 'listenerPath'")
    errno_of(found.default_errno, found.default_errno_ret)
    for number, rule in enumerate(rules):
        try:
            _check_rule(rule)
        except BadProfile as problem:
            raise BadProfile(f"{problem} (syscalls[{number}])") from None


def _check_rule(rule: Rule) -> None:
    if bool(rule.names) == bool(rule.name):
        raise BadProfile("a rule has either 'names' or 'name'")
    if not all(rule.names):
        raise BadProfile("a system call has an empty name")
    errno_of(rule.errno, rule.errno_ret)
    for argument in rule.args or ():
        _known("comparison", [argument.op], _COMPARISONS)
        if not 0 <= argument.index < _ARGUMENTS:
            raise BadProfile(f"a system call has no argument {argument.index}")
        if min(argument.value, argument.value_two) < 0:
            raise BadProfile("an argument is compared with a negative number")
    for condition in (rule.includes, rule.excludes):
        if condition.min_kernel and not _VERSION.fullmatch(condition.min_kernel):
            raise BadProfile(f"'{condition.min_kernel}' is no version of a kernel such as 4.8")


def _known(kind: str, words: Iterable[str], known: frozenset[str]) -> None:
    for word in words:
        if word not in known:
            raise BadProfile(f"there is no {kind} '{word}'")
