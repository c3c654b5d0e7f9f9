"""Blobs: fetched into a file, from where it ends; sent from a file.

The file is a descriptor that the supervisor gave. What it holds already is taken for the beginning of the blob, and
whoever uses it verifies the whole: either `download` itself, or the reader who follows it while it grows.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import trio

from pyman.errors import DigestMismatch
from supervisor.kernel.files import storage_error
from supervisor.registry.manifests import verified
from supervisor.registry.session import read_body
from supervisor.registry.trouble import Trouble, from_httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from supervisor.registry.attempts import Attempts
    from supervisor.registry.session import Scope, Session

__all__ = ["Download", "fetch_blob", "has_blob", "mount_blob", "upload_blob"]

_CHUNK = 1 << 17
_SLOWEST = 64
"""Bytes a second, at least, on the average over the time for one byte: less counts as nothing."""
_WORTH = 1 << 20
"""Bytes that have come since the last failure, and earn all attempts anew."""
_LARGEST = 1 << 36
"""Bytes of a blob whose size nobody has told."""
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)")
_NUMBER = struct.Struct("<Q")


def _path(session: Session, digest: str) -> str:
    return f"/v2/{session.path}/blobs/{digest}"


async def fetch_blob(session: Session, digest: str, limit: int) -> bytes:
    """A small one, verified."""
    async with session.request("GET", _path(session, digest), scopes=[(session.path, "pull")]) as response:
        data = await read_body(session, response, limit)
    verified(data, digest, session.doing)
    return data


async def has_blob(session: Session, digest: str, actions: str = "pull") -> int:
    """Its size; -1: it is not there, -2: the registry does not tell its size."""
    async with session.request(
        "HEAD", _path(session, digest), scopes=[(session.path, actions)], expected=frozenset({200, 404})
    ) as response:
        if response.status_code == 404:
            return -1
        return int(response.headers.get("content-length", "-2"))


class Download:
    """One blob into one file. `growth`: a pipe, or -1; `report`: hears how many bytes there are."""

    def __init__(self, fd: int, digest: str, size: int, growth: int, report: Callable[[int], None]) -> None:
        self._fd = fd
        self._digest = digest
        self._size = size
        self._growth = growth
        self._report = report
        self._position = 0
        self._before = 0

    async def run(self, attempts: Attempts, doing: str, *, verify: bool) -> int:
        """The blob's size, when the file has it. Raises the errors of `pyman.errors`."""
        self._position = self._begin()
        resumed = self._position > 0
        await self._told()
        if self._size < 0 or self._position < self._size:
            await attempts.first(lambda _, session: self._attempt(session, attempts))
        if verify:
            try:
                await self._verify(doing)
            except DigestMismatch:
                if not resumed:
                    raise
                # What was there before may not have been of this blob.
                os.ftruncate(self._fd, 0)
                self._position = 0
                await attempts.first(lambda _, session: self._attempt(session, attempts))
                await self._verify(doing)
        await self._told(last=True)
        return self._position

    def _begin(self) -> int:
        there = os.fstat(self._fd).st_size
        if 0 <= self._size < there:
            os.ftruncate(self._fd, 0)
            return 0
        return there

    async def _attempt(self, session: Session, attempts: Attempts) -> None:
        self._before = self._position
        try:
            await self._fetch(session)
        finally:
            if self._position - self._before >= _WORTH:
                attempts.progressed()

    async def _fetch(self, session: Session) -> None:
        start = self._position
        headers = {"Range": f"bytes={start}-"} if start else {}
        scopes = [(session.path, "pull")]
        async with session.request(
            "GET",
            _path(session, self._digest),
            scopes=scopes,
            headers=headers,
            expected=frozenset({200, 206, 416}),
        ) as response:
            if response.status_code == 416:
                # Of unknown size: what there is may be all.
                if start and self._size < 0:
                    return
                raise session.failed("the registry does not have the rest of the blob")
            skip = self._to_skip(session, response, start)
            self._check_length(session, response, start - skip)
            await self._receive(session, response, skip)
        if self._size >= 0 and self._position < self._size:
            reason = f"the registry has sent {self._position} of {self._size} bytes"
            raise session.failed(reason, transient=True)

    def _to_skip(self, session: Session, response: httpx.Response, start: int) -> int:
        """How many bytes of the answer are there already."""
        if response.status_code == 200:
            return start
        match = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if start == 0 or match is None or not 0 <= int(match[1]) <= start:
            raise session.failed("the registry sends another part than was asked for")
        return start - int(match[1])

    def _check_length(self, session: Session, response: httpx.Response, begins: int) -> None:
        length = response.headers.get("content-length")
        if length is not None and self._size >= 0 and begins + int(length) != self._size:
            raise session.failed(
                f"the registry announces {begins + int(length)} bytes instead of {self._size}"
            )

    async def _receive(self, session: Session, response: httpx.Response, skip: int) -> None:
        window = trio.current_time() + session.stall
        came = 0
        # The scope is for what comes and is no byte of the blob, so that nothing of it is seen here.
        with trio.CancelScope(deadline=window + session.stall) as scope:
            try:
                async for chunk in response.aiter_raw():
                    now = trio.current_time()
                    came += len(chunk)
                    if came >= _SLOWEST * session.stall:
                        came, window = 0, now + session.stall
                        scope.deadline = window + session.stall
                    elif now > window:
                        raise session.failed("the registry sends too slowly", transient=True)
                    data = chunk
                    if skip:
                        data, skip = chunk[skip:], max(0, skip - len(chunk))
                    if data:
                        self._write(session, data)
                        await self._told()
            except (httpx.HTTPError, httpx.StreamError) as error:
                raise from_httpx(error, session.doing, session.stall) from error
        if scope.cancelled_caught:
            raise session.failed("the registry sends too slowly", transient=True)

    def _write(self, session: Session, data: bytes) -> None:
        most = self._size if self._size >= 0 else _LARGEST
        if most < self._position + len(data):
            raise session.failed(f"the registry sends more than the {most} bytes of the blob")
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self._fd, rest, self._position)
                self._position += written
                rest = rest[written:]
        except OSError as error:
            raise storage_error(error, "write", "a blob") from error

    async def _told(self, *, last: bool = False) -> None:
        """Who follows the file, and who watches the progress."""
        self._report(self._position)
        if self._growth >= 0:
            await self._grown(last=last)

    async def _grown(self, *, last: bool) -> None:
        number = _NUMBER.pack(self._position)
        while True:
            try:
                os.write(self._growth, number)
                return
            except BlockingIOError:
                if not last:
                    return  # the reader has enough to do; it gets a later number
                await trio.lowlevel.wait_writable(self._growth)
            except BrokenPipeError:
                self._growth = -1  # what has come so far is worth keeping all the same
                return

    async def _verify(self, doing: str) -> None:
        algorithm, _, expected = self._digest.partition(":")
        found = await trio.to_thread.run_sync(_hash, self._fd, algorithm)
        if found != expected:
            raise DigestMismatch(
                f"cannot {doing}: its content is {algorithm}:{found}, not {self._digest}",
                subject=self._digest,
            )


def _hash(fd: int, algorithm: str) -> str:
    hasher = hashlib.new(algorithm, usedforsecurity=True)
    position = 0
    while chunk := os.pread(fd, 1 << 20, position):
        hasher.update(chunk)
        position += len(chunk)
    return hasher.hexdigest()


# Sending


def _push(session: Session) -> list[Scope]:
    return [(session.path, "pull,push")]


async def mount_blob(session: Session, digest: str, source: str) -> bool:
    """Have the registry take a blob over from another repository. False: it does not."""
    query = httpx.QueryParams({"mount": digest, "from": source})
    scopes = [*_push(session), (source, "pull")]
    async with session.request(
        "POST",
        f"/v2/{session.path}/blobs/uploads/?{query}",
        scopes=scopes,
        expected=frozenset({201, 202, 401, 403, 404, 405}),
    ) as response:
        if response.status_code == 201:
            return True
        location = response.headers.get("location", "") if response.status_code == 202 else ""
    if location:
        # It has begun an upload instead, which nobody will go on with.
        with suppress(Trouble):
            async with session.request(
                "DELETE", str(session.resolve(location)), scopes=scopes, expected=frozenset(range(200, 500))
            ):
                pass
    return False


async def upload_blob(
    session: Session, fd: int, digest: str, size: int, report: Callable[[int], None]
) -> int:
    """Send the first `size` bytes of a file. Trouble also if the file is shorter, or not what the digest says."""
    begin = f"/v2/{session.path}/blobs/uploads/"
    scopes = _push(session)
    async with session.request("POST", begin, scopes=scopes, expected=frozenset({202})) as response:
        place = _location(session, response)

    async def content(forward: Callable[[], None]) -> AsyncIterator[bytes]:
        position = 0
        while position < size:
            chunk = os.pread(fd, min(_CHUNK, size - position), position)
            if not chunk:
                raise Trouble(
                    DigestMismatch(f"cannot {session.doing}: the file ends after {position} of {size} bytes")
                )
            forward()
            yield chunk
            position += len(chunk)
            report(position)

    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    async with session.request(
        "PATCH", place, scopes=scopes, headers=headers, content=content, expected=frozenset({202, 204})
    ) as response:
        place = _location(session, response)
    end = str(httpx.URL(place).copy_merge_params({"digest": digest}))
    async with session.request(
        "PUT", end, scopes=scopes, headers={"Content-Length": "0"}, expected=frozenset({201, 204})
    ):
        return size


def _location(session: Session, response: httpx.Response) -> str:
    location = response.headers.get("location", "")
    if not location:
        raise session.failed("the registry does not say where to send it")
    return str(session.resolve(location))
