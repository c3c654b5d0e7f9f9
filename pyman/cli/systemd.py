"""Options about systemd, in the container and around it, and what of the create request they are."""

from __future__ import annotations

from pyman.cli.options import TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["SYSTEMD_OPTIONS", "systemd_settings"]

SYSTEMD_OPTIONS: tuple[Option, ...] = (
    (
        "sdnotify",
        "",
        TEXT,
        "MODE",
        "Who tells $NOTIFY_SOCKET that it is ready: container (default), conmon, healthy (once it is), or ignore",
    ),
    (
        "systemd",
        "",
        TEXT,
        "MODE",
        "Have what systemd needs: true (default; if the command is systemd), always, false",
    ),
)


def systemd_settings(args: Parsed) -> dict[str, Any]:
    """The spec's fields that these options set."""
    wishes = {"sdnotifyMode": args.sdnotify, "systemd": args.systemd.lower()}
    return {field: wish for field, wish in wishes.items() if wish}
