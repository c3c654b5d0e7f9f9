"""How a supervisor tells whoever started it that it came up, or why it did not.

Standard library only, and at first only what is loaded anyway: see `entry`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.errors import PymanError

__all__ = ["Report", "say"]


class Report:
    """Whoever started the supervisor learns here whether it came up: one line through the inherited pipe,
    `ready` or an error as JSON. Errors are also said on standard error."""

    def __init__(self, number: str = "") -> None:
        self._pipe = int(number) if number.isdigit() else -1

    def ready(self) -> None:
        self._write(b"ready\n")

    def failed(self, error: PymanError) -> None:
        import json

        from supervisor.channel import described

        # Said first: whoever is told finds it in the log.
        say(f"Error: {error}")
        self._write(json.dumps(described(error)).encode() + b"\n")

    def close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _write(self, line: bytes) -> None:
        if self._pipe >= 0:
            try:
                os.write(self._pipe, line)
            except OSError:
                pass  # it did not wait for us
            self.close()


def say(line: str) -> None:
    """One line on standard error, if anybody is there to read it."""
    try:
        sys.stderr.write(" ".join(line.split("\n")) + "\n")
        sys.stderr.flush()
    except OSError:
        pass
