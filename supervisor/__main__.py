"""`pyman-supervisor`: the keeper, the daemon it starts, or maintenance while none of them runs.

Each imports only what it needs; the keeper stays small.
"""

from __future__ import annotations

import gc
import sys

from pyman.errors import PymanError
from supervisor.arguments import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> int:
    """The exit status. An error is one line on standard error."""
    words = sys.argv[1:] if words is None else words
    try:
        if words[:1] == ["daemon"]:
            gc.disable()  # what is imported is no garbage; `daemon.Control.settle` turns it on again
            from supervisor import daemon_start

            status = daemon_start.run(words[1:])
            gc.freeze()  # or whoever ends it waits while the interpreter looks for cycles in all of it
            return status
        if "maintain" in words and (given := parse(words)).words[:1] == ["maintain"]:
            if given.words[1:2] == ["unshare"]:
                from supervisor import unshare

                unshare.run(given.options, given.words[2:])
            from supervisor import maintain

            return maintain.run(words)
        from supervisor import entry

        return entry.run(words)
    except PymanError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_status


if __name__ == "__main__":
    raise SystemExit(main())
