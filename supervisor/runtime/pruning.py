"""Removal of what nothing uses: containers, images, networks, volumes."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.api.container import Result, Selection
from pyman.api.image import PruneImagesRequest
from pyman.api.network import RemovedNetwork
from pyman.api.usage import Pruned, PruneSystemReply
from pyman.errors import AmbiguousId, InvalidArgument, NoSuchContainer, NoSuchNetwork, PymanError
from pyman.names import State
from supervisor.kernel import files
from supervisor.runtime.life import requests as rq
from supervisor.runtime.many import info_of
from supervisor.runtime.views.sizes import written_by_each
from supervisor.runtime.volumes import listing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyman.api.event import Actor
    from pyman.api.usage import PruneSystemRequest
    from supervisor.runtime.container import Container
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.networks.book import NetworkBook
    from supervisor.runtime.registry import Entry, View
    from supervisor.runtime.services import Services
    from supervisor.runtime.volumes.entry import Entry as VolumeEntry

__all__ = ["prune_containers", "prune_networks", "prune_system", "prune_volumes"]

FILTERS = ("label", "label!", "until")
ROUNDS = 50
"""Of a prune of everything: what one frees, the next one removes."""
_DOWN = (State.CREATED, State.STOPPED, State.EXITED)
_disk = trio.CapacityLimiter(2)


async def prune_containers(
    engine: Engine, view: View, filters: Mapping[str, Sequence[str]], actor: Actor | None
) -> list[Pruned]:
    """Those that do not run and are not about to be started again. InvalidArgument: a filter that there is not."""
    _check(filters)
    selection = Selection(all=True, filters={key: [*values] for key, values in filters.items()})
    chosen = {
        found.container.id: found
        for _, found in view.select(selection)
        if not isinstance(found, PymanError) and _is_down(found.container)
    }
    sizes = await written_by_each(engine.services, [entry.container for entry in chosen.values()])
    reports: dict[str, Pruned] = {}

    async def remove(entry: Entry) -> Result:
        """What depends on it goes before it, if it goes as well."""
        id = entry.container.id
        for other in engine.services.dependencies.dependents(id):
            if other.container.id in chosen:
                await remove(other)
        with suppress(NoSuchContainer):  # somebody else has removed it
            if _is_down(entry.container):
                await entry.worker.ask(rq.Remove(actor=actor, force=False))
                reports[id] = Pruned(id, sizes[id])
        return Result(name="", id=id)

    results = await engine.each(view, selection, remove, keep=lambda container: container.id in chosen)
    failed = [Pruned(each.id, error=each.error) for each in results if each.error is not None]
    return [*reports.values(), *failed]


def _is_down(container: Container) -> bool:
    observed = container.observed
    return observed.state in _DOWN and not observed.restart_at and not observed.leaving


async def prune_volumes(
    services: Services, entries: Sequence[VolumeEntry], actor: Actor | None, *, dry_run: bool = False
) -> list[Pruned]:
    """Those that no container uses, of these."""
    reports: list[Pruned] = []
    for entry in entries:
        measure = partial(files.disk_usage, entry.definition.mountpoint)
        size = await trio.to_thread.run_sync(measure, limiter=_disk)
        error = None
        try:
            if not dry_run and not await services.volumes.remove(entry, actor, pruned=True):
                continue
        except PymanError as problem:
            error = info_of(problem)
        reports.append(Pruned(entry.name, size, error))
    return reports


async def prune_networks(
    book: NetworkBook, filters: Mapping[str, Sequence[str]], actor: Actor | None
) -> list[RemovedNetwork]:
    """Those that no container is on. InvalidArgument: a filter that there is not."""
    from supervisor.runtime.networks.listing import PRUNE_FILTERS, selected

    is_dangling = book.dangling()
    known = (await book.known()).by_name.values()
    reports: list[RemovedNetwork] = []
    for network in filter(is_dangling, selected(known, filters, is_dangling, PRUNE_FILTERS)):
        try:
            await book.remove(network.name, actor)
            reports.append(RemovedNetwork(network.name))
        except (AmbiguousId, NoSuchNetwork):  # somebody else was quicker
            continue
        except PymanError as error:
            reports.append(RemovedNetwork(network.name, info_of(error)))
    return reports


async def prune_system(
    engine: Engine, view: View, request: PruneSystemRequest, actor: Actor | None
) -> PruneSystemReply:
    """Until nothing goes any more. A failure is told once, and hinders nothing else."""
    _check(request.filters)
    kinds: tuple[dict[str, Pruned], ...] = ({}, {}, {}, {})
    for _ in range(ROUNDS):
        rounds = [
            await prune_containers(engine, view, request.filters, actor),
            await _prune_images(engine.services, request, actor),
            await _prune_volumes(engine.services, request, actor) if request.volumes else [],
            await _prune_networks(engine.services, request, actor),
        ]
        gone = False
        for told, found in zip(kinds, rounds, strict=True):
            told.update((each.id, each) for each in found)
            gone = gone or any(each.error is None for each in found)
        if not gone:
            break
    containers, images, volumes, networks = ([*told.values()] for told in kinds)
    freed = sum(each.size for each in (*containers, *images, *volumes) if each.error is None)
    return PruneSystemReply(containers, images, volumes, networks, freed)


async def _prune_images(services: Services, request: PruneSystemRequest, actor: Actor | None) -> list[Pruned]:
    filters = {key: [*values] for key, values in request.filters.items()}
    reply = await services.images.prune(PruneImagesRequest(all=request.all, filters=filters), actor)
    found = [
        Pruned(id, 0 if index else image.size)  # it is that of all of them
        for image in reply.images
        for index, id in enumerate(image.deleted)
    ]
    return found + [Pruned(error.subject, error=error) for error in reply.errors]


async def _prune_volumes(
    services: Services, request: PruneSystemRequest, actor: Actor | None
) -> list[Pruned]:
    book = services.volumes
    entries = listing.selected(book, request.filters, listing.PRUNE_FILTERS)
    used = book.used()
    chosen = [
        entry
        for entry in entries
        if entry.name not in used and (not request.filters or entry.definition.anonymous)
    ]
    return await prune_volumes(services, chosen, actor)


async def _prune_networks(
    services: Services, request: PruneSystemRequest, actor: Actor | None
) -> list[Pruned]:
    try:
        found = await prune_networks(services.networks, request.filters, actor)
    except PymanError as error:  # they cannot even be looked at
        return [Pruned("", error=info_of(error))]
    return [Pruned(each.name, error=each.error) for each in found]


def _check(filters: Mapping[str, Sequence[str]]) -> None:
    for key in filters:
        if key not in FILTERS:
            raise InvalidArgument(f"cannot prune by '{key}'", hint=f"known are {', '.join(FILTERS)}")
