"""Options of `run` and `create` that people know from Podman and that are not there: each is refused with its reason."""

from __future__ import annotations

from pyman.cli.options import REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.options import Option

__all__ = ["LATER_OPTIONS"]

_NO_NETWORKS = "there are no networks yet but none and host"

LATER_OPTIONS: tuple[Option, ...] = (
    ("init-ctr", "", REFUSED, "MODE", "there are no pods yet"),
    ("ip", "", REFUSED, "IP", _NO_NETWORKS),
    ("ip6", "", REFUSED, "IP", _NO_NETWORKS),
    ("link-local-ip", "", REFUSED, "IP", _NO_NETWORKS),
    ("mac-address", "", REFUSED, "MAC", _NO_NETWORKS),
    ("network-alias", "", REFUSED, "NAME", _NO_NETWORKS),
    ("permissive", "", REFUSED, "", "it is about encrypted or signed images, which are not read"),
    ("pod", "", REFUSED, "POD", "there are no pods yet"),
    ("pod-id-file", "", REFUSED, "FILE", "there are no pods yet"),
    ("publish", "p", REFUSED, "PORT", _NO_NETWORKS),
    ("publish-all", "P", REFUSED, "", _NO_NETWORKS),
)
