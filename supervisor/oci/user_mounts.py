"""What users had mounted in a container, as its OCI runtime is told."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from supervisor.oci.mounted import BINDS
from supervisor.oci.spec import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.oci.request import BuildRequest

__all__ = ["for_runtime", "place_of", "root_propagation", "source_of", "superseded", "user_mounts"]

_NOT_FOR_RUNTIMES = frozenset(
    {"U", "Z", "copy", "idmap", "no-dereference", "nocopy", "nocreate", "notmpcopyup", "O", "upperdir", "volume-opt", "workdir", "z"}
)  # fmt: skip
_SHARED = ("shared", "rshared")
_SLAVE = ("slave", "rslave")


def user_mounts(request: BuildRequest, owner: tuple[int, int]) -> list[Mount]:
    """`owner`: uid and gid in the container of its command, for a tmpfs that is to be its own."""
    found = []
    for number, each in enumerate(request.mounted):
        if each.is_link:
            continue
        options = for_runtime(each.options)
        if each.kind in BINDS:
            if each.copied_on_write:
                options = ["rbind", "rprivate"]
            elif each.kind == "image":
                options = ["rbind", "rprivate", "nosuid", "nodev", "ro"]
            found.append(Mount(each.destination, "bind", source_of(request, number), options))
            continue
        if each.kind == "tmpfs" and each.has("U"):
            options += [f"uid={owner[0]}", f"gid={owner[1]}"]
        found.append(Mount(each.destination, each.kind, each.kind, options))
    return found


def source_of(request: BuildRequest, number: int) -> str:
    """The path on the host that is bound."""
    each = request.mounted[number]
    if each.staged:
        return place_of(request.run_directory, number)
    return request.volumes[each.source] if each.kind == "volume" else each.source


def place_of(run_directory: str, number: int) -> str:
    """Where the engine makes it ready. `number`: its place among the container's mounts."""
    return f"{run_directory}/mounts/{number}"


def superseded(engines: Sequence[Mount], users: Sequence[Mount]) -> list[Mount]:
    """Both, but for what the engine would mount where a user has something mounted, or below a /dev of the user's."""
    wanted = {mount.destination for mount in users}
    kept = [
        mount
        for mount in engines
        if posixpath.normpath(mount.destination) not in wanted
        and not ("/dev" in wanted and mount.destination.startswith("/dev/"))
    ]
    return [*kept, *users]


def for_runtime(options: Iterable[str]) -> list[str]:
    """Those that an OCI runtime knows."""
    return [option for option in options if option.partition("=")[0] not in _NOT_FOR_RUNTIMES]


def root_propagation(every: Iterable[Sequence[str]]) -> str:
    """What mounts of the container's root directory have to do with the host's, by the options of all its mounts;
    empty: nothing."""
    given = {option for options in every for option in options}
    if given.intersection(_SHARED):
        return "shared"
    return "rslave" if given.intersection(_SLAVE) else ""
