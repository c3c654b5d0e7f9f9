"""The keys that detach: `ctrl-p,ctrl-q`, or what `--detach-keys` says.

Bytes that might begin the sequence are held back until it is known whether they do; held bytes that did not
lead on are passed on, in order and complete.
"""

from __future__ import annotations

from pyman.errors import InvalidArgument

__all__ = ["DEFAULT", "KeyFilter", "parse_keys"]

DEFAULT = "ctrl-p,ctrl-q"


def parse_keys(text: str) -> bytes:
    """The bytes of `a`, `ctrl-p,ctrl-q` or `DEL`; empty: nothing detaches. Raises InvalidArgument."""
    keys = bytearray()
    for key in text.split(",") if text else ():
        if len(key) == 1 and key.isascii():
            keys += key.encode()
        elif key[:5].lower() == "ctrl-" and len(key) == 6 and "@" <= key[5].upper() <= "_":
            keys.append(ord(key[5].upper()) - 64)
        elif key.upper() == "DEL":
            keys.append(127)
        else:
            raise InvalidArgument(
                f"option --detach-keys cannot be '{text}'",
                subject="--detach-keys",
                hint="it must be single characters or ctrl-X, X one of a-z @ [ \\ ] ^ _, separated by commas",
            )
    return bytes(keys)


class KeyFilter:
    """Takes what was typed, gives what is meant for the container. `detached` is set when the keys came."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """What can be passed on. Nothing after the keys is."""
        keys = self._keys
        if not keys or (not self._matched and keys[0] not in data):
            return data
        out = bytearray()
        for byte in data:
            while self._matched and byte != keys[self._matched]:
                shorter = self._shorter()
                out += keys[: self._matched - shorter]
                self._matched = shorter
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    self.detached = True
                    break
            else:
                out.append(byte)
        return bytes(out)

    def _shorter(self) -> int:
        """How much of the keys the held bytes still match when their first one is given up."""
        held = self._keys[: self._matched]
        return next(size for size in range(len(held) - 1, -1, -1) if held[len(held) - size :] == held[:size])

    def end(self) -> bytes:
        """What was held back when the input ended."""
        held, self._matched = self._keys[: self._matched], 0
        return b"" if self.detached else held
