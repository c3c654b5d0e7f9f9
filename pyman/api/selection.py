"""Which containers a request means, and what becomes of each."""

from __future__ import annotations

import msgspec

__all__ = ["ErrorInfo", "Result", "ResultsReply", "Selection"]


class ErrorInfo(msgspec.Struct, frozen=True):
    """A failure that concerns one of several objects: what a raised error carries."""

    code: str
    message: str
    subject: str = ""
    hint: str = ""


class Selection(msgspec.Struct, frozen=True):
    """Which containers: by name or id (also short ids), or all, or the latest, or by filters as in List.

    Exactly one way is used; `all` and `filters` may select none.
    """

    names: list[str] = []
    all: bool = False
    latest: bool = False
    filters: dict[str, list[str]] = {}


class Result(msgspec.Struct, frozen=True):
    """What became of one selected container. `name` is as the caller gave it, else the container's."""

    name: str
    id: str = ""
    error: ErrorInfo | None = None
    exit_code: int | None = None
    """Wait only."""
    changed: bool = True
    """False where there was nothing to do (stopping a stopped container)."""
    notify: list[str] = []
    """Start only: as in RunReply."""
    awaits_health: bool = False
    """Start only: the container counts as started once it is healthy, for which the caller waits."""


class ResultsReply(msgspec.Struct, frozen=True):
    """One result for each selected container, in the order of the request."""

    results: list[Result]
