"""Waiting for the first of several descriptors with one wait of the event loop.

An epoll instance is itself a descriptor: one task waits for it instead of one task per descriptor.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Self

import trio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Readiness"]


class Readiness:
    """A set of descriptors, level-triggered. A descriptor is discarded before it is closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._members: set[int] = set()

    def add(self, fd: int, *, write: bool = False) -> None:
        self._epoll.register(fd, select.EPOLLOUT if write else select.EPOLLIN)
        self._members.add(fd)

    def discard(self, fd: int) -> None:
        if fd in self._members:
            self._members.discard(fd)
            self._epoll.unregister(fd)

    def __contains__(self, fd: int) -> bool:
        return fd in self._members

    async def wait(self) -> list[int]:
        """The descriptors that are ready: readable (or writable) now, hung up, or in error."""
        await trio.lowlevel.wait_readable(self._epoll.fileno())
        return [fd for fd, _ in self._epoll.poll(0)]

    def close(self) -> None:
        if not self._epoll.closed:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
