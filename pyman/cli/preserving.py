"""Options that pass descriptors of the caller on to a container, or to a further command in one."""

from __future__ import annotations

import fcntl

from pyman.cli.options import COUNT, CSV
from pyman.errors import InvalidArgument
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.options import Option, Parsed

__all__ = ["PRESERVE_OPTIONS", "preserved"]

PRESERVE_OPTIONS: tuple[Option, ...] = (
    ("preserve-fd", "", CSV, "N", "Pass on the descriptor of this number, from 3 on"),
    ("preserve-fds", "", COUNT, "N", "Pass on so many descriptors, from 3 on"),
)

_FIRST, _HIGHEST = 3, 255
_MOST = 16
"""That one message takes."""


def preserved(args: Parsed, taken: int = 0) -> list[int]:
    """The numbers of the descriptors to pass on. `taken`: how many others go with them. To be called before anything else
    is opened. Raises InvalidArgument."""
    most, count = _MOST - taken, args.preserve_fds or 0
    if count > most:
        raise InvalidArgument(f"cannot pass {count} descriptors on: {most} are possible")
    found = [*range(_FIRST, _FIRST + count)]
    for text in args.preserve_fd:
        number = int(text) if is_decimal(text) else -1
        if not _FIRST <= number <= _HIGHEST:
            hint = (
                "standard streams are passed on by --log-driver passthrough" if 0 <= number < _FIRST else ""
            )
            raise InvalidArgument(
                f"option --preserve-fd cannot be '{text}'",
                hint=hint or f"it must be a number from 3 to {_HIGHEST}",
            )
        if number not in found:
            found.append(number)
    if len(found) > most:
        raise InvalidArgument(f"cannot pass {len(found)} descriptors on: {most} are possible")
    for number in found:
        if not _is_inherited(number):
            raise InvalidArgument(
                f"cannot pass the descriptor {number} on: this command was started without it"
            )
    return found


def _is_inherited(number: int) -> bool:
    """What Python has opened is closed by an exec."""
    try:
        return not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        return False
