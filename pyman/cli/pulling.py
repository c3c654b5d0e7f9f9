"""The pull of a container's image, within the call that makes the container: shown as `pull` shows it, on standard error.

What draws is imported when there is something to draw: nearly always the image is there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    from pyman.cli.transfer import Display

__all__ = ["Pulling"]


class Pulling:
    """To be left as a context, whatever happens."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._display: Display | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, parameters: Mapping[str, Any]) -> None:
        """A reply's parameters, whatever they are of."""
        text, progress = parameters.get("text"), parameters.get("progress")
        if not text and not progress:
            return
        from pyman.cli.transfer import display, show

        if self._display is None:
            self._display = display(quiet=self._quiet)
        show(self._display, parameters)

    def close(self) -> None:
        """Nothing more is shown: the container's own output follows."""
        if self._display is not None:
            self._display.close()
            self._display = None
