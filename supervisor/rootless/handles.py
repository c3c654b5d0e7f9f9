"""`ns_handles`: the file by which the next process finds a user's namespaces again.

One JSON object: the boot it was written in, and the file handles of the user and the mount namespace. A handle
names one namespace for ever (a 64-bit number that no other one gets), so one that is stale leads nowhere and
never to a stranger's; what was written before a boot, or is no such file, is as good as none.
Standard library only: the keeper needs it too.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from supervisor.kernel import namespaces
from supervisor.rootless.files import read_own, write_own

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAME", "Found", "find", "forget", "save"]

NAME = "ns_handles"


class Found(NamedTuple):
    """Descriptors; `mount` is -1 where only the user namespace is left."""

    user: int
    mount: int


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def save(directory: str, user: int, mount: int) -> bool:
    """Write down the namespaces that the descriptors stand for. False: this kernel has no handles for them."""
    try:
        names = {"user": namespaces.handle_of(user).hex(), "mnt": namespaces.handle_of(mount).hex()}
    except OSError as error:
        if error.errno in namespaces.UNSUPPORTED:
            return False
        raise
    write_own(f"{directory}/{NAME}", json.dumps({"boot": _boot_id(), **names}))
    return True


def forget(directory: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{NAME}")


@contextlib.contextmanager
def find(directory: str) -> Iterator[Found | None]:
    """The namespaces that are written down, if their user namespace is still there and this user's own."""
    user = mount = -1
    try:
        names = _read(f"{directory}/{NAME}")
        user = _open(names.get("user", ""), namespaces.NEW_USER)
        if user < 0 or namespaces.owner_of(user) != os.geteuid() or _is_own(user):
            yield None
            return
        mount = _open(names.get("mnt", ""), namespaces.NEW_MOUNT)
        yield Found(user, mount)
    finally:
        for descriptor in (user, mount):
            if descriptor >= 0:
                os.close(descriptor)


def _read(path: str) -> dict[str, str]:
    try:
        told = json.loads(read_own(path))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict) or told.get("boot") != _boot_id():
        return {}
    return {key: value for key, value in told.items() if isinstance(value, str)}


def _open(name: str, kind: int) -> int:
    """-1: it leads nowhere."""
    try:
        descriptor = namespaces.open_handle(bytes.fromhex(name))
    except (OSError, ValueError):
        return -1
    try:
        if namespaces.kind_of(descriptor) == kind:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return -1


def _is_own(user: int) -> bool:
    """The namespace that this process is in already: nobody can join that."""
    ours, theirs = os.stat("/proc/self/ns/user"), os.fstat(user)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
