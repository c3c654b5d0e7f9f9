"""Decompression, chosen by the first bytes, with memory bounded by its buffers whatever the input is.

gzip is isal's, three times as fast as zlib. zstd goes frame by frame and block by block, because a block is at most
128 KiB, and an end in the middle of a frame is noticed. Standard library, isal and zstandard only; what a format
needs is imported when it is met.
"""

from __future__ import annotations

from supervisor.archive.failures import Broken
from supervisor.archive.reading import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class _Decompressor(Protocol):
        """What bz2, lzma and isal have in common."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int) -> bytes: ...


__all__ = ["MAGIC_LENGTH", "compression_of", "decompressed", "prepare"]

MAGIC_LENGTH = 6
_OUT = 1 << 18
"""Bytes that come out at once, at most."""
_WINDOW_LIMIT = 1 << 27
"""Bytes of history that a zstd frame may ask for: what `zstd --long` makes and the zstd program accepts unasked,
and the most that other engines decompress with."""
_XZ_LIMIT = 1 << 28
"""Bytes of memory for xz: `xz -9` needs 65 MiB."""
_ZSTD, _SKIPPABLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    _ZSTD: "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}


def compression_of(start: bytes) -> str:
    """none, gzip, zstd, bzip2 or xz, from the first MAGIC_LENGTH bytes."""
    if start[1:4] == _SKIPPABLE and start[0] & 0xF0 == 0x50:
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "none")


def prepare(compression: str) -> None:
    """Import what it needs, before the file system is out of reach."""
    if compression == "gzip":
        import isal.igzip_lib
        import isal.isal_zlib  # noqa: F401
    elif compression == "zstd":
        import zstandard  # noqa: F401
    elif compression == "bzip2":
        import bz2  # noqa: F401
    elif compression == "xz":
        import lzma  # noqa: F401


def decompressed(compression: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What the pieces hold. Broken: it is damaged, cut off, or needs more memory than it may."""
    if compression == "none":
        return chunks
    if compression == "zstd":
        return _zstd(Stream(chunks))
    return _members(compression, chunks)


def _members(compression: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Of the formats that are whole streams, one after the other."""
    failures, make = _format(compression)
    data = next(chunks, b"")
    while data:
        decompressor = make()
        try:
            while not decompressor.eof:
                if decompressor.needs_input:
                    data = data or next(chunks, b"")
                    if not data:
                        raise Broken(f"the {compression} stream is cut off")
                    out = decompressor.decompress(data, _OUT)
                    data = b""
                else:
                    out = decompressor.decompress(b"", _OUT)
                if out:
                    yield out
        except failures as error:
            raise Broken(f"the {compression} stream is damaged: {error}") from error
        data = decompressor.unused_data or next(chunks, b"")


def _format(compression: str) -> tuple[tuple[type[Exception], ...], Callable[[], _Decompressor]]:
    if compression == "gzip":
        from isal import igzip_lib, isal_zlib

        failures = (isal_zlib.error, EOFError, ValueError)
        # The stub calls the class of its errors an error.
        return failures, lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)  # type: ignore[return-value]
    if compression == "bzip2":
        import bz2

        return (OSError, ValueError), bz2.BZ2Decompressor
    import lzma

    return (lzma.LZMAError,), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_LIMIT)


def _zstd(stream: Stream) -> Iterator[bytes]:
    while magic := stream.take(4):
        if magic == _ZSTD:
            yield from _frame(stream)
        elif len(magic) == 4 and magic[1:] == _SKIPPABLE and magic[0] & 0xF0 == 0x50:
            left = int.from_bytes(_exactly(stream, 4), "little")
            while left:
                piece = stream.some(left)
                if not piece:
                    raise Broken("the zstd stream is cut off")
                left -= len(piece)
        else:
            raise Broken("the zstd stream has something behind it that is no frame")


def _frame(stream: Stream) -> Iterator[bytes]:
    import zstandard

    descriptor = _exactly(stream, 1)
    flags = descriptor[0]
    single, checked = flags & 0x20, flags & 0x04
    content = (1 if single else 0, 2, 4, 8)[flags >> 6]
    dictionary = (0, 1, 2, 4)[flags & 3]
    header = _ZSTD + descriptor + _exactly(stream, (0 if single else 1) + dictionary + content)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT).decompressobj()
    try:
        out = decompressor.decompress(header)
        last = False
        while not last:
            block = _exactly(stream, 3)
            word = int.from_bytes(block, "little")
            last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
            body = _exactly(stream, 1 if kind == 1 else size)
            out = decompressor.decompress(block + body)
            if out:
                yield out
        if checked:
            out = decompressor.decompress(_exactly(stream, 4))
            if out:
                yield out
    except zstandard.ZstdError as error:
        raise Broken(f"the zstd stream is damaged: {error}") from error


def _exactly(stream: Stream, size: int) -> bytes:
    data = stream.take(size)
    if len(data) < size:
        raise Broken("the zstd stream is cut off")
    return data
