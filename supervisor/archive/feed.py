"""Where a program reads a layer from."""

from __future__ import annotations

import msgspec

__all__ = ["Feed"]


class Feed(msgspec.Struct, frozen=True):
    """Where a program reads a layer from: `length` bytes of a file from `offset` (-1: to its end), or a pipe.

    `growth`: a pipe that tells how far a file that is being written has come, as unsigned 64-bit little-endian
    numbers of bytes; its end means that the file is complete, if the last number is its length, or that the writer
    has failed. -1: the file is complete.
    """

    fd: int
    offset: int = 0
    length: int = -1
    growth: int = -1
