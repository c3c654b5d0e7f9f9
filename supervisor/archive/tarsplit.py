"""tar-split: what an archive is besides the data of its files, so that it can be put together again, byte for byte.

A gzip file of JSON lines, as containers/storage keeps beside every layer. A line of type 2 holds raw bytes
(headers, padding), one of type 1 stands for the data of a file: its name, size and CRC-64 (ISO 3309, big-endian).
Standard library, isal and fastcrc only.
"""

from __future__ import annotations

import binascii
import os
from _json import encode_basestring_ascii

from fastcrc import crc64
from isal import isal_zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Writer", "checksum"]

_PIECE = 1 << 16
_RAW_PIECE = 1 << 20
"""Bytes of one raw line."""
_LEVEL = 1
"""Of isal's four: 2 and 3 save a tenth and take half as long again; 0 is no faster."""

checksum = crc64.go_iso
"""Of bytes, optionally going on from an earlier one."""


class Writer:
    """Of one file, through a descriptor that stays the caller's."""

    __slots__ = ("_compressor", "_fd", "_lines", "_position", "_size")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, 31)
        self._lines: list[bytes] = []
        self._size = 0
        self._position = 0

    def raw(self, pieces: Iterable[bytes | memoryview]) -> None:
        data = b"".join(pieces)
        for start in range(0, len(data), _RAW_PIECE):
            text = binascii.b2a_base64(data[start : start + _RAW_PIECE], newline=False)
            self._line(b'{"type":2,"payload":"%s","position":%d}\n' % (text, self._position))

    def keep(self, data: bytes | memoryview) -> None:
        """Data that no file has as they are."""
        self.raw((data,))

    def file(self, name: bytes, size: int, crc: int) -> None:
        """A member, whether it has data or not."""
        try:
            key = b'"name":%s' % encode_basestring_ascii(name.decode()).encode()
        except UnicodeDecodeError:
            key = b'"name_raw":"%s"' % binascii.b2a_base64(name, newline=False)
        if size:
            payload = binascii.b2a_base64(crc.to_bytes(8, "big"), newline=False)
            line = b'{"type":1,%s,"size":%d,"payload":"%s","position":%d}\n'
            self._line(line % (key, size, payload, self._position))
        else:
            self._line(b'{"type":1,%s,"payload":null,"position":%d}\n' % (key, self._position))

    def _line(self, line: bytes) -> None:
        self._position += 1
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _PIECE:
            self._write(self._compressor.compress(b"".join(self._lines)))
            self._lines.clear()
            self._size = 0

    def finish(self) -> None:
        self._write(self._compressor.compress(b"".join(self._lines)) + self._compressor.flush())

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
