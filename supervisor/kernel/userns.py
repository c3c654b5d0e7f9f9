"""User namespaces that nobody lives in: for the id maps of mounts, and to ask one for its maps.

A namespace needs a process to begin with. It is a child that waits, and that has ended when the work is done.
Failures are OSErrors.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from supervisor.kernel import children, idmaps, namespaces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from supervisor.kernel.idmaps import IdMaps, IdRange

__all__ = ["maps_of", "with_maps"]

_PATIENCE = 5.0
"""Seconds for a program to come up."""
_WORD = b"\n"


@asynccontextmanager
async def with_maps(maps: IdMaps) -> AsyncIterator[int]:
    """A descriptor of a user namespace with these maps. Needs the rights to map any id."""
    async with _waiting(["unshare", "--user", "cat"]) as pid:
        for name, lines in (("uid_map", maps.uids), ("gid_map", maps.gids)):
            _write(f"/proc/{pid}/{name}", lines)
        descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def maps_of(path: str) -> IdMaps:
    """The maps of the user namespace at a path, as seen from here. OSError: there is none, or it cannot be joined,
    or it has no ids yet."""
    descriptor = -1
    with trio.move_on_after(_PATIENCE):
        descriptor = await trio.to_thread.run_sync(_opened, path, abandon_on_cancel=True)
    if descriptor < 0:
        raise TimeoutError(errno.ETIMEDOUT, "no answer", path)
    try:
        argv = ["nsenter", f"--user=/proc/self/fd/{descriptor}", "--preserve-credentials", "cat"]
        async with _waiting(argv, pass_fds=(descriptor,)) as pid:
            maps = idmaps.of_process(pid)
    finally:
        os.close(descriptor)
    if not all(maps):
        raise OSError(errno.EINVAL, "it has no ids", path)
    return maps


def _opened(path: str) -> int:
    """A descriptor of the user namespace there. What is none is not opened: that could wait, or do something."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(place).st_mode):
            descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
            with suppress(OSError):
                if namespaces.kind_of(descriptor) == namespaces.NEW_USER:
                    return descriptor
            os.close(descriptor)
    finally:
        os.close(place)
    raise OSError(errno.EINVAL, "it is no user namespace", path)


def _write(path: str, lines: Sequence[IdRange]) -> None:
    """In one piece: the kernel takes a map once."""
    text = "".join(f"{line.inside} {line.outside} {line.size}\n" for line in lines)
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode("ascii"))


@asynccontextmanager
async def _waiting(argv: Sequence[str], pass_fds: Sequence[int] = ()) -> AsyncIterator[int]:
    """The pid of a program that repeats what it is told, once it does: it is in its namespace then."""
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    heard, said = os.pipe2(os.O_CLOEXEC)
    child = None
    try:
        try:
            child = await children.spawn(argv, pass_fds=pass_fds, stdin=theirs, stdout=said)
        finally:
            os.close(theirs)
            os.close(said)
        with suppress(BrokenPipeError):  # it has ended already
            os.write(ours, _WORD)
        with trio.move_on_after(_PATIENCE):
            await trio.lowlevel.wait_readable(heard)
        os.set_blocking(heard, False)
        answer = b""
        with suppress(BlockingIOError):
            answer = os.read(heard, len(_WORD))
        if answer != _WORD:
            raise OSError(errno.EPERM, f"{argv[0]} cannot make or join it", argv[-1])
        yield child.pid
    finally:
        os.close(ours)
        os.close(heard)
        if child is not None:
            await child.kill()
