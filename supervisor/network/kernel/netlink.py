"""Netlink: what the kernel is asked and told about interfaces, addresses, routes and the packet filter's elements.

By hand, since it is a dozen messages: the library for all of netlink takes 130 ms and 13 MB to be imported, and a round trip
for each of them. A `Wire` stays in the network namespace that the calling thread was in when it was opened. Everything
blocks as long as the kernel works, which answers before sending is over. Failures are OSErrors with the kernel's words.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "ACK",
    "CREATE",
    "EXCLUSIVE",
    "NESTED",
    "NETFILTER",
    "Message",
    "Wire",
    "address",
    "attribute",
    "attributes",
    "number",
    "portions",
    "text",
]

_ROUTE, NETFILTER = 0, 12
ACK, EXCLUSIVE, CREATE = 0x04, 0x200, 0x400

_REQUEST, _DUMP = 0x01, 0x300
_ERROR, _DONE = 2, 3
NESTED = 0x8000
"""Of an attribute's kind: where the kernel insists on being told that there are others in it."""
_KIND = 0x3FFF
_WITH_WORDS = 0x200
"""Of an answer: attributes follow."""
_WORDS = 1
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_CODE = struct.Struct("=i")
_ROOM = 1 << 17
_AT_ONCE = 100
"""Messages whose answers, all of them failures, find room in a socket that nobody has made larger."""

T = TypeVar("T")


class Message(NamedTuple):
    kind: int
    body: bytes
    flags: int = ACK
    but: tuple[int, ...] = ()
    """Failures that are none."""


class Wire:
    """To the kernel's part of a protocol. Not for several threads at once."""

    def __init__(self, protocol: int = _ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._numbers = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def tell(self, *messages: Message) -> None:
        """All of them, one after the other; one that fails does not keep the kernel from doing the next. The first failure
        that is none of a message's `but` is raised."""
        failures = [failure for some in portions(messages) for failure in self.failures(some)]
        for message, failure in zip(messages, failures, strict=True):
            if failure is not None and failure.errno not in message.but:
                raise failure

    def failures(self, messages: Sequence[Message]) -> list[OSError | None]:
        """The outcome of each message, in order; they are as many as one of `portions`. In a netfilter transaction that was
        refused, only the messages that caused it have an error. OSError."""
        first = self._send(messages)
        found: list[OSError | None] = [None] * len(messages)
        for _, number, body in self._answers():
            if 0 <= number - first < len(messages):
                found[number - first] = _failure(body)
        return found

    def ask(self, kind: int, body: bytes) -> bytes:
        """About one thing."""
        number = self._send([Message(kind, body)])
        answer = b""
        for kind_of_answer, to, said in self._answers():
            if to != number:
                continue
            if kind_of_answer != _ERROR:
                answer = said
            elif (failure := _failure(said)) is not None:
                raise failure
        return answer

    def ask_each(self, messages: Sequence[Message]) -> list[bytes | OSError]:
        """What each is answered, in order, or its failure; they are as many as one of `portions`, and want no other
        acknowledgement. OSError."""
        first = self._send(messages)
        found: list[bytes | OSError] = [b""] * len(messages)
        for kind, number, body in self._answers():
            if 0 <= number - first < len(messages):
                failure = _failure(body) if kind == _ERROR else None
                found[number - first] = body if failure is None else failure
        return found

    def ask_all(self, kind: int, body: bytes) -> Iterator[bytes]:
        """About all of a kind."""
        number = self._send([Message(kind, body, _DUMP)])
        while True:
            for kind_of_answer, to, said in _parts(self._socket.recv(_ROOM)):
                if to != number:
                    continue
                if kind_of_answer in (_ERROR, _DONE):
                    if said and (failure := _failure(said)) is not None:
                        raise failure
                    return
                yield said

    def _send(self, messages: Sequence[Message]) -> int:
        """The number of the first."""
        first = next(self._numbers)
        numbers = [first, *(next(self._numbers) for _ in messages[1:])]
        data = b"".join(
            _HEADER.pack(_HEADER.size + len(each.body), each.kind, _REQUEST | each.flags, number, 0)
            + each.body
            for number, each in zip(numbers, messages, strict=True)
        )
        self._socket.send(data)
        return first

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """They are there already."""
        while True:
            try:
                data = self._socket.recv(_ROOM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from _parts(data)


def portions(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many that the kernel can be told of them in one go."""
    for first in range(0, len(things), _AT_ONCE):
        yield things[first : first + _AT_ONCE]


def _parts(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, number and body of each message."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            raise OSError(0, "what the kernel says is not to be understood")
        body = data[at + _HEADER.size : at + length]
        if kind == _ERROR and not flags & _WITH_WORDS:
            body = body[: _CODE.size]
        yield kind, number, body
        at += _aligned(length)


def _failure(body: bytes) -> OSError | None:
    code = -_CODE.unpack_from(body)[0]
    if not code:
        return None
    rest = body[_CODE.size + _HEADER.size :]
    words = dict(attributes(rest)).get(_WORDS, b"").rstrip(b"\0").decode(errors="replace").rstrip(".")
    return OSError(code, f"{os.strerror(code)} ({words})" if words else os.strerror(code))


# ---------------------------------------------------------------------- attributes


def attribute(kind: int, *parts: bytes) -> bytes:
    """Parts that are attributes themselves make a nested one."""
    data = b"".join(parts)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """Of 32 bits, in the host's order."""
    return attribute(kind, _NUMBER.pack(value))


def address(value: str) -> bytes:
    return ip_address(value).packed


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _KIND, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
