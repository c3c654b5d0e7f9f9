"""Further places that events go to. The journal in the state database is the truth; a sink is a copy.

`file` is Podman's log of events, one JSON object a line, which Podman itself can read, with three fields
more: `Seq`, `Journal`, `Actor`. The file is its own record of how far it got: on start the last line that
belongs to this journal says where to go on, and a line that was cut off is taken away. So every event is
in the file exactly once, also after `kill -9` or a full disk. Two cases are "at least once": a file that
somebody deleted is written anew from the oldest event there is, and one that was put back to an older
copy gets what that copy lacked. Where the journal has a gap the file just goes on behind it.

`none` is no sink. `journald` has a module of its own.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.api.event import Actor, Event
from pyman.errors import PymanError
from supervisor.events.journald import JournaldSink
from supervisor.logging import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.events.journal import Journal
    from supervisor.settings.model import EngineSettings
    from supervisor.state.database import Database

__all__ = ["FileSink", "sink_of"]

BLOCK = 65536
"""Bytes read at a time when looking for the last line."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Podman leaves out what is empty, except the attributes."""

    container_exit_code: int = 0
    health_status: str = msgspec.field(name="health_status", default="")
    health_log: str = msgspec.field(name="health_log", default="")
    health_failing_streak: int = msgspec.field(name="health_failing_streak", default=0)
    id: str = msgspec.field(name="ID", default="")
    image: str = ""
    name: str = ""
    status: str
    time: str
    type: str
    attributes: dict[str, str] | None
    seq: int
    journal: str
    actor: Actor | None = None


class _Position(msgspec.Struct, frozen=True, rename="pascal"):
    seq: int
    journal: str


_encode = msgspec.json.Encoder().encode
_decode_position = msgspec.json.Decoder(_Position).decode


def sink_of(
    settings: EngineSettings, default_path: str, database: Database
) -> FileSink | JournaldSink | None:
    """The sink that `events_logger` asks for."""
    if settings.events_logger == "journald":
        return JournaldSink(database)
    if settings.events_logger != "file":
        return None
    return FileSink(settings.events_logfile_path or default_path, settings.events_logfile_max_size)


class FileSink:
    """A log of events at `path`. When it would grow beyond `max_size` bytes (0: any size) only its newer
    half is kept."""

    def __init__(self, path: str, max_size: int) -> None:
        self.path = path
        self.max_size = max_size
        self._fd = -1
        self._position = 0
        self._complaint = ""
        self._limiter = trio.CapacityLimiter(1)

    async def run(self, journal: Journal) -> None:
        """Write every event, until cancelled or until the journal is closed and all of it is written. What
        cannot be written is logged and tried again with the next event."""
        known = False
        try:
            while True:
                try:
                    if not known:
                        await self._in_thread(partial(self._find_position, journal.id))
                        known = True
                    await self._copy(journal)
                    return
                except (OSError, PymanError) as error:
                    self._complain(str(error))
                if not await journal.cursor().next():
                    return
        finally:
            self._close()

    async def _copy(self, journal: Journal) -> None:
        cursor = journal.cursor(since_seq=self._position, journal=journal.id)
        while items := await cursor.next():
            events = [item for item in items if isinstance(item, Event)]
            if events:
                await self._in_thread(partial(self._append, events, journal.id))
                self._complaint = ""

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("cannot write the log of events; it is tried again", path=self.path, error=text)

    # In the thread

    def _open(self) -> None:
        """The file that is at the path now: somebody may have moved it away or deleted it."""
        if self._fd >= 0 and not self._is_at_path():
            self._close()
        if self._fd < 0:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self.path, flags, 0o600)

    def _is_at_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _find_position(self, journal: str) -> None:
        self._open()
        whole = _end_of_last_line(self._fd)
        if whole < os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, whole)
        for line in _lines_backwards(self._fd):
            try:
                position = _decode_position(line)
            except msgspec.DecodeError:
                continue
            if position.journal == journal:
                self._position = position.seq
                return

    def _append(self, events: Sequence[Event], journal: str) -> None:
        self._open()
        data = b"".join(_line_of(event, journal) for event in events)
        size = os.fstat(self._fd).st_size
        if self.max_size and size and size + len(data) > self.max_size:
            self._rotate(data)
        else:
            written = os.write(self._fd, data)
            if written != len(data):
                # No space: half a line helps nobody, and the whole is written again later.
                os.ftruncate(self._fd, size)
                raise OSError(f"cannot write '{self.path}': the disk is full")
        self._position = events[-1].seq

    def _rotate(self, data: bytes) -> None:
        """The newer half of the file and `data`, in one step."""
        kept: list[bytes] = []
        room = self.max_size // 2
        for line in _lines_backwards(self._fd):
            room -= len(line) + 1
            if room < 0:
                break
            kept.append(line + b"\n")
        temporary = f"{self.path}.new"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, 0o600)
        try:
            whole = b"".join(reversed(kept)) + data
            if os.write(fd, whole) != len(whole):
                raise OSError(f"cannot write '{temporary}': the disk is full")
            os.rename(temporary, self.path)
        except BaseException:
            os.close(fd)
            os.unlink(temporary)
            raise
        self._close()
        self._fd = fd


def _line_of(event: Event, journal: str) -> bytes:
    code = event.attributes.get("containerExitCode", "0")
    health = event.attributes if event.status == "health_status" else {}
    streak = health.get("health_failing_streak", "0")
    line = _Line(
        health_status=health.get("health_status", ""),
        health_log=health.get("health_log", ""),
        health_failing_streak=int(streak) if streak.isdecimal() else 0,
        status=event.status,
        time=event.time,
        type=event.type,
        attributes=event.attributes or None,
        seq=event.seq,
        journal=journal,
        id=event.id,
        image=event.image,
        name=event.name,
        container_exit_code=int(code) if code.isdecimal() else 0,
        actor=event.actor,
    )
    return _encode(line) + b"\n"


def _end_of_last_line(fd: int) -> int:
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - BLOCK)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _lines_backwards(fd: int) -> Iterator[bytes]:
    """The lines of a file, the last one first, without their ends. What follows the last end is no line."""
    end = _end_of_last_line(fd)
    rest = b""
    while end > 0:
        start = max(0, end - BLOCK)
        first, *lines = (os.pread(fd, end - start, start) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        rest, end = first, start
    if rest:
        yield rest
