"""Seccomp profiles: from the file that distributions install to what an OCI runtime takes.

The file describes all architectures and all sets of capabilities; its rules say for which architecture and
with which capabilities they apply. What is left for this machine and this container is encoded once and
kept for as long as the file does not change.

The x32 ABI is left out where the kernel does not have it. Nothing could be run by it, and the OCI runtime takes
more than in proportion for every architecture: 20 ms for three, 10 ms for two, each time something is started.
A program that makes such a call all the same is ended by the filter, where it would get ENOSYS without one.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import msgspec

from pyman.errors import InvalidConfig
from supervisor.oci.host import this_host

__all__ = ["profile"]

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", {"amd64", "x86_64"}),
    "i686": ("SCMP_ARCH_X86", {"x86", "386"}),
    "aarch64": ("SCMP_ARCH_AARCH64", {"arm64", "aarch64"}),
    "armv7l": ("SCMP_ARCH_ARM", {"arm"}),
    "ppc64le": ("SCMP_ARCH_PPC64LE", {"ppc64le"}),
    "s390x": ("SCMP_ARCH_S390X", {"s390x"}),
    "riscv64": ("SCMP_ARCH_RISCV64", {"riscv64"}),
}
"""`uname -m` to libseccomp's name and the words that profiles use."""
_X32 = "SCMP_ARCH_X32"


class _Condition(msgspec.Struct, frozen=True):
    arches: frozenset[str] = frozenset()
    caps: frozenset[str] = frozenset()
    min_kernel: str = msgspec.field(name="minKernel", default="")


class _Argument(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    index: int
    value: int
    op: str
    value_two: int = 0


class _Rule(msgspec.Struct, frozen=True, rename="camel"):
    action: str
    names: list[str] = []
    name: str = ""
    args: list[_Argument] | None = None
    errno_ret: int | None = None
    includes: _Condition = _Condition()
    excludes: _Condition = _Condition()


class _Architecture(msgspec.Struct, frozen=True, rename="camel"):
    architecture: str
    sub_architectures: list[str] | None = None


class _Profile(msgspec.Struct, frozen=True, rename="camel"):
    default_action: str
    default_errno_ret: int | None = None
    arch_map: list[_Architecture] = []
    architectures: list[str] | None = None
    flags: list[str] = []
    syscalls: list[_Rule] = []


# Made here and not at first use: specs are built in threads, and msgspec learns a type in steps that two
# threads at once turn into a crash of the process.
_decode = msgspec.json.Decoder(_Profile).decode


def profile(path: str, capabilities: tuple[str, ...]) -> msgspec.Raw:
    """The profile for this machine and these capabilities, encoded. InvalidConfig: the file is no profile."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unusable(path, (error.strerror or str(error)).lower()) from error
    return _encoded(path, status.st_mtime_ns, status.st_size, capabilities)


@lru_cache(maxsize=16)
def _encoded(path: str, _changed: int, _size: int, capabilities: tuple[str, ...]) -> msgspec.Raw:
    try:
        with open(path, "rb") as file:
            found = _decode(file.read(4 << 20))
    except OSError as error:
        raise _unusable(path, (error.strerror or str(error)).lower()) from error
    except msgspec.DecodeError as error:
        raise _unusable(path, str(error)) from error
    return msgspec.Raw(msgspec.json.encode(_chosen(found, os.uname().machine, frozenset(capabilities))))


def _chosen(found: _Profile, machine: str, capabilities: frozenset[str]) -> dict[str, Any]:
    native, words = _ARCHITECTURES.get(machine, ("", {machine}))
    result: dict[str, Any] = {"defaultAction": found.default_action}
    if found.default_errno_ret is not None:
        result["defaultErrnoRet"] = found.default_errno_ret
    architectures = found.architectures or _with_sub_architectures(found, native)
    if architectures:
        result["architectures"] = architectures
    if found.flags:
        result["flags"] = found.flags
    result["syscalls"] = [
        _syscall(rule) for rule in found.syscalls if _applies(rule, words, capabilities, os.uname().release)
    ]
    return result


def _with_sub_architectures(found: _Profile, native: str) -> list[str]:
    for entry in found.arch_map:
        if entry.architecture == native:
            others = entry.sub_architectures or []
            return [native, *(name for name in others if name != _X32 or this_host().x32)]
    return []


def _applies(rule: _Rule, words: set[str], capabilities: frozenset[str], release: str) -> bool:
    included, excluded = rule.includes, rule.excludes
    if included.arches and not included.arches & words:
        return False
    if included.caps and not included.caps <= capabilities:
        return False
    if included.min_kernel and _version(release) < _version(included.min_kernel):
        return False
    if excluded.arches & words or excluded.caps & capabilities:
        return False
    return not (excluded.min_kernel and _version(release) >= _version(excluded.min_kernel))


def _version(text: str) -> tuple[int, ...]:
    numbers = text.split("-", 1)[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())


def _syscall(rule: _Rule) -> dict[str, Any]:
    entry: dict[str, Any] = {"names": rule.names or [rule.name], "action": rule.action}
    if rule.errno_ret is not None:
        entry["errnoRet"] = rule.errno_ret
    if rule.args:
        entry["args"] = rule.args
    return entry


def _unusable(path: str, reason: str) -> InvalidConfig:
    return InvalidConfig(f"cannot use the seccomp profile '{path}': {reason}", subject=path)
