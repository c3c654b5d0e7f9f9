"""A tar archive read as a stream: one member after the other, every byte of it accounted for.

Memory is bounded: headers that carry names are limited, data passes in pieces. The reader keeps the raw bytes that
are not the data of files, from which tar-split restores the archive. Standard library only.
"""

from __future__ import annotations

from supervisor.archive import members
from supervisor.archive.failures import Broken, quoted
from supervisor.archive.members import BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.archive.members import Member

__all__ = ["HEADER_LIMIT", "MEMBER_LIMIT", "Stream", "TarReader"]

HEADER_LIMIT = 1 << 20
"""Bytes of one header that extends another: names, PAX records, as Go's reader has it."""
MEMBER_LIMIT = 5_000_000
"""Members of one archive."""
_EXTENDING = 8
"""Headers in a row that extend the next one."""
_SPARSE_LIMIT = 1 << 20
"""Bytes of the map of a sparse file."""
_NOTHING = bytes(BLOCK)


class Stream:
    """Pieces of bytes of any length, taken in the lengths that are wanted."""

    __slots__ = ("_at", "_chunk", "_chunks")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """So many bytes; fewer only at the end. For small sizes."""
        start = self._at
        end = start + size
        if end <= len(self._chunk):
            self._at = end
            return self._chunk[start:end]
        parts = [self._chunk[start:]]
        missing = size - len(parts[0])
        self._chunk, self._at = b"", 0
        while missing > 0 and (chunk := next(self._chunks, b"")):
            parts.append(chunk[:missing])
            if len(chunk) > missing:
                self._chunk, self._at = chunk, missing
            missing -= len(parts[-1])
        return b"".join(parts)

    def some(self, limit: int) -> bytes | memoryview:
        """What is there without copying it, at most `limit` bytes; nothing only at the end."""
        if self._at >= len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
        start = self._at
        self._at = min(start + limit, len(self._chunk))
        if not start and self._at == len(self._chunk):
            return self._chunk
        return memoryview(self._chunk)[start : self._at]


class TarReader:
    """`next` gives a member, whose `member.size` bytes of data are taken from `stream` before the next one."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.raw: list[bytes] = []
        """Header blocks and padding since they were last taken away."""
        self.count = 0
        self._padding = 0

    def next(self) -> Member | None:
        """None: the end. Broken: it is damaged, or a limit is exceeded."""
        self.count += 1
        if self.count > MEMBER_LIMIT:
            raise Broken(f"it has more than {MEMBER_LIMIT} members")
        stream = self.stream
        # With the padding of what came before, for which one step is enough.
        taken = stream.take(self._padding + BLOCK)
        if taken:
            self.raw.append(taken)
        block = taken[self._padding :] if self._padding else taken
        if self._padding and len(taken) < self._padding:
            raise Broken("it ends in the middle of a member")
        self._padding = 0
        if not block:
            return None
        if len(block) < BLOCK:
            raise Broken("it ends in the middle of a header")
        if not block[0] and block == _NOTHING:
            self._end()
            return None
        member = self._extended(block) if block[156] in b"xXLKg" else members.basic(block)
        if member.kind == members.SPARSE:
            self._old_sparse(member, block)
        members.finish(member)
        if member.sparse_in_data and member.sparse is not None:
            self._padding = members.padding(member.size)
            self._sparse_map(member)
        else:
            self._padding = members.padding(member.size)
        return member

    def _end(self) -> None:
        second = self.stream.take(BLOCK)
        if second:
            self.raw.append(second)
        if second and second != _NOTHING:
            raise Broken("a header is empty")

    def _block(self) -> bytes:
        block = self.stream.take(BLOCK)
        if len(block) < BLOCK:
            raise Broken("it ends in the middle of a header")
        self.raw.append(block)
        return block

    def _data(self, size: int, what: str) -> bytes:
        if not 0 <= size <= HEADER_LIMIT:
            raise Broken(f"{what} has {size} bytes, more than {HEADER_LIMIT}")
        data = self.stream.take(size + members.padding(size))
        if len(data) < size:
            raise Broken("it ends in the middle of a header")
        self.raw.append(data)
        return data[:size]

    def _extended(self, block: bytes) -> Member:
        """A member whose header others precede."""
        records: dict[bytes, bytes] = {}
        name = link = b""
        for _ in range(_EXTENDING):
            kind = block[156]
            if kind in (members.PAX, members.PAX_SOLARIS):
                size = members.extension_size(block)
                records = members.pax_records(self._data(size, "a PAX header"))
            elif kind == members.LONG_NAME:
                name = self._data(members.extension_size(block), "a long name").partition(b"\0")[0]
            elif kind == members.LONG_LINK:
                link = self._data(members.extension_size(block), "a long link").partition(b"\0")[0]
            else:
                header = members.basic(block)
                if kind == members.GLOBAL:
                    self._data(header.size, "a PAX header")
                    header.size = 0
                    return header
                members.merge(header, records)
                header.name = name or header.name
                header.link = link or header.link
                if kind == 0 and header.name.endswith(b"/"):
                    header.kind = members.DIRECTORY
                return header
            block = self._block()
        raise Broken("too many headers extend one member")

    def _old_sparse(self, member: Member, block: bytes) -> None:
        """The map of GNU's old format, in the header and in blocks after it."""
        pieces: list[tuple[int, int]] = []
        member.real_size = members.number(block[483:495])
        fields, more = block[386:482], block[482]
        while True:
            for at in range(0, len(fields) - 23, 24):
                if not fields[at] and not fields[at + 12]:
                    break
                piece = members.number(fields[at : at + 12]), members.number(fields[at + 12 : at + 24])
                pieces.append(piece)
            if not more:
                break
            if len(pieces) * 24 > _SPARSE_LIMIT:
                raise Broken(f"the map of the sparse file {quoted(member.name)} is too long")
            following = self._block()
            fields, more = following[:504], following[504]
        member.kind = members.REGULAR
        member.sparse = pieces

    def _sparse_map(self, member: Member) -> None:
        """The map of GNU.sparse 1.0: lines of numbers in blocks in front of the data."""
        text = bytearray()
        ended, wanted = 0, 1
        while ended < wanted:
            if len(text) >= _SPARSE_LIMIT or len(text) + BLOCK > member.size:
                raise Broken(f"the map of the sparse file {quoted(member.name)} is too long")
            block = self._block()
            text += block
            if not ended and b"\n" in block:
                count = text.partition(b"\n")[0]
                if not count.isdigit() or len(count) > 8:
                    raise Broken(f"the map of the sparse file {quoted(member.name)} is damaged")
                wanted = 1 + 2 * int(count)
            ended += block.count(b"\n")
        lines = bytes(text).split(b"\n")
        if not all(line.isdigit() and len(line) < 20 for line in lines[1:wanted]):
            raise Broken(f"the map of the sparse file {quoted(member.name)} is damaged")
        numbers = [int(line) for line in lines[1:wanted]]
        member.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
        member.size -= len(text)
        members.check_sparse(member, member.size)
