"""What a run of a container leaves behind, and how it is taken away."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.kernel import cgroups
from supervisor.oci import ahead

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from supervisor.settings.layout import Layout

__all__ = ["cgroups_of_run", "conmon_cgroup", "remove_run"]


MOUNT_POINTS = frozenset({"rootfs", "lower", "mounts"})
"""Of a run directory, or directories of them, which are empty once nothing is mounted."""


def conmon_cgroup(id: str) -> str:
    """conmon lives in a cgroup of its own, so that a restart of the service cannot take it."""
    return f"/pyman/conmon-{id}"


def cgroups_of_run(layout: Layout, id: str) -> list[str]:
    """The container's and its monitor's, as far as what is in the run directory tells."""
    found = [conmon_cgroup(id)]
    with (
        suppress(OSError, ValueError, KeyError),
        open(f"{layout.container_bundle(id)}/config.json", "rb") as file,
    ):
        path = str(json.load(file)["linux"]["cgroupsPath"])
        if path.startswith("/"):
            found += [f"{os.path.dirname(path)}/conmon-{id}", path]
    return found


def remove_run(layout: Layout, id: str, *, held: bool = False) -> None:
    """What a run of a container had in the run directory, with the cgroups of exec sessions that could not be
    forgotten: their directories are all that still names them. `held`: the root filesystem stays mounted there."""
    with suppress(FileNotFoundError):
        for exec_id in os.listdir(os.path.dirname(layout.exec_run(id, "-"))):
            cgroups.remove(conmon_cgroup(exec_id))
    ahead.let_go(layout.container_bundle(id))
    remove_small_tree(layout.container_run(id), MOUNT_POINTS if held else frozenset())


def remove_small_tree(path: str, kept: AbstractSet[str] = frozenset()) -> None:
    """Remove a directory of the run directory: a handful of files, and at most one level of directories.

    Never crosses a mount and never follows a link; a mount that is left makes it fail. `kept`: names of what stays in
    it.
    """
    try:
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
        return
    for entry in entries:
        with suppress(FileNotFoundError):  # an exec session that ends removes its own
            if entry.name in kept:
                continue
            if entry.name in MOUNT_POINTS:
                os.rmdir(entry.path)  # a mount point: never entered, whatever is still mounted there
            elif entry.is_dir(follow_symlinks=False):
                remove_small_tree(entry.path)
            else:
                os.unlink(entry.path)
    if not kept:
        with suppress(FileNotFoundError):
            os.rmdir(path)
