"""Questions on the terminal: a line, and a line that is not shown while it is typed.

Questions go to standard error, so that standard output holds results alone.
"""

from __future__ import annotations

import os
import sys

from pyman.errors import InvalidArgument

__all__ = ["ask", "ask_secret"]

LONGEST = 4096
"""Characters of an answer."""


def ask(question: str) -> str:
    """The answer without blanks around it. InvalidArgument where there is none."""
    _show(question)
    answer = sys.stdin.readline(LONGEST)
    if not answer:
        raise InvalidArgument(f"cannot read an answer to '{question.strip(': ')}': the input has ended")
    return answer.strip()


def ask_secret(question: str, otherwise: str) -> str:
    """The answer, typed blindly. InvalidArgument, with `otherwise` as the hint, where there is no terminal."""
    if not os.isatty(0):
        raise InvalidArgument(f"cannot ask for '{question.strip(': ')}': this is no terminal", hint=otherwise)
    import termios

    found = termios.tcgetattr(0)
    silent = [*found[:3], found[3] & ~termios.ECHO, *found[4:]]
    try:
        termios.tcsetattr(0, termios.TCSAFLUSH, silent)
        _show(question)
        answer = sys.stdin.readline(LONGEST)
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, found)
        _show("\n")
    return answer.rstrip("\r\n")


def _show(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()
