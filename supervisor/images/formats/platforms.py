"""For which machine an image is: what this one takes, and which member of a list that is.

The order of preference is that of other container engines: an exact variant first, then those that it can run, then
none; without a wish none first, then from the most capable one down.
"""

from __future__ import annotations

import os
import platform as host
from typing import TYPE_CHECKING

from pyman.api.image import Platform
from pyman.errors import InvalidArgument, NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.images.formats.config import ImageConfig
    from supervisor.images.formats.manifests import Index, Member

__all__ = ["choose", "local", "matches", "normalized", "parse", "spoken", "wanted"]

_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv8l": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
    "armv5tel": "arm",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "mips64": "mips64",
    "loongarch64": "loong64",
}
_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "loongarch64": "loong64",
}
_ARM_VARIANTS = {
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
_COMPATIBLE = {"arm": ("v8", "v7", "v6", "v5"), "arm64": ("v8",), "amd64": ("v4", "v3", "v2", "v1")}
"""From the most capable to the most compatible one."""
_CHOSEN_UNASKED = ("arm", "arm64")
"""Where a member with a variant may be taken though none was asked for; of amd64 it might not run here."""
_ARM_GENERATIONS = {"armv5tel": "v5", "armv6l": "v6", "armv7l": "v7", "armv8l": "v8", "aarch64": "v8"}


def local() -> Platform:
    """This machine. The variant only where there are several that do not run each other's programs."""
    machine = os.uname().machine
    variant = _ARM_GENERATIONS.get(machine, "")
    return Platform(os=host.system().lower(), arch=_MACHINES.get(machine, machine), variant=variant)


def normalized(platform: Platform) -> Platform:
    """Go's words for what people write: `x86_64`, `aarch64`, `armhf`."""
    arch, variant = platform.arch.lower(), platform.variant.lower()
    if arch in _ARM_VARIANTS:
        arch, implied = _ARM_VARIANTS[arch]
        variant = variant or implied
    arch = _ALIASES.get(arch, arch)
    if arch == "arm" and variant.isdecimal():
        variant = f"v{variant}"
    if (arch, variant) == ("arm64", "8"):
        variant = "v8"
    return Platform(os=platform.os.lower(), arch=arch, variant=variant)


def parse(text: str) -> Platform:
    """`OS/ARCH[/VARIANT]`, or `OS` alone. InvalidArgument."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidArgument(
            f"cannot use the platform '{text}'", subject=text, hint="as in linux/arm64, or linux/arm/v7"
        )
    return normalized(Platform(*parts))


def spoken(platform: Platform) -> str:
    return "/".join(part for part in (platform.os, platform.arch, platform.variant) if part)


def wanted(platform: Platform) -> list[Platform]:
    """What is acceptable, the best first; what is not said is this machine's."""
    asked, here = normalized(platform), local()
    arch = asked.arch or here.arch
    variant = asked.variant or ("" if asked.arch else here.variant)
    ladder = _COMPATIBLE.get(arch, ())
    if variant:
        below = ladder[ladder.index(variant) :] if variant in ladder else (variant,)
        variants = (*below, "")
    else:
        variants = ("", *(ladder if arch in _CHOSEN_UNASKED else ()))
    return [Platform(asked.os or here.os, arch, each) for each in variants]


def choose(index: Index, platform: Platform, name: str) -> Member:
    """The member of the list for the platform. NotSupported names what there is."""
    found = _first(index.members, wanted(platform))
    if found is not None:
        return found
    there = sorted({str(each.platform) for each in index.members if each.platform.os not in ("", "unknown")})
    best = wanted(platform)[0]
    raise NotSupported(
        f"cannot use '{name}': it is not made for {spoken(best)}",
        subject=name,
        hint=f"there is {', '.join(there[:20])}" if there else "its list names no platform",
    )


def _first(members: Sequence[Member], acceptable: Sequence[Platform]) -> Member | None:
    for each in acceptable:
        for member in members:
            there = normalized(
                Platform(member.platform.os, member.platform.architecture, member.platform.variant)
            )
            if there == each:
                return member
    return None


def matches(config: ImageConfig, platform: Platform) -> bool:
    """Whether an image is what was asked for; where nothing was, whether it runs here."""
    there = normalized(Platform(config.os, config.architecture, config.variant or ""))
    acceptable = wanted(platform)
    if there in acceptable:
        return True
    # An image that says less than it is: for this machine, if nothing in it says otherwise.
    first = acceptable[0]
    return there.os in ("", first.os) and there.arch in ("", first.arch) and not there.variant
