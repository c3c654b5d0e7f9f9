"""`io.pyman.Volume`: from the rows of the contract to the book of volumes."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from pyman.api import volume as api
from pyman.api.container import ErrorInfo, ExistsReply
from pyman.api.method import Nothing
from pyman.errors import InvalidArgument, PymanError
from supervisor.rpc.rootfs import actor_of
from supervisor.runtime.many import info_of
from supervisor.runtime.volumes import archives, listing
from supervisor.runtime.volumes.records import Wish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyman.api.event import Actor
    from pyman.api.usage import Pruned
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.services import Services
    from supervisor.runtime.volumes.book import Volumes
    from supervisor.runtime.volumes.entry import Entry

__all__ = ["VolumeHandlers"]

T = TypeVar("T")
Entries = list["Entry"]
Failures = list[tuple[str, PymanError]]
Removed = list[api.RemovedVolume]
Names = list[str]
_TIMEOUT_MOST = 1e9
_disk = trio.CapacityLimiter(2)


class VolumeHandlers:
    """Changes are finished without their caller; archives end with him."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _services(self) -> Services:
        self._engine.check_valid()
        return self._engine.services

    @property
    def _book(self) -> Volumes:
        return self._services.volumes

    async def _finished(self, work: Callable[[], Awaitable[T]]) -> T:
        done: T = await self._engine.background(work).get()
        return done

    # ------------------------------------------------------------------ reading

    async def list(self, request: api.ListVolumesRequest, call: Call) -> api.ListVolumesReply:
        return api.ListVolumesReply(
            [listing.inspected(entry) for entry in listing.selected(self._book, request.filters)]
        )

    async def inspect(self, request: api.InspectVolumesRequest, call: Call) -> api.InspectVolumesReply:
        found, errors = self._chosen(request.names, every=request.all)
        return api.InspectVolumesReply(
            [listing.inspected(entry) for entry in found], [info_of(error) for _, error in errors]
        )

    async def exists(self, request: api.VolumeRequest, call: Call) -> ExistsReply:
        return ExistsReply(exists=request.name in self._book.seen())

    async def reload(self, request: Nothing, call: Call) -> api.ReloadVolumesReply:
        errors: list[ErrorInfo] = []
        for entry in self._book:
            path = entry.definition.mountpoint
            if not await trio.to_thread.run_sync(os.path.isdir, path, limiter=_disk):
                message = f"cannot find the directory '{path}' of volume '{entry.name}'"
                errors.append(ErrorInfo("StorageFailed", message, entry.name))
        return api.ReloadVolumesReply([], [], errors)

    def _chosen(self, names: Names, *, every: bool) -> tuple[Entries, Failures]:
        """Each once, in the order of the names, and why some are not."""
        if every:
            if names:
                raise InvalidArgument("cannot combine names and --all")
            return sorted(self._book.seen().values(), key=lambda entry: entry.name), []
        if not names:
            raise InvalidArgument("cannot tell which volume is meant", hint="give a name")
        found: dict[str, Entry] = {}
        errors: Failures = []
        for name in names:
            try:
                entry = self._book.look_up(name)
                found.setdefault(entry.name, entry)
            except PymanError as error:
                errors.append((name, error))
        return [*found.values()], errors

    # ------------------------------------------------------------------ changing

    async def create(self, request: api.CreateVolumeRequest, call: Call) -> api.CreateVolumeReply:
        wish = Wish(
            name=request.name,
            driver=request.driver,
            labels=request.labels,
            options=request.options,
            uid=request.uid,
            gid=request.gid,
            anonymous=not request.name,
        )
        there = bool(request.name) and self._book.get(request.name) is not None
        create = partial(self._book.create, wish, actor_of(call), ignore=request.ignore)
        entry: Entry = await self._finished(create)
        return api.CreateVolumeReply(entry.name, created=not there)

    async def remove(self, request: api.RemoveVolumesRequest, call: Call) -> api.RemovedVolumesReply:
        timeout = request.timeout
        if timeout is not None and not 0 <= timeout <= _TIMEOUT_MOST:
            raise InvalidArgument(f"cannot wait {timeout:g} s before SIGKILL")
        if timeout is not None and not request.force:
            raise InvalidArgument("cannot use a time without force")
        found, errors = self._chosen(request.names, every=request.all)
        work = partial(self._remove, found, request, actor_of(call))
        removed: Removed = await self._finished(work)
        missing = [api.RemovedVolume(name, error=info_of(error)) for name, error in errors]
        return api.RemovedVolumesReply([*removed, *missing])

    async def _remove(self, entries: Entries, request: api.RemoveVolumesRequest, actor: Actor) -> Removed:
        results = []
        for entry in entries:
            try:
                if request.force:
                    await self._book.remove_used(entry, request.timeout, actor)
                else:
                    await self._book.remove(entry, actor)
                results.append(api.RemovedVolume(entry.name))
            except PymanError as error:
                results.append(api.RemovedVolume(entry.name, error=info_of(error)))
        return results

    async def prune(self, request: api.PruneVolumesRequest, call: Call) -> api.RemovedVolumesReply:
        entries = listing.selected(self._book, request.filters, listing.PRUNE_FILTERS)
        used = self._book.used()
        chosen = [
            entry
            for entry in entries
            if entry.name not in used and (request.all or entry.definition.anonymous)
        ]
        from supervisor.runtime.pruning import prune_volumes

        work = partial(prune_volumes, self._services, chosen, actor_of(call), dry_run=request.dry_run)
        pruned: list[Pruned] = await self._finished(work)
        return api.RemovedVolumesReply([api.RemovedVolume(one.id, one.size, one.error) for one in pruned])

    # ------------------------------------------------------------------ archives

    async def export(self, request: api.VolumeRequest, call: Call) -> Nothing:
        out = self._descriptor(call, "export to")
        try:
            await archives.pack(self._book, self._book.look_up(request.name), out)
        finally:
            os.close(out)
        return Nothing()

    async def import_(self, request: api.VolumeRequest, call: Call) -> Nothing:
        source = self._descriptor(call, "import from")
        try:
            entry = self._book.look_up(request.name)
            await archives.unpack(self._book, entry, source, rootless=self._services.settings.rootless)
        finally:
            os.close(source)
        return Nothing()

    def _descriptor(self, call: Call, doing: str) -> int:
        descriptors = call.take_descriptors()
        if len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise InvalidArgument(f"cannot {doing} {len(descriptors)} descriptors: it takes one")
        return descriptors[0]

    # ------------------------------------------------------------------ mounting

    async def mount(self, request: api.VolumeRequest, call: Call) -> api.MountVolumeReply:
        entry = self._book.look_up(request.name)
        work = partial(self._book.mount_lasting, entry, actor_of(call))
        return api.MountVolumeReply(await self._finished(work))

    async def unmount(self, request: api.UnmountVolumeRequest, call: Call) -> Nothing:
        entry = self._book.look_up(request.name)
        await self._finished(partial(self._book.unmount_lasting, entry, actor_of(call), force=request.force))
        return Nothing()
