"""What the daemon asks archive programs to do, one function each.

Nothing here waits but in the event loop, and nothing of an archive is read in the daemon. Cancelling a function kills
its program; what it has made so far — files below a directory, a part of an output — is the caller's to remove.
How many run at once is the caller's to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from pyman.errors import StorageFailed
from supervisor.archive import running

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.archive.feed import Feed

__all__ = ["Compression", "Packed", "Unpacked", "pack", "unpack"]

_T = TypeVar("_T")


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
    """Unpack a layer into the empty directory `target`, and write the new file `tar_split`.

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
    done = await running.run("unpack", job, _fds(feed), doing="unpack the layer", report=report)
    return _as(Unpacked, done)


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
    done = await running.run("pack", job, (out,), doing="pack the layer", report=report)
    return _as(Packed, done)


def _fds(feed: Feed) -> tuple[int, ...]:
    return (feed.fd,) if feed.growth < 0 else (feed.fd, feed.growth)


def _as(kind: type[_T], answer: dict[str, Any]) -> _T:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise StorageFailed("cannot understand the answer of an archive program") from error
