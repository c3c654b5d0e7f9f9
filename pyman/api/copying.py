"""Copying into containers, out of them, and from one to another. The rows are those of `io.pyman.Container`.

No byte goes through a message. What is the client's own, it opens, and a request brings the descriptor.
"""

from __future__ import annotations

import msgspec

__all__ = ["CopyAcrossRequest", "CopyInRequest", "CopyOutRequest", "CopyReply"]


class CopyInRequest(msgspec.Struct, frozen=True):
    """The request brings one descriptor: of a tar archive, compressed or not, or of a pipe that gives one; or else of the
    file or directory to copy, opened for reading."""

    name: str
    path: str
    """In the container; from its working directory on, unless it is absolute."""
    source: str = ""
    """What the file or directory is called; empty: the descriptor gives an archive, and `path` is a directory."""
    contents: bool = False
    """Not the directory itself, but what is in it."""
    archive: bool = True
    """What is copied belongs to the container's user; else to whom it belonged."""
    overwrite: bool = False
    """A directory may be replaced by something else, and the other way round."""


class CopyOutRequest(msgspec.Struct, frozen=True):
    """The request brings one descriptor: what an archive is written to, or else the directory to copy to. There
    everything belongs to the client; in an archive, to the container's user."""

    name: str
    path: str
    contents: bool = False
    as_archive: bool = False
    target: str = ""
    """The copy's name in that directory; empty: it keeps its own."""
    exists: bool = False
    """There is something of that name, which is no directory."""
    archive: bool = True
    """False: in an archive, everything belongs to whom it belongs in the container."""
    overwrite: bool = False


class CopyAcrossRequest(msgspec.Struct, frozen=True):
    source: str
    """The name of a container, as `target`."""
    source_path: str
    target: str
    target_path: str
    contents: bool = False
    archive: bool = True
    overwrite: bool = False


class CopyReply(msgspec.Struct, frozen=True):
    files: int
    size: int
    """Bytes of data."""
    left_out: int
    """Files that there can be no copy of: sockets, on the host also devices; and what may not be read."""
