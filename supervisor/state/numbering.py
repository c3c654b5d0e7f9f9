"""The numbers of events: no number is ever given twice, whatever happens to the process or the machine.

Most transactions are not synchronised with the disk: they outlive the process, but the last of them do
not outlive a power cut, and their numbers have been told to subscribers. So numbers are reserved in
blocks by a transaction that is synchronised. On opening:

- same boot id, or a clean end before: numbering goes on with the next number;
- another boot id and no clean end: events may be lost. Numbering goes on behind the reserved block, and
  the numbers in between are recorded as a gap, that every cursor which passes over it is told.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["BLOCK", "POWER_CUT", "Numbering"]

BLOCK = 4096
"""Numbers reserved at a time: the most that a power cut skips."""

POWER_CUT = "power-cut"


class Numbering:
    """The writer's view of the journal's row. Methods that write do so in the caller's transaction.

    `last` is the last number given; `restore` takes numbers back whose transaction failed.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.journal_id = ""
        self.unclean = False
        """Whether the last owner of the database did not close it."""
        self.last = 0
        self.total = 0
        """Bytes of all events ever: the `total` of the last one."""
        self._reserved = 0

    def open(self, boot_id: str) -> None:
        """Settle what the last owner left; to be committed with FULL."""
        row = self._connection.execute("SELECT id, boot_id, reserved, clean FROM journal").fetchone()
        if row is None:
            self.journal_id = uuid.uuid4().hex
            self._reserved = BLOCK
            self._connection.execute(
                "INSERT INTO journal VALUES(1, ?, ?, ?, 0, 0, 0, 0)", (self.journal_id, boot_id, BLOCK)
            )
            return
        self.journal_id, before, self._reserved, clean = row
        self.unclean = not clean
        self._read_last()
        if self.unclean and before != boot_id and self._reserved > self.last:
            self._connection.execute(
                "INSERT INTO gap VALUES(?, ?, ?)", (self.last + 1, self._reserved, POWER_CUT)
            )
            self.last = self._reserved
        if self._reserved - self.last < BLOCK // 2:
            self._reserved = self.last + BLOCK
        self._connection.execute(
            "UPDATE journal SET boot_id = ?, reserved = ?, clean = 0", (boot_id, self._reserved)
        )

    def close(self) -> None:
        """Mark a clean end; to be committed with FULL, as the last transaction."""
        self._connection.execute("UPDATE journal SET clean = 1")

    def exhausted_by(self, count: int) -> bool:
        """Whether `count` more numbers need another block: that transaction must be FULL."""
        return self.last + count > self._reserved

    def reserve(self, count: int) -> None:
        """Another block, large enough for `count` more numbers."""
        self._reserved = self.last + count + BLOCK
        self._connection.execute("UPDATE journal SET reserved = ?", (self._reserved,))

    def mark(self) -> tuple[int, int, int]:
        return self.last, self.total, self._reserved

    def restore(self, mark: tuple[int, int, int]) -> None:
        """Take back the numbers given since `mark`: their transaction was rolled back."""
        self.last, self.total, self._reserved = mark

    def _read_last(self) -> None:
        row = self._connection.execute(
            "SELECT pruned, pruned_total, coalesce((SELECT max(last) FROM gap), 0) FROM journal"
        ).fetchone()
        pruned, pruned_total, gap = row
        event = self._connection.execute("SELECT seq, total FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        seq, self.total = event or (0, pruned_total)
        self.last = max(seq, pruned, gap)
