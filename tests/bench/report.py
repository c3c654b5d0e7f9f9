"""What a row of the table is: figures, the limit they are held against, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Limit", "Result", "table"]

HEAD = ("row", "what", "pyman", "peer", "ratio", "limit", "result")


@dataclass(frozen=True)
class Limit:
    """`times`: the bound is a factor of the peer's figure. `least`: more is better. `open`: the bound itself
    is too much already."""

    bound: float
    times: bool = False
    least: bool = False
    open: bool = False

    def met(self, value: float) -> bool:
        if self.least:
            return value >= self.bound
        return value < self.bound if self.open else value <= self.bound

    def text(self, unit: str) -> str:
        sign = "≥" if self.least else "<" if self.open else "≤"
        return f"{sign} {self.bound:g} ×" if self.times else f"{sign} {self.bound:g} {unit}".rstrip()


@dataclass(frozen=True)
class Result:
    """One line. Figures are in `unit`; without a limit the line is there to be read only."""

    row: str
    what: str
    unit: str
    pyman: float
    peer: float | None = None
    peer_name: str = "Podman"
    limit: Limit | None = None
    samples: Sequence[float] = field(default=(), repr=False)

    @property
    def ratio(self) -> float | None:
        return self.pyman / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        """None: nothing is asked for, or there was nothing to compare with."""
        if self.limit is None:
            return None
        if not self.limit.times:
            return self.limit.met(self.pyman)
        return None if self.ratio is None else self.limit.met(self.ratio)

    def cells(self) -> tuple[str, ...]:
        peer = "–" if self.peer is None else f"{_number(self.peer)} {self.unit}"
        if self.peer is not None and self.peer_name != "Podman":
            peer = f"{peer} ({self.peer_name})"
        return (
            self.row,
            self.what,
            f"{_number(self.pyman)} {self.unit}".rstrip(),
            peer.rstrip(),
            "–" if self.ratio is None else f"{self.ratio:.2f}",
            "–" if self.limit is None else self.limit.text(self.unit),
            {True: "pass", False: "falls short", None: "–"}[self.met],
        )


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value)}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results: Sequence[Result], *, markdown: bool) -> str:
    lines = [HEAD, *(result.cells() for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    rows = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    if not markdown:
        return "\n".join("  ".join(cells).rstrip() for cells in rows)
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
