"""Headers of a tar archive that is written here: ustar, with PAX records for what does not fit. Standard library only."""

from __future__ import annotations

from supervisor.archive.members import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    HARD_LINK,
    PAX,
    SYMLINK,
    Member,
    padding,
)

__all__ = ["END", "header"]

END = bytes(2 * BLOCK)
_SECOND = 1_000_000_000
_LARGEST_ID = 0o7777777
_LARGEST = 0o77777777777
_NAME, _PREFIX, _LINK = 100, 155, 100


def header(member: Member) -> bytes:
    """All that stands in front of its data. Its time is given in whole seconds, as other engines' layers have it."""
    records: list[tuple[bytes, bytes]] = []
    name = member.name
    if member.kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    prefix, short = _split(name)
    if short is None:
        records.append((b"path", name))
        prefix, short = b"", name[:_NAME]
    link = member.link if member.kind in (HARD_LINK, SYMLINK) else b""
    if len(link) > _LINK:
        records.append((b"linkpath", link))
    uid, gid = (
        _fitting(records, key, getattr(member, key.decode()), _LARGEST_ID) for key in (b"uid", b"gid")
    )
    size = _fitting(records, b"size", member.size, _LARGEST)
    mtime = _fitting(records, b"mtime", member.mtime // _SECOND, _LARGEST)
    records += [(b"SCHILY.xattr." + key, value) for key, value in member.xattrs or ()]
    block = _block(short, prefix, link[:_LINK], (member.mode & 0o7777, uid, gid, size, mtime), member)
    return _pax(records, short) + block if records else block


def _fitting(records: list[tuple[bytes, bytes]], key: bytes, value: int, largest: int) -> int:
    """What the header's field says; what it cannot goes into a record."""
    if 0 <= value <= largest:
        return value
    records.append((key, b"%d" % value))
    return 0


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name; no name: it does not fit."""
    if len(name) <= _NAME:
        return b"", name
    if len(name) <= _PREFIX + 1 + _NAME:
        at = name.find(b"/", len(name) - _NAME - 1, min(_PREFIX + 1, len(name) - 1))
        if at > 0:
            return name[:at], name[at + 1 :]
    return b"", None


def _pax(records: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    data = b"".join(_record(key, value) for key, value in sorted(records))
    extension = Member()
    extension.kind = PAX
    place = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2]
    block = _block(place[:_NAME], b"", b"", (0o644, 0, 0, len(data), 0), extension)
    return block + data + bytes(padding(len(data)))


def _record(key: bytes, value: bytes) -> bytes:
    """With its own length in front, that length included."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _block(
    name: bytes, prefix: bytes, link: bytes, numbers: tuple[int, int, int, int, int], member: Member
) -> bytes:
    mode, uid, gid, size, mtime = numbers
    device = member.kind in (CHARACTER_DEVICE, BLOCK_DEVICE)
    parts = (
        name.ljust(_NAME, b"\0"),
        b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
        b"        ",
        bytes((member.kind,)),
        link.ljust(_LINK, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0%07o\0" % ((member.major, member.minor) if device else (0, 0)),
        prefix.ljust(_PREFIX, b"\0"),
    )
    block = b"".join(parts).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
