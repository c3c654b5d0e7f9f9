"""Following a pull, push, load, save or import: what is shown while it goes on, and its result.

On a terminal a bar for each blob that is under way, elsewhere a line when it begins and one when it is done; both on
standard error, so that standard output holds the result alone. Whoever stops following (Ctrl-C) ends the connection,
and with it the work: nothing half-made is left.
"""

from __future__ import annotations

import os
import sys

from pyman.cli.context import one_line
from pyman.errors import EngineUnavailable, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from pyman.cli.context import Context

    class Display(Protocol):
        """Shows the steps of a transfer. To be closed whatever happens."""

        def text(self, line: str) -> None: ...

        def progress(self, step: Mapping[str, Any]) -> None: ...

        def close(self) -> None: ...


__all__ = ["Lines", "Silence", "display", "follow", "show"]

FINISHED = {
    "done": "done",
    "exists": "skipped: already exists",
    "mounted": "mounted from another repository",
}
"""Actions after which nothing of a blob is left to be copied; told once of each."""


def follow(
    ctx: Context, method: str, request: dict[str, Any], descriptors: Sequence[int] = (), *, quiet: bool
) -> dict[str, Any]:
    """Make a streaming call, show its steps unless `quiet`, and return the parameters of the last reply."""
    shown = display(quiet=quiet)
    try:
        for reply in ctx.connect().stream(method, request, descriptors):
            reply.close()
            if not reply.continues:
                return reply.parameters
            show(shown, reply.parameters)
    except EngineUnavailable as error:
        raise EngineUnavailable(error.message, subject=error.subject, hint="run the command again") from error
    finally:
        shown.close()
    raise ProtocolError(f"cannot use the answer to {method}: it has no end")  # pragma: no cover


def show(shown: Display, parameters: Mapping[str, Any]) -> None:
    """One step, as a reply brings it: a line of text, or the progress of a blob."""
    if parameters.get("text"):
        shown.text(parameters["text"])
    if parameters.get("progress"):
        shown.progress(parameters["progress"])


def display(*, quiet: bool = False) -> Display:
    """What fits standard error."""
    if quiet:
        return Silence()
    if os.isatty(2) and os.environ.get("TERM") not in (None, "", "dumb"):
        from pyman.cli.bars import Bars

        return Bars()
    return Lines()


class Silence:
    """Nothing at all."""

    def text(self, line: str) -> None:
        pass

    def progress(self, step: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """A line for each thing that happens; as many lines as a log can bear."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._finished: set[str] = set()

    def text(self, line: str) -> None:
        sys.stdout.flush()
        sys.stderr.write(one_line(line) + "\n")
        sys.stderr.flush()

    def progress(self, step: Mapping[str, Any]) -> None:
        digest, action = str(step["digest"]), step["action"]
        if action in FINISHED:
            self._begun.discard(digest)
            if digest not in self._finished:
                self._finished.add(digest)
                self.text(f"Copying blob {digest} {FINISHED[action]}")
        elif action == "retrying":
            why = f": {step['detail']}" if step.get("detail") else ""
            self.text(f"Copying blob {digest} is tried again{why}")
        elif action != "waiting" and digest not in self._begun:
            self._begun.add(digest)
            self.text(f"Copying blob {digest}")

    def close(self) -> None:
        pass
