"""`pyman-supervisor`: the keeper, the daemon it starts, or maintenance while none of them runs.

Each imports only what it needs; the keeper stays small.
"""

from __future__ import annotations

import sys

from pyman.errors import PymanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> int:
    """The exit status. An error is one line on standard error."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["daemon"]:
        # structlog imports rich wherever it finds it: 60 ms and 5 MB that a daemon has no use for.
        sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
        from supervisor import daemon

        return daemon.run(words[1:])
    try:
        if "maintain" in words:
            from supervisor import maintain

            return maintain.run(words)
        from supervisor import keeper

        return keeper.run(words)
    except PymanError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_status


if __name__ == "__main__":
    raise SystemExit(main())
