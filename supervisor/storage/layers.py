"""A layer's directory: `overlay/ID` with its diff, the short link to it, and the names of what lies below.

    diff         its files; in a container's layer, what the container has written
    link         26 characters: the name of the link in `overlay/l` that leads to diff
    lower        the links of the layers below, topmost first; absent in a base layer
    work merged  for whoever mounts it
    empty        in a base layer, so that a read-only overlay of it has two layers

Everything here is done while `layers.lock` is held for writing, but `lower_of`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from pyman.errors import NotSupported
from supervisor.kernel import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.storage.ground import Ground

__all__ = ["DEPTH", "Facts", "Staged", "discard", "layer_id", "make_directory", "place", "settle"]

DEPTH = 500
"""Layers below one; other engines mount no more."""
_LINK = 26
_UNTOUCHED = 0o1700
"""The mode of a staged diff in which no archive has set that of its root."""
_BASE = 0o555


class Facts(Protocol):
    """What is known of a layer whose tar stream was read."""

    @property
    def diff_id(self) -> str: ...
    @property
    def diff_size(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def compression(self) -> str: ...
    @property
    def uids(self) -> Sequence[int]: ...
    @property
    def gids(self) -> Sequence[int]: ...


class Staged(msgspec.Struct, frozen=True):
    """A layer that is being made, outside of the store."""

    path: str
    """Absolute."""

    @property
    def layer(self) -> str:
        return f"{self.path}/layer"

    @property
    def diff(self) -> str:
        """The empty directory that the layer's files go into."""
        return f"{self.path}/layer/diff"

    @property
    def tar_split(self) -> str:
        """The file that tells how the tar stream is made of them again; does not exist yet."""
        return f"{self.path}/tar-split.gz"


def layer_id(parent: str, diff_id: str) -> str:
    """The id of a layer with these contents upon `parent` (an id, or empty): the same in all engines, so that a
    layer is there once."""
    digest = diff_id.partition(":")[2]
    return hashlib.sha256(f"{parent}+{digest}".encode()).hexdigest() if parent else digest


def make_directory(path: str) -> None:
    """A layer's directory with an empty diff. OSError."""
    os.mkdir(path, 0o700)
    os.mkdir(f"{path}/diff", 0o700)
    os.chmod(f"{path}/diff", _UNTOUCHED)
    for name in ("work", "merged"):
        os.mkdir(f"{path}/{name}", 0o700)


def place(ground: Ground, staged: str, tar_split: str, id: str, below: Sequence[str]) -> None:
    """Complete a staged layer's directory and have it appear as `overlay/ID`. `below`: the absolute paths of the
    directories of the layers below, topmost first. StorageFailed, DiskFull, NotSupported."""
    if len(below) > DEPTH:
        raise NotSupported(
            f"cannot store a layer upon {len(below)} others: at most {DEPTH} can be mounted", subject=id
        )
    link = base64.b32encode(secrets.token_bytes(17)).decode()[:_LINK]
    try:
        settle(f"{staged}/diff", below)
        _write(f"{staged}/link", link, 0o644)
        if below:
            _write(f"{staged}/lower", lower_of(below), 0o644)
        else:
            with suppress(FileExistsError):
                os.mkdir(f"{staged}/empty", 0o700)
    except OSError as error:
        raise files.storage_error(error, "store a layer in", ground.root) from error
    discard(ground, id)
    if tar_split:
        ground.move(tar_split, f"overlay-layers/{id}.tar-split.gz")
    ground.move(staged, f"overlay/{id}")
    try:
        os.symlink(f"../{id}/diff", f"{ground.root}/overlay/l/{link}")
    except OSError as error:
        raise files.storage_error(error, "store a layer in", ground.root) from error


def settle(diff: str, below: Sequence[str]) -> None:
    """Mode and owner of a root directory of which the archive says nothing: those of the one below."""
    if stat.S_IMODE(os.stat(diff).st_mode) != _UNTOUCHED:
        return
    if below:
        status = os.stat(f"{below[0]}/diff")
        os.chown(diff, status.st_uid, status.st_gid)
        os.chmod(diff, stat.S_IMODE(status.st_mode))
    else:
        os.chmod(diff, _BASE)


def lower_of(below: Sequence[str]) -> str:
    """The content of a `lower` file. OSError."""
    return ":".join(f"l/{_read(f'{path}/link')}" for path in below)


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="surrogateescape") as file:
        return file.read(256).strip()


def _write(path: str, text: str, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(path, "w", encoding="ascii", opener=lambda name, _: os.open(name, flags, mode)) as file:
        file.write(text)


def discard(ground: Ground, id: str) -> None:
    """Take what there is of a layer out of the store: its link, its directory, how its archive was made, its data.
    StorageFailed."""
    path = f"{ground.root}/overlay/{id}"
    with suppress(OSError):
        link = _read(f"{path}/link")
        if link.isalnum():
            os.unlink(f"{ground.root}/overlay/l/{link}")
    for name in (f"overlay/{id}", f"overlay-layers/{id}.tar-split.gz", f"overlay-layers/{id}"):
        ground.discard(name)
