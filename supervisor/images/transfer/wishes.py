"""What is asked of a push, and what comes of it for the place that is pushed to. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument
from supervisor.images.formats import manifests as m
from supervisor.images.formats.convert import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.archive.jobs import Compression

__all__ = ["Wish", "check_wish", "compression_for", "level_for"]

LEVELS = {"gzip": (0, 9), "zstd": (1, 22)}


class Wish(msgspec.Struct, frozen=True):
    """What was asked for; what is empty is up to the image and the destination."""

    format: str = ""
    """oci, v2s2."""
    compression: str = ""
    """gzip, zstd, none."""
    level: int | None = None
    force: bool = False
    """Not even what is there already is taken, if it is compressed otherwise."""
    usual: str = ""
    """gzip, zstd: what containers.conf names. It counts where layers are compressed and the manifest has a word for it;
    empty: gzip."""
    usual_level: int | None = None
    """It counts where the compression that is taken has it."""


def check_wish(wish: Wish) -> None:
    """InvalidArgument: it is none that can be granted."""
    if wish.format and wish.format not in FORMATS:
        raise InvalidArgument(f"cannot push in the format '{wish.format}'", hint="oci and v2s2 are known")
    if wish.compression not in ("", "gzip", "zstd", "none"):
        raise InvalidArgument(
            f"cannot compress layers with '{wish.compression}'", hint="gzip, zstd and none are known"
        )
    if wish.compression == "zstd" and wish.format == "v2s2":
        raise InvalidArgument("cannot compress with zstd in the format v2s2", hint="use the format oci")
    if wish.compression == "none":
        if wish.level is not None:
            raise InvalidArgument("cannot compress with a level and not at all")
    else:
        level_for(wish, "zstd" if "zstd" in (wish.compression or wish.usual) else "gzip")


def compression_for(wish: Wish, preferred: str, types: Sequence[str]) -> Compression:
    """What layers are packed with for a place that prefers a compression and takes manifests of these types (none:
    of any)."""
    wanted = wish.compression or preferred
    if wanted == "gzip" and not wish.compression and wish.usual == "zstd":
        has_word = wish.format != "v2s2" and (not types or m.OCI_MANIFEST in types)
        return "zstd" if has_word else "gzip"
    return "none" if wanted == "none" else "zstd" if wanted == "zstd" else "gzip"


def level_for(wish: Wish, compression: Compression) -> int | None:
    """How hard to compress so; None: a quick one. InvalidArgument: there is no level of that number."""
    if compression == "none":
        return None
    low, high = LEVELS[compression]
    if wish.level is not None and not low <= wish.level <= high:
        raise InvalidArgument(
            f"cannot compress with the level {wish.level}",
            hint=f"{compression} has those from {low} to {high}",
        )
    usual = wish.usual_level
    if wish.level is None and usual is not None and low <= usual <= high:
        return usual
    return wish.level
