"""A program that becomes another one, which finds descriptors under the numbers that it expects.

    placing.py NUMBER:DESCRIPTOR,… PROGRAM ARGUMENT…

What a process hands down has the same numbers in its child; a container that gets descriptors of its caller expects them
from 3 on. `-` instead of a descriptor: /dev/null, for a number in between, which would else be whatever the program opens
first. Run by its path and without the rest of the house, so that it takes no longer than Python itself.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys

__all__ = ["command", "main"]


def command(places: dict[int, int | None], argv: list[str]) -> list[str]:
    """What to execute instead of `argv`, so that it has these descriptors of this process under these numbers; none:
    /dev/null."""
    text = ",".join(f"{number}:{'-' if source is None else source}" for number, source in places.items())
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), text, *argv]


def main(words: list[str]) -> None:
    text, *argv = words
    pairs = [pair.split(":") for pair in text.split(",")]
    above = 1 + max(int(number) for number, _ in pairs)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # First out of the way, then each to its place: they may stand in one another's.
    sources = [null if source == "-" else int(source) for _, source in pairs]
    kept = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, above) for source in sources]
    for source in {*sources}:
        os.close(source)
    for (number, _), descriptor in zip(pairs, kept, strict=True):
        os.dup2(descriptor, int(number), inheritable=True)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and it would be handed down
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(argv[0], argv)  # noqa: S606 - a list of words, as wanted


if __name__ == "__main__":
    main(sys.argv[1:])
