"""Layers as the tests make them: tar archives in memory, and the files that come out of them."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from supervisor.archive import jobs
from supervisor.archive.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

__all__ = ["Layer", "digest_of", "feed_of", "tree_of", "unpacked", "written"]


class Layer:
    """A tar archive that is being made; `member` adds anything, also what no program would write."""

    def __init__(self, kind: int = tarfile.PAX_FORMAT) -> None:
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w", format=kind)  # noqa: SIM115 - closed by `data`

    def member(self, name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> Layer:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.size = len(data)
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        info.mtime = 1_600_000_000
        for key, value in fields.items():
            setattr(info, key, value)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def file(self, name: str, data: bytes = b"", **fields: Any) -> Layer:
        return self.member(name, data=data, **fields)

    def directory(self, name: str, **fields: Any) -> Layer:
        return self.member(name, tarfile.DIRTYPE, **fields)

    def symlink(self, name: str, target: str, **fields: Any) -> Layer:
        return self.member(name, tarfile.SYMTYPE, linkname=target, **fields)

    def hard_link(self, name: str, target: str, **fields: Any) -> Layer:
        return self.member(name, tarfile.LNKTYPE, linkname=target, **fields)

    def data(self) -> bytes:
        self._tar.close()
        return self._out.getvalue()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def feed_of(data: bytes) -> Iterator[Feed]:
    fd = os.memfd_create("layer")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        yield Feed(fd)
    finally:
        os.close(fd)


@contextmanager
def written(path: Path) -> Iterator[int]:
    """The descriptor of a new file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        yield fd
    finally:
        os.close(fd)


async def unpacked(data: bytes, place: Path, **options: Any) -> jobs.Unpacked:
    """Into `place/diff`, with `place/tar-split.gz`."""
    (place / "diff").mkdir()
    with feed_of(data) as feed:
        return await jobs.unpack(
            feed, str(place / "diff"), str(place / "tar-split.gz"), **{"user_xattrs": False, **options}
        )


def tree_of(top: Path) -> Mapping[str, str]:
    """Each path below it, and what it is: type, mode, owner, and content, target or device."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        words = [stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
        if path.is_symlink():
            words = ["->", str(path.readlink())]
        elif path.is_file():
            words.append(path.read_bytes().decode("latin-1"))
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            words.append(f"{os.major(status.st_rdev)},{os.minor(status.st_rdev)}")
        found[str(path.relative_to(top))] = " ".join(words)
    return found
