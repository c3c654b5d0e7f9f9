"""The members of a tar archive as their headers describe them: ustar, GNU and PAX.

Where formats and programs differ, it is read as Go's archive/tar reads it, which is what other engines unpack the
same layers with: a layer has to be the same tree everywhere. Standard library only; nothing here reads a file.
"""

from __future__ import annotations

import os
import zlib

from supervisor.archive.failures import Broken, quoted

__all__ = [
    "BLOCK",
    "BLOCK_DEVICE",
    "CHARACTER_DEVICE",
    "DIRECTORY",
    "FIFO",
    "GLOBAL",
    "HARD_LINK",
    "LONG_LINK",
    "LONG_NAME",
    "PAX",
    "REGULAR",
    "SPARSE",
    "SYMLINK",
    "Member",
    "basic",
    "check_sparse",
    "cleaned",
    "extension_size",
    "finish",
    "merge",
    "number",
    "pax_records",
    "padding",
]

BLOCK = 512
REGULAR, HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"
PAX, PAX_SOLARIS, GLOBAL, LONG_NAME, LONG_LINK, SPARSE = b"xXgLKS"
_CONTIGUOUS, _OLD_REGULAR = b"7\0"
_WITHOUT_DATA = frozenset(b"123456")
_KNOWN = frozenset(b"0123456gS")

_LIMIT = 1 << 63
_SECOND = 1_000_000_000
_CHECKSUM = slice(148, 156)
_ADLER = 65521
_XATTR = b"SCHILY.xattr."
_SEEN = 1000
_seen: dict[bytes, tuple[int, int, int]] = {}
_NUMBERS = (b"size", b"uid", b"gid")


class Member:
    """One member. `size`: bytes of data that follow in the archive. Times in nanoseconds since the epoch."""

    __slots__ = (
        "access_time",
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "real_size",
        "size",
        "sparse",
        "sparse_in_data",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = self.link = b""
        self.kind = REGULAR
        self.mode = self.uid = self.gid = self.size = self.mtime = 0
        self.access_time = -1
        self.major = self.minor = 0
        self.real_size = -1
        """Of a sparse file: how long it is."""
        self.sparse: list[tuple[int, int]] | None = None
        """Of a sparse file: offset and length of each piece that has data, in ascending order."""
        self.sparse_in_data = False
        """The map comes before the data (GNU.sparse 1.0)."""
        self.xattrs: list[tuple[bytes, bytes]] | None = None


def padding(size: int) -> int:
    """Bytes from the end of so much data to the next block."""
    return -size % BLOCK


def cleaned(name: bytes) -> bytes:
    """Without `.`, empty parts, and `..` where something stands before it; a leading slash stays."""
    if b"//" not in name and b"./" not in name and b"/." not in name and name[-1:] not in (b"/", b".", b""):
        return name
    return (
        os.path.normpath(name) if not name.startswith(b"//") else os.path.normpath(b"/" + name.lstrip(b"/"))
    )


def number(field: bytes) -> int:
    """A number in a header: octal text, or binary (base 256). Broken: it is neither, or too large."""
    digits = field[:-1]
    if digits.isdigit() and not field[-1]:  # as nearly all of them are
        try:
            return int(digits, 8)
        except ValueError:
            raise Broken("a number in it is not octal") from None
    if field and field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if not -_LIMIT <= value < _LIMIT:
            raise Broken("a number in it is too large")
        return value
    text = field.strip(b" \0")
    if b"\0" in text:
        text = text[: text.index(b"\0")]
    if not text:
        return 0
    if text.translate(None, b"01234567"):
        raise Broken("a number in it is not octal")
    return int(text, 8)


def _text(field: bytes) -> bytes:
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def _verify(block: bytes) -> None:
    try:
        stated = number(block[_CHECKSUM])
    except Broken:
        stated = -1
    # The lower half of Adler-32 is the sum of all bytes plus one; in C, once, and ten times as fast as sum().
    plain = zlib.adler32(block[:148] + b"        " + block[156:]) & 0xFFFF
    if (stated + 1) % _ADLER == plain and 0 <= stated < 1 << 17:
        return
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b"        " + block[156:])
    if stated != signed:
        raise Broken("the checksum of a header is wrong, or it is no tar archive")


def basic(block: bytes) -> Member:
    """What one header block says. Broken."""
    _verify(block)
    member = Member()
    member.name = _text(block[:100])
    member.mode, member.uid, member.gid = _mode_and_owner(block[100:124])
    member.size = number(block[124:136])
    member.mtime = number(block[136:148]) * _SECOND
    kind = block[156]
    link = block[157:257]
    if link[0]:
        member.link = _text(link)
    magic = block[257:265]
    if magic == b"ustar\x0000":
        prefix = _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    elif magic == b"ustar  \0":
        prefix = _misplaced_prefix(block)
    else:
        prefix = b""
    if prefix:
        member.name = prefix + b"/" + member.name
    if kind in (CHARACTER_DEVICE, BLOCK_DEVICE):
        member.major = number(block[329:337])
        member.minor = number(block[337:345])
    if kind in (_OLD_REGULAR, _CONTIGUOUS):
        kind = DIRECTORY if kind == _OLD_REGULAR and member.name.endswith(b"/") else REGULAR
    member.kind = kind
    return member


def extension_size(block: bytes) -> int:
    """Of a header that extends the next one, nothing else counts. Broken."""
    _verify(block)
    return number(block[124:136])


def _mode_and_owner(fields: bytes) -> tuple[int, int, int]:
    """Most members of a layer share theirs with others."""
    found = _seen.get(fields)
    if found is None:
        if len(_seen) >= _SEEN:
            _seen.clear()
        found = _seen[fields] = number(fields[:8]), number(fields[8:16]), number(fields[16:])
    return found


def _misplaced_prefix(block: bytes) -> bytes:
    """A GNU header has no prefix but times there; Go's writer once put one there nevertheless."""
    if not block[345]:
        return b""
    try:
        number(block[345:357])
        number(block[357:369])
    except Broken:
        prefix = _text(block[345:500])
        return prefix if prefix.isascii() else b""
    return b""


def pax_records(data: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header. Of GNU.sparse 0.0, which repeats two keys, they become one `GNU.sparse.map`."""
    records: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space]
        if space < 0 or not length.isdigit():
            raise Broken("a PAX record has no length")
        end = at + int(length)
        equals = data.find(b"=", space + 1, end)
        if end > len(data) or equals < 0 or data[end - 1 : end] != b"\n" or end <= equals + 1:
            raise Broken("a PAX record is cut off")
        key, value = data[space + 1 : equals], data[equals + 1 : end - 1]
        if not key or b"\0" in key or (b"\0" in value and not key.startswith((_XATTR, b"LIBARCHIVE."))):
            raise Broken(f"the PAX record {quoted(key)} has a NUL byte")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pieces.append(value)
        else:
            records[key] = value
        at = end
    if pieces:
        records[b"GNU.sparse.map"] = b",".join(pieces)
    return records


def merge(member: Member, records: dict[bytes, bytes]) -> None:
    """Let PAX records have precedence over what the header says. Broken."""
    for key, value in records.items():
        if not value and not key.startswith(_XATTR):
            continue  # the header's own counts
        if key == b"path":
            member.name = value
        elif key == b"linkpath":
            member.link = value
        elif key in _NUMBERS:
            setattr(member, key.decode(), _decimal(key, value))
        elif key == b"mtime":
            member.mtime = _time(key, value)
        elif key == b"atime":
            member.access_time = _time(key, value)
        elif key.startswith(_XATTR):
            if member.xattrs is None:
                member.xattrs = []
            member.xattrs.append((key[len(_XATTR) :], value))
    if b"GNU.sparse.major" in records or b"GNU.sparse.map" in records:
        _merge_sparse(member, records)


def _merge_sparse(member: Member, records: dict[bytes, bytes]) -> None:
    version = records.get(b"GNU.sparse.major", b"0"), records.get(b"GNU.sparse.minor", b"0")
    if version not in ((b"0", b"0"), (b"0", b"1"), (b"1", b"0")):
        return
    member.name = records.get(b"GNU.sparse.name") or member.name
    size = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size")
    if size is not None:
        member.real_size = _decimal(b"GNU.sparse.size", size)
    else:
        member.real_size = member.size
    if version == (b"1", b"0"):
        member.sparse = []
        member.sparse_in_data = True
        return
    words = [word for word in records.get(b"GNU.sparse.map", b"").split(b",") if word]
    if len(words) % 2 or (words and records.get(b"GNU.sparse.numblocks", b"") != b"%d" % (len(words) // 2)):
        raise Broken(f"the map of the sparse file {quoted(member.name)} is not whole")
    numbers = [_decimal(b"GNU.sparse.map", word) for word in words]
    member.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))


def finish(member: Member) -> None:
    """Refuse what no member can be. Broken."""
    if member.kind not in _KNOWN:
        raise Broken(f"{quoted(member.name)} is of the unknown type {quoted(bytes([member.kind & 0xFF]))}")
    if member.size < 0:
        raise Broken(f"the size of {quoted(member.name)} is negative")
    if member.kind in _WITHOUT_DATA:
        member.size = 0
        member.sparse = None
    if member.sparse is not None and not member.sparse_in_data:
        check_sparse(member, member.size)


def check_sparse(member: Member, size: int) -> None:
    """The pieces of a sparse file have to lie in it, in order, and be as long as the data. Broken."""
    end = 0
    total = 0
    for offset, length in member.sparse or ():
        if offset < end or length < 0:
            raise Broken(f"the map of the sparse file {quoted(member.name)} is not in order")
        end = offset + length
        total += length
    if end > member.real_size or total > size or member.real_size < 0:
        raise Broken(f"the map of the sparse file {quoted(member.name)} does not fit its data")


def _decimal(key: bytes, value: bytes) -> int:
    digits = value[1:] if value[:1] == b"-" else value
    if not digits.isdigit() or len(digits) > 19 or int(digits) >= _LIMIT:
        raise Broken(f"the PAX record {quoted(key)} is no number")
    return int(value)


def _time(key: bytes, value: bytes) -> int:
    whole, _, fraction = value.partition(b".")
    if fraction and not fraction.isdigit():
        raise Broken(f"the PAX record {quoted(key)} is no time")
    nanoseconds = int((fraction + b"000000000")[:9])
    if whole[:1] == b"-":
        nanoseconds = -nanoseconds
    return _decimal(key, whole) * _SECOND + nanoseconds
