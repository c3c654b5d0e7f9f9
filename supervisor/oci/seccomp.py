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
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import InvalidArgument, InvalidConfig
from supervisor.oci.host import this_host
from supervisor.oci.seccomp_file import LIMIT, BadProfile, errno_of, parse

if TYPE_CHECKING:
    from supervisor.oci.seccomp_file import Profile, Rule

__all__ = ["of_text", "profile"]

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
            found = parse(file.read(LIMIT + 1), strict=False)
    except OSError as error:
        raise _unusable(path, (error.strerror or str(error)).lower()) from error
    except BadProfile as error:
        raise _unusable(path, str(error)) from error
    return msgspec.Raw(msgspec.json.encode(_chosen(found, os.uname().machine, frozenset(capabilities))))


@lru_cache(maxsize=16)
def of_text(text: str, name: str, capabilities: tuple[str, ...]) -> msgspec.Raw:
    """As `profile`, of a text that a user has given and that came from the file `name`. InvalidArgument."""
    try:
        found = parse(text, strict=True)
    except BadProfile as error:
        raise InvalidArgument(f"cannot use --security-opt seccomp={name}: {error}", subject=name) from None
    return msgspec.Raw(msgspec.json.encode(_chosen(found, os.uname().machine, frozenset(capabilities))))


def _chosen(found: Profile, machine: str, capabilities: frozenset[str]) -> dict[str, Any]:
    native, words = _ARCHITECTURES.get(machine, ("", {machine}))
    result: dict[str, Any] = {"defaultAction": found.default_action}
    number = errno_of(found.default_errno, found.default_errno_ret)
    if number is not None:
        result["defaultErrnoRet"] = number
    architectures = found.architectures or _with_sub_architectures(found, native)
    if architectures:
        result["architectures"] = architectures
    if found.flags:
        result["flags"] = found.flags
    if found.listener_path:
        result["listenerPath"] = found.listener_path
    if found.listener_metadata:
        result["listenerMetadata"] = found.listener_metadata
    result["syscalls"] = [
        _syscall(rule)
        for rule in found.syscalls or ()
        if _applies(rule, words, capabilities, os.uname().release)
    ]
    return result


def _with_sub_architectures(found: Profile, native: str) -> list[str]:
    for entry in found.arch_map or ():
        if entry.architecture == native:
            others = entry.sub_architectures or []
            return [native, *(name for name in others if name != _X32 or this_host().x32)]
    return []


def _applies(rule: Rule, words: set[str], capabilities: frozenset[str], release: str) -> bool:
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


def _syscall(rule: Rule) -> dict[str, Any]:
    entry: dict[str, Any] = {"names": rule.names or [rule.name], "action": rule.action}
    number = errno_of(rule.errno, rule.errno_ret)
    if number is not None:
        entry["errnoRet"] = number
    if rule.args:
        entry["args"] = rule.args
    return entry


def _unusable(path: str, reason: str) -> InvalidConfig:
    return InvalidConfig(f"cannot use the seccomp profile '{path}': {reason}", subject=path)
