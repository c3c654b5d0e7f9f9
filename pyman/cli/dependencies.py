"""What a container depends on, on the command line."""

from __future__ import annotations

from pyman.cli.options import CSV
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["DEPENDENCY_OPTIONS", "dependency_settings"]

DEPENDENCY_OPTIONS: tuple[Option, ...] = (
    (
        "after",
        "",
        CSV,
        "CONTAINER[:CONDITION]",
        "Start it once another container is started (default), healthy, or completed",
    ),
    ("requires", "", CSV, "CONTAINER", "Start another container before it"),
)
_CONDITIONS = ("started", "healthy", "completed")


def dependency_settings(args: Parsed) -> dict[str, Any]:
    """The spec's fields that the options of `DEPENDENCY_OPTIONS` set. Raises InvalidArgument."""
    spec: dict[str, Any] = {}
    if args.requires:
        if "" in args.requires:
            raise InvalidArgument("option --requires cannot be empty", hint="it must name a container")
        spec["dependencyContainers"] = args.requires
    after = []
    for text in args.after:
        container, _, condition = text.partition(":")
        condition = condition or "started"
        if not container or condition not in _CONDITIONS:
            raise InvalidArgument(
                f"option --after cannot be '{text}'",
                hint=f"it must be CONTAINER:CONDITION, the condition {', '.join(_CONDITIONS)}",
            )
        after.append({"container": container, "condition": condition})
    if after:
        spec["after"] = after
    return spec
