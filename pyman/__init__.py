"""pyman: a container engine for Linux.

`pyman.connect()` opens the asynchronous client. Importing `pyman` alone imports nothing else: the command
line lives in this package too and must start fast.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would be a third of what a short command imports
    from typing import Any

    from pyman.client import connect

__all__ = ["__version__", "connect"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "connect":
        from pyman.client import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
