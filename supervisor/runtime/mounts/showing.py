"""What `inspect` tells of a container's mounts, as Podman does: a tmpfs among the host's settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.inspect import InspectMount
from pyman.mounttext import PROPAGATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.oci.mounted import Mounted
    from supervisor.oci.request import BuildRequest

__all__ = ["binds", "mounts", "tmpfs"]

_MEMORY = ("tmpfs", "ramfs")


def mounts(request: BuildRequest) -> list[InspectMount]:
    return [_shown(each, request) for each in request.mounted if each.kind != "tmpfs"]


def _shown(each: Mounted, request: BuildRequest) -> InspectMount:
    if each.kind == "image":
        return InspectMount(
            type="image",
            source=each.name,
            destination=each.destination,
            rw=each.read_write,
            sub_path=each.sub_path,
        )
    is_volume = each.kind == "volume"
    return InspectMount(
        type={"overlay": "bind"}.get(each.kind, each.kind),
        name=each.source if is_volume else "",
        source=request.volumes.get(each.source, "") if is_volume else each.source or each.kind,
        destination=each.destination,
        driver="local" if is_volume else "",
        mode=next((option for option in each.options if option in ("z", "Z")), ""),
        options=_others(each.options) + (["O"] if each.kind == "overlay" else []),
        rw=not each.has("ro"),
        propagation=next((option for option in each.options if option in PROPAGATIONS), ""),
        sub_path=each.sub_path,
    )


def _others(options: Iterable[str]) -> list[str]:
    return [option for option in options if option not in ("ro", "rw", "z", "Z", "nocreate", *PROPAGATIONS)]


def binds(request: BuildRequest) -> list[str]:
    """`SOURCE:DESTINATION[:OPTIONS]`, as --volume has them."""
    found = []
    for each in request.mounted:
        if each.kind in ("bind", "volume", "overlay"):
            options = [option for option in each.options if option != "nocreate"]
            options += ["O"] if each.kind == "overlay" else []
            found.append(":".join(filter(None, (each.source, each.destination, ",".join(options)))))
    return found


def tmpfs(request: BuildRequest) -> dict[str, str]:
    """By destination, the options."""
    return {each.destination: ",".join(each.options) for each in request.mounted if each.kind in _MEMORY}
