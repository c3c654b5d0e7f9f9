"""Options of `run` and `create` that people know from Podman and that are not there: each is refused with its reason."""

from __future__ import annotations

from pyman.cli.options import REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.options import Option

__all__ = ["LATER_OPTIONS"]

LATER_OPTIONS: tuple[Option, ...] = (
    ("init-ctr", "", REFUSED, "MODE", "there are no pods yet"),
    ("permissive", "", REFUSED, "", "it is about encrypted or signed images, which are not read"),
    ("pod", "", REFUSED, "POD", "there are no pods yet"),
    ("pod-id-file", "", REFUSED, "FILE", "there are no pods yet"),
)
