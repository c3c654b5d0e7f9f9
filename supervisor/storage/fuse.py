"""fuse-overlayfs, the overlay that is a process: started, found again, and waited for.

It daemonises itself once the mount is there, in a session of its own, and is the orphan reaper's from then on: it
outlives the supervisor, and ends by itself when what it serves is unmounted and nobody uses it any more. Nothing
of it is written down: a server is found by its command line, whose last word is the mount point.
"""

from __future__ import annotations

import os
import re
import select
import shutil
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from pyman.errors import DeadlineExceeded, DiskFull, StorageFailed
from supervisor.kernel import children, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from supervisor.kernel.idmaps import IdRange
    from supervisor.kernel.process import ProcessRef

__all__ = ["PROGRAM", "end", "find", "mount", "server_of", "servers", "unusable", "version"]

PROGRAM = "fuse-overlayfs"
DEVICE = "/dev/fuse"
_SPECIAL = frozenset(",:\\")
"""What its options cannot have within a path."""
_POINT = re.compile(r"[^/]+/(rootfs|merged|mounts/[^/]+)")
"""Below a directory of mount points: those of a container, and of an image."""
_NOISE = "unknown argument ignored: lazytime"
"""It says so of its own default wherever libfuse does not know it."""
_KILLED = 1000
"""Milliseconds for a killed server to be gone."""


def find() -> str:
    """Where the program is; an empty string: it is not installed."""
    return shutil.which(PROGRAM, path=children.CLEAN_ENVIRONMENT["PATH"]) or ""


def unusable(program: str) -> str:
    """Why it cannot work here, or an empty string."""
    if not os.access(program, os.X_OK):
        return f"'{program}' is not a program that can be executed"
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{DEVICE} cannot be opened: {error.strerror}"
    return ""


async def version(program: str, deadline: float) -> str:
    """What it says of itself, in one line; an empty string: nothing."""
    try:
        said = await children.run([program, "--version"], deadline=deadline)
    except (OSError, DeadlineExceeded):
        return ""
    text = (said.stdout + said.stderr).decode("utf-8", "replace")
    return next((line for line in text.splitlines() if PROGRAM in line), "").strip()


async def mount(
    program: str,
    target: str,
    lower: Sequence[str],
    upper: str = "",
    work: str = "",
    *,
    options: Sequence[str] = (),
    uids: Sequence[IdRange] = (),
    gids: Sequence[IdRange] = (),
    deadline: float,
) -> None:
    """An overlay of `lower` (topmost first) and `upper`, or a read-only one without; on return it is mounted. `uids`, `gids`: the maps of a
    container; what belongs to an id `inside` on the disk belongs to the one `outside` in the mount.

    The directory around `target` has to be the caller's own: names that the program's options cannot have get
    links there meanwhile. Raises StorageFailed, DiskFull and DeadlineExceeded.
    """
    around = os.path.dirname(target)
    if ":" in upper:
        # It resolves links, and then takes the colon for the end of a name.
        raise StorageFailed(
            f"cannot mount '{target}' with '{program}': '{upper}' has a colon in its name",
            subject=target,
            hint="give the storage another place",
        )
    with ExitStack() as links:

        def plain(path: str, name: str) -> str:
            if not _SPECIAL.intersection(path):
                return path
            link = f"{around}/{name}"
            with suppress(FileNotFoundError):
                os.unlink(link)
            os.symlink(path, link)
            links.callback(os.unlink, link)
            return name

        words = [
            "lowerdir=" + ":".join(plain(path, f"lower-{number}") for number, path in enumerate(lower)),
        ]
        if upper:
            words += [f"upperdir={plain(upper, 'upper')}", f"workdir={plain(work, 'work')}"]
        for key, ranges in (("uidmapping", uids), ("gidmapping", gids)):
            if ranges:
                words.append(f"{key}=" + ":".join(str(number) for line in ranges for number in line))
        argv = [program, "-o", ",".join([*words, *options]), target]
        try:
            done = await children.run(argv, deadline=deadline, cwd=around)
        except OSError as error:
            raise StorageFailed(
                f"cannot start '{program}': {error.strerror}", subject=program, hint="is it a program?"
            ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").splitlines()
        reason = next((line for line in reversed(said) if line.strip() and line != _NOISE), "")
        reason = reason.removeprefix(f"{PROGRAM}: ").strip() or f"it ended with {done.returncode}"
        kind = DiskFull if os.strerror(28) in reason else StorageFailed
        raise kind(f"cannot mount '{target}' with '{program}': {reason}", subject=target)


def servers(below: str) -> dict[str, ProcessRef]:
    """Every server whose mount point is `below/ID/rootfs`, or another of a container's or an image's, wherever it is
    mounted, by mount point."""

    def fits(target: str) -> bool:
        return target.startswith(f"{below}/") and bool(_POINT.fullmatch(target, len(below) + 1))

    return _servers(_everybody(), fits)


def _everybody() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def server_of(target: str) -> ProcessRef | None:
    """The server of what was just mounted there, which is a child of this process by now."""
    for pids in (children.of_this_process(), _everybody()):
        if found := _servers(pids, target.__eq__):
            return found[target]
    return None


def _servers(pids: Iterable[int], fits: Callable[[str], bool]) -> dict[str, ProcessRef]:
    found: dict[str, ProcessRef] = {}
    for pid in pids:
        if not fits(_target(pid)):
            continue
        # Looked at again, now that it is certain which process is meant: the pid may have changed hands.
        ref = process.ref_of(pid)
        if ref is not None and fits(target := _target(pid)):
            found[target] = ref
    return found


def _target(pid: int) -> str:
    """The mount point, if it is such a process."""
    words = process.words_of(pid)
    # In front there may be an interpreter as well.
    if len(words) < 4 or words[-3] != "-o" or not words[-2].startswith("lowerdir="):
        return ""
    return words[-1]


def end(server: ProcessRef, patience: float) -> None:
    """Wait for a server whose mount is gone; one that has not ended after `patience` seconds is killed, as one is
    whose mount somebody keeps in another namespace."""
    pidfd = process.open_pidfd(server)
    if pidfd is None:
        return
    with pidfd:
        poller = select.poll()
        poller.register(pidfd.fd, select.POLLIN)
        if not poller.poll(patience * 1000):
            process.kill(server)
            poller.poll(_KILLED)
