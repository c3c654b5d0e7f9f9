"""What the daemon asks archive programs to do, one function each.

Nothing here waits but in the event loop, and nothing of an archive is read in the daemon. Cancelling a function kills
its program; what it has made so far — files below a directory, a part of an output — is the caller's to remove.
How many run at once is the caller's to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from supervisor.archive import running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.archive.feed import Feed
    from supervisor.kernel.idmaps import IdMaps, IdRange

__all__ = [
    "Changes",
    "Compression",
    "Contents",
    "Packed",
    "PackedTree",
    "Part",
    "Spooled",
    "Unpacked",
    "changes",
    "compare",
    "index",
    "pack",
    "pack_tree",
    "recompress",
    "spool",
    "unpack",
]

Compression = Literal["none", "gzip", "zstd"]
"""What archives are written with."""


class Unpacked(msgspec.Struct, frozen=True):
    """What was unpacked. Sizes in bytes."""

    diff_id: str
    """Digest of the uncompressed archive."""
    diff_size: int
    digest: str
    """Of what was read, compressed as it was; with the algorithm of the digest that was asked for."""
    size: int
    compression: str
    """none, gzip, zstd, bzip2, xz."""
    uids: list[int]
    """The owners of its files, each once."""
    gids: list[int]
    entries: int


class Packed(msgspec.Struct, frozen=True):
    """What was written. Sizes in bytes."""

    digest: str
    size: int
    diff_id: str
    """Digest of the archive before it was compressed."""
    diff_size: int


class PackedTree(Packed, frozen=True):
    """A new archive. The owners of its files, each once, and the number of its members."""

    uids: list[int]
    gids: list[int]
    entries: int


class Changes(msgspec.Struct, frozen=True):
    """Absolute paths, sorted."""

    changed: list[str]
    added: list[str]
    deleted: list[str]


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A member of an archive. `offset`: of its data, in bytes."""

    name: str
    """Without a leading slash or `./`."""
    kind: Literal["file", "directory", "symlink", "link"]
    offset: int
    size: int
    target: str
    """Of a link."""


class Contents(msgspec.Struct, frozen=True):
    """What is where in an archive, in its order; of two members of one name, the later one counts."""

    spooled: bool
    """The offsets are those in the spool file; else, in the archive itself."""
    members: list[Part]


class Spooled(msgspec.Struct, frozen=True):
    """What went into a spool file, as it came."""

    size: int
    digest: str
    compression: str


async def unpack(
    feed: Feed,
    target: str,
    tar_split: str,
    *,
    digest: str = "",
    size: int = -1,
    diff_id: str = "",
    whiteouts: Literal["overlay", "none"] = "overlay",
    user_xattrs: bool,
    ignore_chown_errors: bool = False,
    report: Callable[[int], None] | None = None,
) -> Unpacked:
    """Unpack a layer into the directory `target`, and write the new file `tar_split`; empty: none. What is in the
    directory already is replaced, but a directory by a directory: those become one.

    `digest`, `size`: what the feed's bytes must have; `diff_id`: the digest that they must have uncompressed.
    `whiteouts`: "overlay" makes the kernel's of them, "none" leaves the files `.wh.*` as they are, for fuse-overlayfs.
    `user_xattrs`: marks of opaque directories are those of a user namespace. `ignore_chown_errors`: files whose owner
    does not exist here get the caller's. `report` is called with the bytes that were read, ten times a second at most.
    Raises ArchiveRefused, DigestMismatch, DiskFull and StorageFailed; what is in `target` then is a part of the layer.
    """
    job = {
        "feed": (feed.fd, feed.offset, feed.length, feed.growth),
        "target": target,
        "tar_split": tar_split,
        "digest": digest,
        "size": size,
        "diff_id": diff_id,
        "whiteouts": whiteouts,
        "user_xattrs": user_xattrs,
        "ignore_chown_errors": ignore_chown_errors,
        "report": report is not None,
    }
    return await running.run(
        "unpack", job, _fds(feed), kind=Unpacked, doing="unpack the layer", report=report
    )


async def pack(
    diff: str,
    tar_split: str,
    out: int,
    *,
    compression: Compression = "none",
    level: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Packed:
    """Write the archive that a layer was unpacked from to a descriptor, compressed or not.

    `level`: of the compression; None: a quick one. `report` is called with the uncompressed bytes so far. Raises
    DigestMismatch (a file of the layer has been changed), ArchiveRefused (its tar-split file is none), DiskFull and
    StorageFailed, also when nobody reads any more. Part of the archive may have been written then.
    """
    job = {
        "diff": diff,
        "tar_split": tar_split,
        "out": out,
        "compression": compression,
        "level": level,
        "report": report is not None,
    }
    return await running.run("pack", job, (out,), kind=Packed, doing="pack the layer", report=report)


async def recompress(
    feed: Feed,
    out: int,
    *,
    digest: str,
    size: int = -1,
    compression: Compression,
    level: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Packed:
    """Write an archive to a descriptor, compressed otherwise than it comes.

    `digest`, `size`: what the feed's bytes must have; `report` is called with those that were read. Raises ArchiveRefused,
    DigestMismatch, DiskFull and StorageFailed. Part of the archive may have been written then.
    """
    job = {
        "feed": (feed.fd, feed.offset, feed.length, feed.growth),
        "out": out,
        "digest": digest,
        "size": size,
        "compression": compression,
        "level": level,
        "report": report is not None,
    }
    fds = (*_fds(feed), out)
    return await running.run("recompress", job, fds, kind=Packed, doing="compress the layer", report=report)


async def pack_tree(
    root: str,
    out: int,
    *,
    layer: bool = False,
    lowers: Sequence[str] = (),
    uids: Sequence[IdRange] = (),
    gids: Sequence[IdRange] = (),
    exclude: Sequence[str] = (),
    compression: Compression = "none",
    level: int | None = None,
    tar_split: str = "",
    report: Callable[[int], None] | None = None,
) -> PackedTree:
    """Write a new archive of all that is below a directory, on its own file system, to a descriptor.

    `layer`: the directory is an overlay's upper one, and the archive a layer: white-outs become `.wh.` files, and opaque
    directories get theirs where one of `lowers`, the layers below it, the nearest first, has something in their place.
    `uids`, `gids`: the maps of the container whose ids the archive is to have; none: those on the disk. `exclude`: paths
    that are left out with what is below them. `tar_split`: a new file, with which the directory is a layer that can be
    packed again. Sockets are left out. Raises DiskFull and StorageFailed.
    """
    job = {
        "root": root,
        "out": out,
        "layer": layer,
        "lowers": list(lowers),
        "uids": [tuple(line) for line in uids],
        "gids": [tuple(line) for line in gids],
        "exclude": list(exclude),
        "compression": compression,
        "level": level,
        "tar_split": tar_split,
        "report": report is not None,
    }
    return await running.run("tree", job, (out,), kind=PackedTree, doing="pack the tree", report=report)


async def changes(upper: str, lowers: Sequence[str], exclude: Sequence[str] = ()) -> Changes:
    """What an overlay's upper directory changes in the layers below it (the nearest first), as `diff` tells it.

    A directory that was removed and made again counts as deleted, and what is in it as added. `exclude`: files that
    count as not there. Raises StorageFailed.
    """
    job = {"upper": upper, "lowers": list(lowers), "exclude": list(exclude)}
    return await running.run("changes", job, kind=Changes, doing="tell the changes")


async def compare(
    new: Sequence[str],
    old: Sequence[str],
    exclude: Sequence[str] = (),
    shifted: Mapping[str, IdMaps] | None = None,
) -> Changes:
    """How the tree that layers show (the topmost first) differs from that of others, as `diff` tells it: by type, mode,
    owner, time, size, target and attributes. `exclude`: files that count as not there, in both. `shifted`: the user
    namespaces by whose maps the owners in some of the layers are told. Raises StorageFailed.
    """
    job = {
        "new": list(new),
        "old": list(old),
        "exclude": list(exclude),
        "shifted": {
            layer: [[tuple(line) for line in lines] for lines in maps]
            for layer, maps in (shifted or {}).items()
        },
    }
    return await running.run("comparison", job, kind=Changes, doing="tell the differences")


async def index(fd: int, spool: int, *, report: Callable[[int], None] | None = None) -> Contents:
    """What is in an archive of images, without reading the data.

    `fd`: a file, or a pipe. `spool`: an empty file, open for reading and writing, that is given the uncompressed archive
    unless `fd` is an uncompressed file. `report` is called with the bytes that were read, if there is much to read.
    Raises ArchiveRefused, DiskFull (also shortly before the disk is full) and StorageFailed.
    """
    job = {"fd": fd, "spool": spool, "only_spool": False, "report": report is not None}
    return await running.run(
        "index", job, (fd, spool), kind=Contents, doing="read the archive", report=report
    )


async def spool(fd: int, out: int, *, report: Callable[[int], None] | None = None) -> Spooled:
    """Everything from a descriptor, as it is, into an empty file. Raises DiskFull and StorageFailed."""
    job = {"fd": fd, "spool": out, "only_spool": True, "report": report is not None}
    return await running.run("index", job, (fd, out), kind=Spooled, doing="keep the archive", report=report)


def _fds(feed: Feed) -> tuple[int, ...]:
    return (feed.fd,) if feed.growth < 0 else (feed.fd, feed.growth)
