"""`--expose`: ports, and ranges of them."""

from __future__ import annotations

from pyman.errors import InvalidArgument
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["exposed"]

_LAST = 65535


def exposed(texts: Iterable[str]) -> dict[str, str]:
    """Protocols by port, as a create request has them. InvalidArgument."""
    found: dict[str, str] = {}
    for text in texts:
        ports, slash, protocol = text.partition("/")
        first, dash, last = ports.partition("-")
        numbers = (first, last if dash else first)
        if not all(map(is_decimal, numbers)) or (slash and protocol.lower() not in ("tcp", "udp", "sctp")):
            raise InvalidArgument(
                f"option --expose cannot be '{text}'",
                hint="it must be a port or FIRST-LAST, with /tcp, /udp or /sctp or nothing behind it",
            )
        start, end = map(int, numbers)
        if not 1 <= start <= end <= _LAST:
            raise InvalidArgument(
                f"option --expose cannot be '{text}'", hint=f"ports are 1 to {_LAST}, the lower first"
            )
        for port in map(str, range(start, end + 1)):
            found[port] = f"{found[port]},{protocol}" if port in found else protocol
    return found
