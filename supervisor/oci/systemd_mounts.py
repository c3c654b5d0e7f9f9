"""What is mounted in a container in systemd mode, and what systemd reads there.

systemd wants file systems of its own in a few places, and to make cgroups below the container's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.oci.host import this_host
from supervisor.oci.spec import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.oci.placement import Placement
    from supervisor.oci.request import BuildRequest

__all__ = ["systemd_mounts"]

_OWN = ("/run", "/tmp", "/run/lock", "/var/log/journal")  # noqa: S108
_TREE = "/sys/fs/cgroup"
_V1 = f"{_TREE}/systemd"
_FLAGS = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}


def systemd_mounts(request: BuildRequest, chosen: dict[str, str], found: Iterable[Mount]) -> list[Mount]:
    """All of the engine's mounts, from those `found` without this mode. `chosen`: the modes of the namespaces."""
    kept = list(found)
    there = {mount.destination for mount in kept}
    options = ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"]
    if size := request.spec.shm_size_systemd:
        options.append(f"size={size}")
    kept += [Mount(path, "tmpfs", "tmpfs", options) for path in _OWN if path not in there]
    if this_host().unified:
        return [*(mount for mount in kept if mount.destination != _TREE), _whole_tree(chosen)]
    return [*kept, *_named_hierarchy(request.placement, chosen)]


def _whole_tree(chosen: dict[str, str]) -> Mount:
    """Of cgroup v2: with a cgroup namespace its root is the container's own."""
    flags = ["rprivate", "nosuid", "noexec", "nodev", "relatime", "rw"]
    if chosen["cgroup"] == "host":
        return Mount(_TREE, "bind", _TREE, ["bind", *flags])
    return Mount(_TREE, "cgroup", "cgroup", flags)


def _named_hierarchy(placement: Placement, chosen: dict[str, str]) -> list[Mount]:
    """systemd's of cgroup v1, which has no controllers. A mount that is made in a user namespace may not have fewer
    flags than the host's."""
    try:
        flags = os.statvfs(_V1).f_flag
    except OSError:
        return []
    held = [name for name, flag in _FLAGS.items() if flags & flag]
    # With a cgroup namespace systemd takes the root of what it sees for its own.
    source = _V1 if chosen["cgroup"] == "host" else _V1 + _made(placement)
    return [Mount(_V1, "bind", source, ["bind", "rprivate", *held, "rw"])]


def _made(placement: Placement) -> str:
    """The path of the container's cgroup, as the OCI runtime will have made it; empty: it has none."""
    if not placement.systemd:
        return placement.path
    slice_, prefix, id = placement.path.split(":")
    parts = slice_.removesuffix(".slice").split("-")
    above = [f"/{'-'.join(parts[: number + 1])}.slice" for number in range(len(parts))]
    return f"{''.join(above)}/{prefix}-{id}.scope"
