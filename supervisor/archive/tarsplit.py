"""tar-split: what an archive is besides the data of its files, so that it can be put together again, byte for byte.

A gzip file of JSON lines, as containers/storage keeps beside every layer. A line of type 2 holds raw bytes
(headers, padding), one of type 1 stands for the data of a file: its name, size and CRC-64 (ISO 3309, big-endian).
Standard library, isal and fastcrc only.
"""

from __future__ import annotations

import binascii
import json
import os
from json.encoder import encode_basestring_ascii

from fastcrc import crc64
from isal import isal_zlib

from supervisor.archive.decompression import decompressed
from supervisor.archive.failures import Broken
from supervisor.archive.reading import HEADER_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["Data", "Writer", "checksum", "read"]

_PIECE = 1 << 16
_RAW_PIECE = 1 << 20
"""Bytes of one raw line."""
_LEVEL = 1
"""Of isal's four: 2 and 3 save a tenth and take half as long again; 0 is no faster."""

_LINE_LIMIT = 4 * HEADER_LIMIT
"""Bytes of one line: raw bytes come in pieces of a header's limit or less, in base 64."""
_FILE, _RAW = 1, 2
_CRC_SIZE = 8

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


class Data:
    """The place of a file's data in the archive."""

    __slots__ = ("crc", "name", "size")

    def __init__(self, name: bytes, size: int, crc: int) -> None:
        self.name = name
        self.size = size
        self.crc = crc


def read(chunks: Iterator[bytes]) -> Iterator[bytes | Data]:
    """What the archive consists of, in order; members without data are left out. Broken: it is no such file."""
    rest = b""
    for chunk in decompressed("gzip", chunks):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if (part := _part(line)) is not None:
                yield part
        if len(rest) > _LINE_LIMIT:
            raise Broken("a line of its tar-split file is too long")
    if rest and (part := _part(rest)) is not None:
        yield part


def _part(line: bytes) -> bytes | Data | None:
    if not line.strip():
        return None
    try:
        entry: dict[str, Any] = json.loads(line)
        payload = binascii.a2b_base64(entry.get("payload") or "")
        if entry["type"] == _RAW:
            return payload
        size = entry.get("size", 0)
        if entry["type"] != _FILE or not isinstance(size, int) or (size and len(payload) != _CRC_SIZE):
            raise ValueError("no such line is known")
        raw = entry.get("name_raw")
        name = binascii.a2b_base64(raw) if raw else entry.get("name", "").encode()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Broken("its tar-split file is damaged") from error
    return Data(name, size, int.from_bytes(payload, "big")) if size > 0 else None
