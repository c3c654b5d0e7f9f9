"""The other way round: what an archive consists of, read from its tar-split file (see `tarsplit`).

Standard library and isal only. What it needs is imported before a program gives up the file system.
"""

from __future__ import annotations

import binascii
import json

from supervisor.archive import decompression
from supervisor.archive.failures import Broken
from supervisor.archive.reading import HEADER_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Data", "read"]

decompression.prepare("gzip")

_LINE_LIMIT = 4 * HEADER_LIMIT
"""Bytes of one line: raw bytes come in pieces of a header's limit or less, in base 64."""
_FILE, _RAW = 1, 2
_CRC_SIZE = 8


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
    for chunk in decompression.decompressed("gzip", chunks):
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
        payload = binascii.a2b_base64(entry.get("payload") or "", strict_mode=True)
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
