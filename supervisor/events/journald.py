"""The sink `journald`: every event as an entry of the system's journal, with the fields that Podman writes.

`podman events` reads them, and `journalctl SYSLOG_IDENTIFIER=podman`. Four fields are more: `PYMAN_SEQ`,
`PYMAN_JOURNAL`, `PYMAN_ACTOR_UID` and `PYMAN_ACTOR_PID`. How far it has got is in the state database, since a user may
not read all that journald keeps: an entry can be there twice after `kill -9` between the two, and its sequence number
tells. The first time it begins with what comes from then on, because entries have the time at which they are written.

journald's own protocol is one datagram an entry, or a sealed file in memory where an entry is too large for one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.api.event import Event
from pyman.errors import PymanError
from supervisor.logging import log
from supervisor.settings.load import JOURNALD
from supervisor.state.changes import PutMeta

if TYPE_CHECKING:
    import sqlite3

    from supervisor.events.journal import Journal
    from supervisor.state.database import Database

__all__ = ["JournaldSink"]

_META = "journald"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_NOTICE, _INFO = "5", "6"


class JournaldSink:
    """`database`: keeps how far it has got. `path`: of journald's socket."""

    def __init__(self, database: Database, path: str = JOURNALD) -> None:
        self.path = path
        self._database = database
        self._socket: socket.socket | None = None
        self._complaint = ""

    async def run(self, journal: Journal) -> None:
        """Send every event, until cancelled or until the journal is closed and all of it is sent. What cannot be sent
        is logged and tried again with the next event."""
        position = await self._position(journal)
        try:
            while True:
                cursor = journal.cursor(since_seq=position, journal=journal.id)
                try:
                    while items := await cursor.next():
                        for event in (item for item in items if isinstance(item, Event)):
                            await self._send(_entry(event, journal.id))
                            position = event.seq
                        self._complaint = ""
                        await self._database.commit([PutMeta(_META, f"{journal.id} {position}")])
                    return
                except (OSError, PymanError) as error:
                    self._complain(str(error))
                self._close()
                if not await journal.cursor().next():
                    return
        finally:
            self._close()

    async def _position(self, journal: Journal) -> int:
        def stored(connection: sqlite3.Connection) -> str:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (_META,)).fetchone()
            return row[0] if row else ""

        id, _, number = (await self._database.read(stored)).partition(" ")
        return int(number) if id == journal.id and number.isdecimal() else journal.last_seq

    async def _send(self, entry: bytes) -> None:
        """OSError: journald does not take it, or is not there."""
        out = self._opened()
        while True:
            try:
                out.send(entry)
                return
            except BlockingIOError:
                await trio.lowlevel.wait_writable(out)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                break
        sealed = _sealed(entry)
        try:
            await trio.lowlevel.wait_writable(out)
            socket.send_fds(out, [b""], [sealed])
        finally:
            os.close(sealed)

    def _opened(self) -> socket.socket:
        if self._socket is None:
            made = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )
            try:
                made.connect(self.path)
            except OSError:
                made.close()
                raise
            self._socket = made
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("cannot write events to journald; it is tried again", path=self.path, error=text)


def _sealed(entry: bytes) -> int:
    """The descriptor of a file in memory that nobody changes any more."""
    fd = os.memfd_create("event", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(entry)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _entry(event: Event, journal: str) -> bytes:
    """In journald's form. Podman's fields depend on the type of what an event is about."""
    attributes = dict(event.attributes)
    code = attributes.pop("containerExitCode", "")
    network = attributes.pop("network", "") if event.type == "network" else ""
    told = [attributes.pop(name, "") for name in _HEALTH] if event.status == "health_status" else []
    health = dict(zip(_HEALTH.values(), told, strict=False))
    fields = {
        "MESSAGE": _sentence(event),
        "PRIORITY": _NOTICE if event.status == "health_status" else _INFO,
        "SYSLOG_IDENTIFIER": "podman",
        "PODMAN_EVENT": event.status,
        "PODMAN_TYPE": event.type,
        "PODMAN_TIME": event.time,
        "PODMAN_ID": event.id,
        "PODMAN_NETWORK_NAME" if event.type == "network" else "PODMAN_NAME": network or event.name,
        "PODMAN_IMAGE": event.image,
        "PODMAN_EXIT_CODE": code,
        **health,
        "PODMAN_LABELS": msgspec.json.encode(attributes).decode() if attributes else "",
        "PYMAN_SEQ": str(event.seq),
        "PYMAN_JOURNAL": journal,
        "PYMAN_ACTOR_UID": str(event.actor.uid) if event.actor else "",
        "PYMAN_ACTOR_PID": str(event.actor.pid) if event.actor else "",
    }
    return b"".join(_field(name, value) for name, value in fields.items() if value)


_HEALTH = {
    "health_status": "PODMAN_HEALTH_STATUS",
    "health_failing_streak": "PODMAN_HEALTH_FAILING_STREAK",
    "health_log": "PODMAN_HEALTH_LOG",
}
"""Of the event health_status: attributes, and Podman's fields for them."""


def _sentence(event: Event) -> str:
    details = ", ".join(
        f"{name}={value}" for name, value in (("image", event.image), ("name", event.name)) if value
    )
    words = [event.type, event.status, event.id, f"({details})" if details else ""]
    return " ".join(word for word in words if word)


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
    return b"%s=%s\n" % (name.encode(), data)
