"""Where bridges and the packet filter are: the network namespace of this process, or, for an ordinary user, the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from supervisor.kernel import inside

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_place"]

T = TypeVar("T")


def in_place(netns: int | None, work: Callable[[], T]) -> T:
    """The result of work in the network namespace of a descriptor; None: in that of this process. Blocks, and raises what
    work raises."""
    return work() if netns is None else inside.joined(netns, "network", work)
