"""Which image a short name means, asked on the terminal where registries.conf leaves it open."""

from __future__ import annotations

import os

from pyman.errors import AmbiguousId, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pyman.cli.context import Context

    T = TypeVar("T")

__all__ = ["decided"]


def decided(ctx: Context, name: str, bring: Callable[[str, dict[str, Any]], T]) -> T:
    """What `bring` gives for the name, or for the one that a person chooses instead of it.

    `bring` is given the name and further fields of the pull. Without a terminal to ask on there are none.
    """
    if not (os.isatty(0) and os.isatty(2)):
        return bring(name, {})
    try:
        return bring(name, {"ask": True})
    except AmbiguousId as error:
        if not name or error.subject not in name:
            raise  # an id, or another name
        found = ctx.call("Image.Candidates", {"reference": name})
        if not found.get("choose"):
            raise
    return bring(_chosen(found["short"], found["references"]), {"alias": found["short"]})


def _chosen(short: str, references: list[str]) -> str:
    from pyman.cli.prompt import ask

    listed = "".join(f"  {number}) {reference}\n" for number, reference in enumerate(references, 1))
    answer = ask(f"'{short}' may be one of\n{listed}Which one (1-{len(references)})? ")
    if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= len(references):
        return references[int(answer) - 1]
    raise InvalidArgument(
        f"cannot choose '{answer}': it is not a number from 1 to {len(references)}", subject=short
    )
