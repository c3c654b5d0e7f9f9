"""What an earlier supervisor left that no record names: monitors, mounts, directories.

`clear` runs once at start, before any worker; `look` and `remove` at any time. All of it blocks: it is called
in a thread. It removes only what lies in pyman's own directories, and ends only conmon processes that have
their bundle there.
"""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import StorageFailed
from supervisor.kernel import cgroups, mounts, process
from supervisor.logging import log
from supervisor.runtime.life.remains import cgroups_of_run, remove_run
from supervisor.storage import fuse, reach, rootfs

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from supervisor.kernel.process import ProcessRef
    from supervisor.settings.layout import Layout

__all__ = ["Found", "FoundMonitor", "clear", "look", "monitors", "remove"]


class FoundMonitor(NamedTuple):
    """A conmon of this supervisor; `exec_id` is empty for a container's own."""

    pid: int
    container: str
    exec_id: str


class Found(NamedTuple):
    """What there is, with the container that each belongs to. `directories`, `mounts` and `servers` (of mounts) by
    their paths."""

    monitors: list[FoundMonitor]
    directories: dict[str, str]
    mounts: dict[str, str]
    servers: dict[str, ProcessRef]

    def without(self, known: Container[str]) -> Found:
        """What belongs to none of these containers."""
        return Found(
            [monitor for monitor in self.monitors if monitor.container not in known],
            {path: id for path, id in self.directories.items() if id not in known},
            {path: id for path, id in self.mounts.items() if id not in known},
            {path: ref for path, ref in self.servers.items() if _id_of(path) not in known},
        )


def look(layout: Layout) -> Found:
    """What there is now. Whoever asks afterwards which containers are known has none that is not: something
    of a container is made only once it is known, and an id is given but once."""
    found = mounts.mounts_below(layout.containers_run)
    return Found(
        list(monitors(layout)),
        {
            **{f"{folder}/{id}": id for folder in _folders(layout) for id in _entries(folder)},
            **reach.shown(layout),
        },
        {
            **{path: os.path.relpath(path, layout.containers_run).partition("/")[0] for path in found},
            **reach.mounted_below(layout),
        },
        fuse.servers(layout.containers_run),
    )


def _id_of(mount_point: str) -> str:
    around, name = os.path.split(os.path.dirname(mount_point))
    return os.path.basename(around) if name == "mounts" else name


def remove(layout: Layout, found: Found) -> None:
    """What can be removed of it."""
    for monitor in found.monitors:
        log.warning("ending a conmon that no record names", pid=monitor.pid, container=monitor.container)
        _end(monitor.pid, layout)
    for id in {*found.directories.values(), *found.mounts.values()}:
        _hide(layout, id)
    for path, id in found.directories.items():
        if not os.path.lexists(path):
            continue
        log.info("removing what is left of a container", container=id)
        _remove(layout, path, id)
    for path, server in found.servers.items():
        log.warning("ending a server of a mount that no record names", pid=server.pid, mount=path)
        process.kill(server)


def monitors(layout: Layout) -> Iterator[FoundMonitor]:
    """Every conmon whose bundle lies in this supervisor's run directory, of containers and of exec sessions."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and (found := _monitor(int(name), layout)) is not None:
            yield found


def _monitor(pid: int, layout: Layout) -> FoundMonitor | None:
    """The process, if it is a conmon of this supervisor."""
    arguments = process.words_of(pid)
    # The OCI runtime is given the bundle as well, conmon alone the version of its protocol.
    if "--api-version" not in arguments:
        return None
    if not _value(arguments, "-b", "--bundle").startswith(f"{layout.containers_run}/"):
        return None
    container, unit = _value(arguments, "-c", "--cid"), _value(arguments, "-u", "--cuuid")
    return FoundMonitor(pid, container, unit if unit != container else "")


def _value(arguments: list[str], *options: str) -> str:
    for option in options:
        if option in arguments[:-1]:
            return arguments[arguments.index(option) + 1]
        for argument in arguments:
            if argument.startswith(f"{option}="):
                return argument.partition("=")[2]
    return ""


def clear(
    layout: Layout, known: Mapping[str, ProcessRef | None], executing: AbstractSet[str]
) -> dict[str, ProcessRef]:
    """`known`: recorded containers and their monitors; `executing`: recorded exec sessions. What serves the mounts
    of recorded containers, by mount point."""
    found = look(layout)

    def stray(monitor: FoundMonitor) -> bool:
        if monitor.exec_id:
            return monitor.exec_id not in executing
        recorded = known.get(monitor.container)
        return recorded is None or recorded.pid != monitor.pid

    strays = [monitor for monitor in found.monitors if stray(monitor)]
    remove(layout, found.without(known)._replace(monitors=strays))
    return {path: ref for path, ref in found.servers.items() if _id_of(path) in known}


def _end(pid: int, layout: Layout) -> None:
    ref = process.ref_of(pid)
    pidfd = process.open_pidfd(ref) if ref is not None else None
    if pidfd is not None:
        with pidfd:
            # Looked at again through the descriptor: the pid may have changed hands.
            if _monitor(pid, layout) is not None:
                pidfd.send_signal(signal.SIGKILL)


def _folders(layout: Layout) -> tuple[str, str]:
    return layout.containers_run, layout.containers


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _hide(layout: Layout, id: str) -> None:
    try:
        reach.hide(layout, id)
    except StorageFailed as error:
        log.warning("cannot remove what is left of a container", container=id, error=str(error))


def _remove(layout: Layout, path: str, id: str) -> None:
    try:
        if path == layout.container_run(id):
            from supervisor.runtime.mounts import staging

            staging.undo(layout, id)
            rootfs.unmount_all(layout, id)
            for cgroup in cgroups_of_run(layout, id):
                cgroups.remove(cgroup)
            remove_run(layout, id)
        else:
            os.rename(path, f"{layout.trash}/{uuid.uuid4().hex}")
    except (OSError, StorageFailed) as error:
        log.warning("cannot remove what is left of a container", container=id, error=str(error))
