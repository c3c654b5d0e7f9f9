"""The same with many containers, several at once, in an order or in none."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from pyman.api.container import ErrorInfo, Result
from pyman.errors import NoSuchContainer, PymanError
from supervisor.runtime.dependencies import Turns
from supervisor.runtime.registry import Entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyman.api.container import Selection
    from supervisor.runtime.container import Container
    from supervisor.runtime.dependencies import Dependencies
    from supervisor.runtime.registry import View

__all__ = ["Many", "Order", "info_of"]

AT_ONCE = 32
"""Containers of one request that are worked on at the same time."""


class Order(Enum):
    """In which several containers have their turns."""

    ANY = "any"
    NEEDED_FIRST = "what a container depends on before it"
    NEEDED_LAST = "what a container depends on after it"


class Many:
    """What is done with the containers that a request has selected."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def each(
        self,
        view: View,
        selection: Selection,
        work: Callable[[Entry], Awaitable[Result]],
        *,
        missing: Callable[[str], Result] | None = None,
        keep: Callable[[Container], bool] | None = None,
        at_once: float = AT_ONCE,
        order: Order = Order.ANY,
    ) -> list[Result]:
        """Do the same with every selected container, several at once; results in the order of the request.

        `missing` says what becomes of a name that does not exist; without it that is an error like others.
        `keep` narrows a selection that names no container.
        """
        chosen = view.select(selection)
        vanishing = not selection.names
        if keep is not None and not selection.names:
            chosen = [c for c in chosen if isinstance(c[1], PymanError) or keep(c[1].container)]
        results: list[Result | None] = [None] * len(chosen)
        limiter = trio.CapacityLimiter(at_once)
        found_ones = [found for _, found in chosen if isinstance(found, Entry)]
        needed = self._dependencies.all_needed
        turns = None if order is Order.ANY else Turns(found_ones, needed, last=order is Order.NEEDED_LAST)

        async def one(index: int, name: str, entry: Entry) -> None:
            if turns is not None:
                await turns.come(entry.container.id)
            async with limiter:
                try:
                    results[index] = await work(entry)
                except PymanError as error:
                    if vanishing and entry.container.removed:
                        return  # nobody asked for this one by name: it is no failure that it is gone
                    if missing is not None and isinstance(error, NoSuchContainer):
                        results[index] = missing(name)
                    else:
                        results[index] = Result(name=name, id=entry.container.id, error=info_of(error))
                finally:
                    if turns is not None:
                        turns.done(entry.container.id)

        async with trio.open_nursery() as nursery:
            for index, (name, found) in enumerate(chosen):
                if isinstance(found, Entry):
                    nursery.start_soon(one, index, name, found)
                elif missing is not None and isinstance(found, NoSuchContainer):
                    results[index] = missing(name)
                else:
                    results[index] = Result(name=name, error=info_of(found))
        names = [name for name, _ in chosen]
        return [
            _named(result, name) for result, name in zip(results, names, strict=True) if result is not None
        ]


def info_of(error: PymanError) -> ErrorInfo:
    return ErrorInfo(code=error.code, message=error.message, subject=error.subject, hint=error.hint)


def _named(result: Result, name: str) -> Result:
    return replace(result, name=name)
