"""Runs an asynchronous test under asyncio and under Trio."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import anyio
import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["on_both"]

TIMEOUT = 30


def on_both(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Decorator: the test runs once per backend, each within `TIMEOUT` seconds; its fixtures are synchronous."""

    def test(backend: str, **fixtures: Any) -> None:
        async def limited() -> None:
            with anyio.fail_after(TIMEOUT):
                await function(**fixtures)

        anyio.run(limited, backend=backend)

    backend = inspect.Parameter("backend", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = inspect.signature(function).parameters.values()
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(test, name, getattr(function, name))
    vars(test)["__signature__"] = inspect.Signature([backend, *own])
    vars(test)["pytestmark"] = getattr(function, "pytestmark", [])
    parametrized: Callable[..., None] = pytest.mark.parametrize("backend", ["asyncio", "trio"])(test)
    return parametrized
