"""What is mounted in a container, as it was settled when it was created; kept in its definition."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pyman.api.spec import NamedVolume

__all__ = ["BINDS", "Mounted", "mounted_volume"]

BINDS = frozenset({"bind", "volume", "overlay", "image"})
"""Kinds for which the OCI runtime binds something that is there on the host."""


class Mounted(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    """bind, volume, overlay, image, tmpfs, ramfs or devpts."""
    destination: str
    source: str = ""
    """A path on the host, the name of a volume, or the id of an image."""
    options: list[str] = []
    """All of them, also those that are not for the OCI runtime."""
    sub_path: str = ""
    name: str = ""
    """Of an image, as it was asked for."""
    read_write: bool = False
    """Of an image."""

    def has(self, option: str) -> bool:
        return option in self.options

    def value(self, key: str) -> str | None:
        """Of `key=value`; None: it is not there. A bare word has an empty value."""
        for option in self.options:
            name, _, value = option.partition("=")
            if name == key:
                return value
        return None

    @property
    def copied_on_write(self) -> bool:
        """What is written to it goes elsewhere."""
        return self.kind == "overlay" or self.has("O") or (self.kind == "image" and self.read_write)

    @property
    def is_link(self) -> bool:
        """A link on the host that is made in the container, too, instead of a mount. Looks at it."""
        return self.kind == "bind" and "no-dereference" in self.options and os.path.islink(self.source)

    @property
    def staged(self) -> bool:
        """The engine makes it ready in the run directory; what is there is bound then."""
        return (
            self.kind in ("overlay", "image")
            or bool(self.sub_path)
            or self.has("O")
            or self.value("idmap") is not None
        )


def mounted_volume(volume: NamedVolume) -> Mounted:
    """One of the spec's: a definition has its volumes there alone."""
    options = volume.options
    if "rbind" not in options and "bind" not in options:
        options = [*options, "rbind", "rprivate", "nodev"]  # of a container that an earlier version has made
    return Mounted("volume", volume.dest, volume.name, options, sub_path=volume.sub_path)
