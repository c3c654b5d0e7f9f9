"""What changes in a running container's hosts and resolv.conf when it comes on a network or off it.

The container may have changed them: what belongs to the network comes and goes, everything else stays as it is. They are
written in place, since the container has these very files mounted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.kernel import files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ["changed_hosts", "changed_lines", "rewrite"]

_MOST = 1 << 21
"""Bytes. One that the container has made larger stays as it is."""


def changed_hosts(text: str, former: Sequence[str], now: Sequence[str], names: Collection[str]) -> str:
    """Of its own addresses those of `former` that are not among `now` go, and the others come. `names`: its own."""
    gone = set(former) - set(now)
    kept = [line for line in _lines(text) if not _names_itself(line, gone, names)]
    known = [address for address in now if any(_names_itself(line, (address,), names) for line in kept)]
    added = [f"{address}\t{' '.join(names)}" for address in now if address not in (*former, *known)]
    return _joined([*kept, *added])


def _names_itself(line: str, addresses: Collection[str], names: Collection[str]) -> bool:
    words = line.partition("#")[0].split()
    return bool(words) and words[0] in addresses and not set(names).isdisjoint(words[1:])


def changed_lines(text: str, former: str, now: str) -> str:
    """Lines that are in `former` alone are replaced by those that are in `now` alone."""
    before, after = _lines(former), _lines(now)
    gone = {line for line in before if line not in after}
    kept: list[str] = []
    place: int | None = None
    for line in _lines(text):
        if line not in gone:
            kept.append(line)
        elif place is None:
            place = len(kept)
    added = [line for line in after if line not in before and line not in kept]
    place = len(kept) if place is None else place
    return _joined([*kept[:place], *added, *kept[place:]])


def _lines(text: str) -> list[str]:
    """Ended by newlines alone: of other characters that end one for Python there may be some in a line."""
    return text.removesuffix("\n").split("\n") if text else []


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def rewrite(path: str, change: Callable[[str], str]) -> None:
    """Blocks. One that is not there, or cannot be read, stays so. StorageFailed, DiskFull."""
    try:
        former = files.read_small(path, _MOST)
    except OSError:
        return
    content = change(former.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    if content == former:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # In this order nobody finds it empty.
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise files.storage_error(error, "write", path) from error
