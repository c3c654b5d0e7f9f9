"""What the daemon asks the program `copy` to do: between a container and somebody who has opened a file, a directory or a
pipe, or between two containers.

As with the other programs (`jobs`), nothing waits here but in the event loop, and cancelling kills the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from supervisor.archive import running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.idmaps import IdRange

__all__ = ["Archive", "At", "Copied", "Inside", "Mount", "Open", "copy"]


class Inside(NamedTuple):
    """The files of a container."""

    name: str
    """Of the container, for sentences."""
    root: int = -1
    namespace: int = -1
    """Of one that runs: descriptors of its root directory and its mount namespace."""
    path: str = ""
    """Of another one: where its root file system is mounted."""
    mounts: Sequence[Mount] = ()
    """What a run would mount in it, the outer ones first."""
    unseen: Sequence[str] = ()
    """What only a run has mounted."""
    owner: tuple[int, int] = (0, 0)
    """The container's root, in the engine's ids."""
    uids: Sequence[IdRange] = ()
    gids: Sequence[IdRange] = ()
    """Its user namespace's maps; none: its ids are the engine's."""


class Mount(NamedTuple):
    destination: str
    source: str
    sub_path: str = ""
    recursive: bool = True
    readonly: bool = False


class Copied(msgspec.Struct, frozen=True):
    """What was copied. `size`: bytes of data; `left_out`: files that there can be no copy of."""

    files: int
    size: int
    left_out: int


class Open(NamedTuple):
    """A file or directory of somebody's who has opened it. As a source: the thing itself, and its name. As a target: the
    directory that it goes to, and its name there; empty: its own."""

    fd: int
    name: str = ""
    shown: str = ""
    """For sentences."""
    contents: bool = False
    """Of a source: not the directory itself."""
    is_file: bool = False
    """Of a target: there is something, which is no directory."""


class At(NamedTuple):
    """A path in a container, from its root on. `contents`: see `Open`."""

    inside: Inside
    path: str
    contents: bool = False


class Archive(NamedTuple):
    """A tar archive, compressed or not as a source, in a file or a pipe."""

    fd: int


async def copy(
    source: Open | At | Archive,
    target: Open | At | Archive,
    *,
    owner: tuple[int, int] | None,
    overwrite: bool = False,
    devices: bool = True,
    skip_denied: bool = False,
) -> Copied:
    """Copy into a container, out of one, or from one to another.

    `owner`: of all that is copied, in the engine's ids, or in those of the archive; None: everything keeps its own, as the
    containers see it. `overwrite`: a directory may be replaced by something else, and the other way round. `devices`: they
    can be made; else they are left out. `skip_denied`: so is what may not be read. Raises NotFound, InvalidArgument,
    NotSupported, ArchiveRefused, DiskFull and StorageFailed; a tree may be there in part then, a file never is.
    """
    ends = [end.inside for end in (source, target) if isinstance(end, At)]
    seen = source.inside if isinstance(source, At) else None
    given = target.inside if isinstance(target, At) else None
    fds = [end.fd for end in (source, target) if not isinstance(end, At)]
    fds += [fd for end in ends for fd in (end.root, end.namespace) if fd >= 0]
    job = {
        "insides": [
            {
                **{key: getattr(end.inside, key) for key in ("name", "root", "namespace", "path", "owner")},
                "mounts": [mount._asdict() for mount in end.inside.mounts],
                "unseen": list(end.inside.unseen),
                "wanted": end.path,
            }
            for end in (source, target)
            if isinstance(end, At)
        ],
        "source": _end(source, ends),
        "target": _end(target, ends),
        "feed": (source.fd, 0, -1, -1) if isinstance(source, Archive) else None,
        "out": target.fd if isinstance(target, Archive) else -1,
        "owner": owner,
        "seen_ids": _ranges(seen),
        "given_ids": _ranges(given),
        "overwrite": overwrite,
        "devices": devices,
        "skip_denied": skip_denied,
    }
    return await running.run("copy", job, fds, kind=Copied, doing="copy", gently=True)


def _end(end: Open | At | Archive, insides: list[Inside]) -> dict[str, int | str | bool]:
    if isinstance(end, At):
        number = 0 if end.inside is insides[0] else 1
        return {"inside": number, "path": end.path, "contents": end.contents}
    if isinstance(end, Archive):
        return {"inside": -1}
    return {
        "inside": -1,
        "fd": end.fd,
        "name": end.name,
        "path": end.shown or end.name,
        "contents": end.contents,
        "is_file": end.is_file,
    }


def _ranges(inside: Inside | None) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    if inside is None:
        return [], []
    return [tuple(line) for line in inside.uids], [tuple(line) for line in inside.gids]
