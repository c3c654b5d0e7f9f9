"""What the clients of the engine's containers, images and the like have in common: calls, filters, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

from pyman.errors import ERRORS, InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import msgspec

    from pyman.api.selection import ErrorInfo
    from pyman.sdk.pool import Pool

__all__ = ["Noun", "listed", "raise_first"]

T = TypeVar("T", bound="msgspec.Struct")


class Noun:
    """Made by the engine."""

    interface: ClassVar[str]
    """Whose methods are called, such as io.pyman.Volume."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def _call(
        self, method: str, request: msgspec.Struct, kind: type[T], descriptors: Sequence[int] = ()
    ) -> T:
        return await self._pool.call(f"{self.interface}.{method}", request, kind, descriptors)


def listed(filters: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Filters as a request has them."""
    return {key: [*values] for key, values in (filters or {}).items()}


def raise_first(errors: Iterable[ErrorInfo | None]) -> None:
    """The first failure there is, as the class that it was."""
    for error in errors:
        if error is not None:
            kind = ERRORS.get(error.code, InternalError)
            raise kind(error.message, subject=error.subject, hint=error.hint)
