"""The end of everything that one supervisor has made: containers, mounts, cgroups, state, directories.

For `maintain reset`, with the supervisor's lock held and no supervisor there. Works on what is found on the
machine, whatever the state says or whether it can be read at all. Of what others have made, only images go: all of
the store that no other engine's container uses.
What cannot be ended is named and left, the rest goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING

import trio

from pyman.errors import PymanError
from supervisor.kernel import cgroups, files, mounts, process
from supervisor.logging import log
from supervisor.oci.runtimes import find_runtimes
from supervisor.runtime.life.remains import cgroups_of_run
from supervisor.runtime.networks.programs import helper_start
from supervisor.runtime.networks.wired import ending
from supervisor.runtime.recovery import leftovers
from supervisor.runtime.volumes.ground import Ground
from supervisor.state import offline
from supervisor.storage import fuse, reach
from supervisor.storage.overlay import Overlays
from supervisor.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.oci.runtimes import OciRuntime
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings

__all__ = ["demolish"]


_ID = re.compile(r"[0-9a-f]{64}")
_AT_ONCE = 8
_DEATH = 5.0
"""Seconds for killed processes to be gone."""


async def demolish(settings: Settings, layout: Layout) -> int:
    """Remove it all; how many containers there were."""
    ids = sorted({name for folder in (layout.containers, layout.containers_run) for name in _entries(folder)})
    ids = [name for name in ids if _ID.fullmatch(name)]
    placed = {id: cgroups_of_run(layout, id) for id in ids}
    await _end_containers(settings, ids)
    await _kill([found.pid for found in leftovers.monitors(layout)], lambda: _monitors(layout))
    if not await trio.to_thread.run_sync(helper_start.end_all, layout):
        log.warning("cannot end the helpers of networks")
    for id in ids:
        # In one of these there is only what was ours.
        inside = f"/pyman/ctr-{id}"
        await _kill(cgroups.pids(inside), lambda path=inside: set(cgroups.pids(path)))  # type: ignore[misc]
        for path in (inside, *placed[id]):
            cgroups.remove(path)
    for id in reach.shown(layout).values():
        with _named("hide", id):
            reach.hide(layout, id)
    for tree in (layout.tmp, layout.static):
        for target in sorted(mounts.mounts_below(tree), key=len, reverse=True):
            with _named("unmount", target):
                mounts.unmount(target, lazy=True)
    served = fuse.servers(layout.containers_run)
    await _kill([ref.pid for ref in served.values()], lambda: {ref.pid for ref in served.values()})
    await _remove_volumes(layout)
    await _empty_store(settings, layout)
    if not settings.rootless and os.path.exists(layout.database):  # a user's bridges end with their namespace
        with _named("end", "networks"):
            await trio.to_thread.run_sync(ending.end_all, layout.database, layout.sockets)
    offline.reset(layout.database, layout.lock_file)
    await _remove_directories(layout)
    return len(ids)


async def _remove_volumes(layout: Layout) -> None:
    """Those that are this engine's, as the files beside their data say."""
    ground = Ground(layout)
    for name in ground.own():
        with _named("remove volume", name):
            ground.take_away(name)
    for path in ground.left(frozenset()):
        with _named("remove", path):
            await files.remove_tree(path)
    ground.tidy()


async def _end_containers(settings: Settings, ids: list[str]) -> None:
    """By the OCI runtimes, which know what belongs to a container; those that do not know it say so."""
    try:
        available = (await find_runtimes(settings.engine, environment=settings.child_environment)).available
    except PymanError as error:
        log.warning("no OCI runtime to end containers with", error=str(error))
        return
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def end(runtime: OciRuntime, id: str) -> None:
        async with limiter:
            with _named("end", id):
                await runtime.delete(id, force=True)

    async with trio.open_nursery() as nursery:
        for id in ids:
            for runtime in available.values():
                nursery.start_soon(end, runtime, id)


def _monitors(layout: Layout) -> set[int]:
    return {found.pid for found in leftovers.monitors(layout)}


async def _kill(pids: list[int], still: Callable[[], set[int]]) -> None:
    """SIGKILL. `still` is asked once the process is held by a descriptor: its pid may have changed hands."""
    with contextlib.ExitStack() as stack:
        held = []
        for pid in pids:
            ref = process.ref_of(pid)
            pidfd = process.open_pidfd(ref) if ref is not None else None
            if pidfd is not None:
                held.append(stack.enter_context(pidfd))
        present = still() if held else set()
        with trio.move_on_after(_DEATH):
            for pidfd in held:
                if pidfd.ref.pid in present:
                    pidfd.send_signal(signal.SIGKILL)
            for pidfd in held:
                if pidfd.ref.pid in present:
                    await pidfd.wait()


async def _empty_store(settings: Settings, layout: Layout) -> None:
    store = Store(layout, settings, Overlays(settings, layout))
    try:
        with _named("empty", layout.graph_root):
            store.remove_strangers(())
            for image in store.images():
                with _named("remove", image.id):
                    store.delete_image(image.id)
            await store.sweep()
    finally:
        store.close()


async def _remove_directories(layout: Layout) -> None:
    """The static directory is pyman's as a whole; the one for temporary files may be anybody's."""
    made = (
        layout.containers_run,
        layout.helpers,
        layout.names,
        layout.probes,
        layout.sandbox,
        layout.socket_dir,
        layout.exits,
        layout.alive,
        layout.reaped,
        layout.owner,
    )
    for path in made:
        with _named("remove", path):
            await files.remove_tree(path)
    with contextlib.suppress(OSError):
        os.rmdir(layout.tmp)
    for name in _entries(layout.static):
        path = f"{layout.static}/{name}"
        if path != layout.supervisor_lock:
            with _named("remove", path):
                await files.remove_tree(path)
    with contextlib.suppress(OSError):
        os.unlink(layout.supervisor_lock)
        os.rmdir(layout.static)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _named(verb: str, what: str) -> Iterator[None]:
    """Log a failure of what stands in it, and go on."""
    try:
        yield
    except (PymanError, OSError) as error:
        log.warning("left as it is", wanted=verb, what=what, error=str(error))
