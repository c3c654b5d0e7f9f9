"""Messages on the wire: JSON objects, each ended by a NUL byte.

What comes in is bounded: a message above the limit is refused as soon as that many bytes are there,
the rest of it is never stored. A message that is not a well-formed envelope cannot be answered and
gone on from (its descriptors are not accounted for), so it ends the connection.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from pyman.errors import MessageTooLarge, ProtocolError

__all__ = ["MESSAGE_LIMIT", "Frames", "Request", "decode_request", "encode_error", "encode_reply"]

MESSAGE_LIMIT = 1 << 20
"""The largest request in bytes, its NUL not counted."""


class Frames:
    """Bytes in, messages out. Keeps no more than the limit and what one read brought beyond it."""

    def __init__(self, limit: int = MESSAGE_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0

    @property
    def pending(self) -> int:
        """Bytes received that belong to messages not yet taken."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next complete message, without its NUL; none: feed more. Raises MessageTooLarge."""
        end = self._buffer.find(0, self._searched)
        length = end if end >= 0 else len(self._buffer)
        if length > self._limit:
            raise MessageTooLarge(
                f"cannot take a message of more than {self._limit} bytes",
                hint="pass bulk data as a descriptor",
            )
        if end < 0:
            self._searched = length
            return None
        frame = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return frame


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The envelope of a call. A misspelt key is an error, never ignored."""

    method: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    more: bool | None = False
    oneway: bool | None = False
    upgrade: bool | None = False
    descriptors: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Reply(msgspec.Struct, omit_defaults=True):
    error: str | None = None
    parameters: Any = None
    continues: bool = False
    descriptors: int = 0


_decoder = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


def decode_request(frame: bytes) -> Request:
    """Raises ProtocolError for anything that is not a call."""
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"cannot understand the message: {error}") from error


def encode_reply(parameters: msgspec.Struct, *, continues: bool = False, descriptors: int = 0) -> bytearray:
    return _encode(_Reply(None, parameters, continues, descriptors))


def encode_error(name: str, parameters: dict[str, Any]) -> bytearray:
    """`name`: the full Varlink name of the error."""
    return _encode(_Reply(name, parameters))


def _encode(reply: _Reply) -> bytearray:
    message = bytearray()
    _encoder.encode_into(reply, message)
    message.append(0)
    return message
