"""Images brought into the stores of other graph roots (`push … containers-storage:[overlay@/srv/store+/run/store]name`).

A store is opened for one push, and two pushes into one store come one after the other. It is written by the rules that
hold for the engine's own: locks, staging, intents; so whoever else uses it finds images that are complete. Which
stores are being written to is recorded in the engine's state, and what a supervisor that was killed has left in them
goes when the next one starts. That an image is there is the last step of a push, and the event that one's.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from pyman.errors import InvalidArgument, NotSupported, PermissionDenied, PymanError
from supervisor.images.traces import Stored
from supervisor.images.transfer.layers import Layers
from supervisor.images.transfer.storing import Storing
from supervisor.logging import log
from supervisor.settings.overlay import overlay_options, unknown_to
from supervisor.settings.values import Unusable
from supervisor.state.changes import DropIntent, PutIntent
from supervisor.storage.overlay import Overlays
from supervisor.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from supervisor.images.deeds import Deed
    from supervisor.images.events import Proof
    from supervisor.images.transports.places import Place
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.state.changes import EventDraft
    from supervisor.state.database import Database
    from supervisor.storage.records import Image

__all__ = ["Elsewhere", "check_driver", "is_own"]

_PREFIX = "store-"
_THREADS = 2
"""Apart from the others: another engine may hold the locks of such a store for long."""
_PATIENCE = 5.0
"""Seconds that the start of the engine waits for one of them."""
_DRIVERS = ("", "overlay", "overlay2")
_OTHER_DRIVERS = ("vfs", "btrfs", "zfs")
_SHARED = ("overlay", "overlay-layers", "overlay-images", "overlay-containers")

T = TypeVar("T")


def is_own(place: Place, layout: Layout) -> bool:
    """Whether a place in a store is in the engine's own."""
    if not place.graph_root:
        return True
    try:
        return os.path.samefile(place.graph_root, layout.graph_root)
    except OSError:
        return False


def check_driver(place: Place) -> None:
    """NotSupported: images are not kept in overlays there."""
    if place.driver not in _DRIVERS:
        raise NotSupported(
            f"cannot push to '{place}': stores of the driver '{place.driver}' are not written to",
            subject=place.driver,
            hint="only those of overlay are",
        )


class _Told:
    """A ledger for one change, which is the last step of a deed."""

    def __init__(self, deed: Deed, root: str, limiter: trio.CapacityLimiter) -> None:
        self._deed = deed
        self._root = root
        self._limiter = limiter

    async def carry_out(self, proof: Proof, _events: Sequence[EventDraft], act: Callable[[], T], /) -> T:
        done: list[T] = []

        async def run() -> None:
            done.append(await trio.to_thread.run_sync(act, limiter=self._limiter))

        await self._deed.carry_out(Stored(self._root, proof), run)
        return done[0]


class Elsewhere:
    """One for an engine. `nursery`: where layers are brought, longer than whoever asks for them."""

    def __init__(self, database: Database, settings: Settings, layout: Layout, nursery: trio.Nursery) -> None:
        self._database = database
        self._settings = settings
        self._layout = layout
        self._nursery = nursery
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._busy: dict[str, trio.Lock] = {}
        """By graph root."""

    @asynccontextmanager
    async def opened(self, place: Place, deed: Deed) -> AsyncIterator[Storing]:
        """The store of a place, to bring an image into; made, if there is none. Whoever leaves the block has left nothing
        half-made there. InvalidArgument, NotSupported, PermissionDenied, StorageFailed, DiskFull."""
        settings = self._settings_for(place)
        root = await self._in_thread(partial(_checked, place))
        async with self._turn(root):
            key = f"{_PREFIX}{secrets.token_hex(16)}"
            await self._database.commit([PutIntent(key, os.fsencode(root))])
            store = self._store(settings, root)
            layers = Layers(
                store, self._limiter, self._nursery, at_once=settings.engine.image_parallel_copies
            )
            layers.closed = True  # what was removed is swept here
            try:
                await self._in_thread(store.undo_transfers)
                yield Storing(store, _Told(deed, place.graph_root, self._limiter), layers)
            finally:
                with trio.CancelScope(shield=True):
                    await self._leave(store)
                    await self._database.commit([DropIntent(key)])

    def images_in(self, root: str) -> list[Image]:
        """What the store of a graph root has. Blocking. StorageFailed, NotSupported."""
        store = self._store(self._settings, os.path.realpath(root))
        try:
            return [image for image in store.images() if not image.read_only]
        finally:
            store.close()

    async def recover(self, intents: Mapping[str, bytes]) -> None:
        """What a supervisor that was killed has left in other stores goes; what cannot be reached is tried again at the
        next start."""
        for key, body in intents.items():
            if not key.startswith(_PREFIX):
                continue
            root = os.fsdecode(body)
            store = self._store(self._settings, root)
            try:
                with trio.move_on_after(_PATIENCE) as patience:
                    undo = partial(_undo, store)
                    await trio.to_thread.run_sync(undo, limiter=self._limiter, abandon_on_cancel=True)
                if patience.cancelled_caught:
                    log.warning("cannot look for leftovers in another image store: it is in use", root=root)
                    continue
                await self._leave(store)
            except PymanError as error:
                log.warning("cannot look for leftovers in another image store", root=root, error=str(error))
                continue
            await self._database.commit([DropIntent(key)])

    async def _leave(self, store: Store) -> None:
        try:
            await store.sweep()
        except PymanError as error:
            log.warning("cannot remove what was taken out of another image store", error=str(error))
        await self._in_thread(store.ground.leave)
        store.close()

    @asynccontextmanager
    async def _turn(self, root: str) -> AsyncIterator[None]:
        lock = self._busy.setdefault(root, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._busy.pop(root, None)

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(act, limiter=self._limiter)

    def _settings_for(self, place: Place) -> Settings:
        """What the place says of its store, and nothing of what storage.conf says of the engine's own."""
        if unknown := unknown_to(place.options):
            raise NotSupported(
                f"cannot push to '{place}': the storage option '{unknown}' is not supported", subject=unknown
            )
        try:
            overlay_options(place.options)
        except Unusable as error:
            raise InvalidArgument(
                f"cannot push to '{place}': the storage option '{error.args[1]}' is not {error}",
                subject=str(place),
            ) from None
        storage = msgspec.structs.replace(self._settings.storage, driver="overlay", options=place.options)
        return msgspec.structs.replace(self._settings, storage=storage)

    def _store(self, settings: Settings, root: str) -> Store:
        """What is mounted, and how often, is no business of whoever only brings images: the run root is one of its own
        and stays empty."""
        own = msgspec.structs.replace(self._layout, graph_root=root).store_own
        theirs = msgspec.structs.replace(
            self._layout, graph_root=root, run_root=f"{own}/run", tmp=f"{own}/mounts"
        )
        # The kernel is asked for an overlay where it would be.
        overlays = Overlays(settings, msgspec.structs.replace(theirs, static=own))
        return Store(theirs, settings, overlays)


def _undo(store: Store) -> None:
    """In a thread that may outlive whoever waits for it."""
    try:
        store.undo_transfers()
    finally:
        store.close()


def _checked(place: Place) -> str:
    """The graph root without links. Blocking. NotSupported: it has another driver. PermissionDenied: it belongs to
    somebody else, who could have what is written there go elsewhere."""
    root = os.path.realpath(place.graph_root)
    if not place.driver and not os.path.isdir(f"{root}/overlay-images"):
        for driver in _OTHER_DRIVERS:
            if os.path.isdir(f"{root}/{driver}-images"):
                raise NotSupported(
                    f"cannot push to '{place}': it is a store of the driver '{driver}'", subject=driver
                )
    for path in (root, *(f"{root}/{name}" for name in _SHARED)):
        try:
            status = os.lstat(path)
        except OSError:
            continue  # it is to be made; what cannot be reached is told then
        if not stat.S_ISDIR(status.st_mode):
            raise InvalidArgument(f"cannot push to '{place}': '{path}' is not a directory", subject=path)
        if status.st_uid != os.geteuid():
            raise PermissionDenied(
                f"cannot push to '{place}': '{path}' belongs to the user {status.st_uid}", subject=path
            )
    return root
