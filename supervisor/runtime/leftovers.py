"""What an earlier supervisor left that no record names: monitors, mounts, directories.

Runs once at start, before any worker, in a thread. It removes only what lies in pyman's own directories,
and ends only conmon processes that have their bundle there.
"""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING, NamedTuple

import structlog

from supervisor.kernel import cgroups, mounts, process
from supervisor.runtime.body import conmon_cgroup, remove_small_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from supervisor.kernel.process import ProcessRef
    from supervisor.settings.layout import Layout

__all__ = ["FoundMonitor", "clear", "monitors"]

log = structlog.get_logger(__name__)


class FoundMonitor(NamedTuple):
    """A conmon of this supervisor; `exec_id` is empty for a container's own."""

    pid: int
    container: str
    exec_id: str


def monitors(layout: Layout) -> Iterator[FoundMonitor]:
    """Every conmon whose bundle lies in this supervisor's run directory, of containers and of exec sessions."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                arguments = file.read(65536).decode("utf-8", "surrogateescape").split("\0")
        except OSError:
            continue
        # The OCI runtime is given the bundle as well, conmon alone the version of its protocol.
        if "--api-version" not in arguments:
            continue
        if not _value(arguments, "-b", "--bundle").startswith(f"{layout.containers_run}/"):
            continue
        container, unit = _value(arguments, "-c", "--cid"), _value(arguments, "-u", "--cuuid")
        yield FoundMonitor(int(name), container, unit if unit != container else "")


def _value(arguments: list[str], *options: str) -> str:
    for option in options:
        if option in arguments[:-1]:
            return arguments[arguments.index(option) + 1]
        for argument in arguments:
            if argument.startswith(f"{option}="):
                return argument.partition("=")[2]
    return ""


def clear(layout: Layout, known: Mapping[str, ProcessRef | None], executing: AbstractSet[str]) -> None:
    """`known`: recorded containers and their monitors; `executing`: recorded exec sessions."""
    for found in monitors(layout):
        if found.exec_id:
            wanted = found.exec_id in executing
        else:
            recorded = known.get(found.container)
            wanted = recorded is not None and recorded.pid == found.pid
        if not wanted:
            log.warning("ending a conmon that no record names", pid=found.pid, container=found.container)
            _end(found.pid, layout)
    for folder in (layout.containers_run, layout.containers):
        for entry in _entries(folder):
            if entry not in known:
                log.info("removing what is left of a container", container=entry)
                _remove(layout, folder, entry)


def _end(pid: int, layout: Layout) -> None:
    ref = process.ref_of(pid)
    pidfd = process.open_pidfd(ref) if ref is not None else None
    if pidfd is not None:
        with pidfd:
            # Looked at again through the descriptor: the pid may have changed hands.
            if any(found.pid == pid for found in monitors(layout)):
                pidfd.send_signal(signal.SIGKILL)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _remove(layout: Layout, folder: str, id: str) -> None:
    try:
        if folder == layout.containers_run:
            mounts.unmount(layout.container_rootfs(id), lazy=True)
            cgroups.remove(conmon_cgroup(id))
            remove_small_tree(f"{folder}/{id}")
        else:
            os.rename(f"{folder}/{id}", f"{layout.trash}/{uuid.uuid4().hex}")
    except OSError as error:
        log.warning("cannot remove what is left of a container", container=id, error=str(error))
