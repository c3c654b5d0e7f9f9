"""What is made of a container's root filesystem while somebody waits for it: an archive, a list of changes, an image.

It is held meanwhile (`mounting`): a run that ends leaves it mounted, and only a forced removal takes it away. Nothing
of it passes through the supervisor.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from pyman.api.rootfs import ChangesReply
from pyman.errors import InvalidArgument, NotSupported, PymanError
from pyman.names import EventStatus, State
from supervisor.archive import jobs
from supervisor.images.committing import Committing, Wish
from supervisor.images.differing import OF_THE_ENGINE
from supervisor.images.names import normalized
from supervisor.kernel.idmaps import IdMaps
from supervisor.logging import log
from supervisor.oci.environment import lasting_environment
from supervisor.oci.etc_files import destinations, traces
from supervisor.oci.namespaces import modes
from supervisor.oci.ports import served
from supervisor.runtime.life import requests as rq
from supervisor.runtime.specs import build_request
from supervisor.storage.rootfs import Layers, is_mapped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pyman.api.event import Actor
    from pyman.api.rootfs import CommitRequest
    from supervisor.runtime.records import Definition
    from supervisor.runtime.registry import Entry
    from supervisor.runtime.services import Services

__all__ = ["changes", "commit", "disk_maps", "export", "held", "layers_of", "unseen_in"]

_FORMATS = ("oci", "docker")


@asynccontextmanager
async def held(entry: Entry) -> AsyncGenerator[str, None]:
    """Where the root filesystem is mounted meanwhile."""
    # Not given up half-way: whoever has asked for it has to give it back. Both have deadlines of their own.
    with trio.CancelScope(shield=True):
        path: str = await entry.worker.ask(rq.Mount(lasting=False))
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True):
            try:
                await entry.worker.ask(rq.Unmount(lasting=False))
            except PymanError as error:
                log.debug("nothing to give back", container=entry.container.id, error=str(error))


async def export(services: Services, entry: Entry, out: int, actor: Actor | None) -> None:
    """Write an archive to a descriptor, with the owners that the container sees. DiskFull, StorageFailed."""
    find = partial(_maps, services, entry.container.definition, on_disk=False)
    async with held(entry) as path:
        maps = await trio.to_thread.run_sync(find, limiter=services.disk)
        await jobs.pack_tree(path, out, uids=maps.uids, gids=maps.gids)
    await services.database.commit([], [entry.container.event(EventStatus.EXPORT, actor)])


def _maps(services: Services, definition: Definition, *, on_disk: bool) -> IdMaps:
    """By which the container's owners are told from those in its layer (`on_disk`), or in its mount; none: they are
    the same."""
    maps, overlays = definition.userns.maps, services.overlays
    shown = definition.image.id or definition.spec.rootfs_overlay or definition.spec.rootfs_idmap
    if not shown or not is_mapped(maps):
        return IdMaps()
    native = overlays.way().native
    if native and not services.settings.rootless:
        return maps
    by_program = not native or (bool(definition.image.id) and bool(overlays.mapper()))
    return maps if by_program and not on_disk else IdMaps()


def disk_maps(services: Services, definition: Definition) -> IdMaps:
    """By which the owners in its own layer are told as the container sees them; none: they are the same."""
    return _maps(services, definition, on_disk=True)


def layers_of(services: Services, definition: Definition) -> Layers:
    if definition.image.id:
        return services.layers.of(definition)
    if definition.spec.rootfs_overlay:
        layout = services.layout
        return Layers([definition.spec.rootfs], layout.container_upper(definition.id), "")
    raise NotSupported(
        f"cannot tell what container '{definition.name}' has changed: its root filesystem is the directory itself",
        subject=definition.name,
    )


async def changes(services: Services, definition: Definition) -> ChangesReply:
    """What the container has changed of its image, or of its directory. NotSupported, StorageFailed."""
    layers = await trio.to_thread.run_sync(partial(layers_of, services, definition), limiter=services.disk)
    find = partial(_mount_points, services, definition, layers)
    points = await trio.to_thread.run_sync(find, limiter=services.disk)
    found = await jobs.changes(layers.upper, layers.lower, points)
    unseen = unseen_in(services, definition)

    def own(paths: list[str]) -> list[str]:
        return [path for path in paths if path not in unseen]

    return ChangesReply(own(found.changed), own(found.added), own(found.deleted))


def unseen_in(services: Services, definition: Definition) -> set[str]:
    """Where in the container something is mounted, which is no change of the container's."""
    unseen = {*OF_THE_ENGINE} | set(definition.image.volumes) | set(_files(services, definition))
    return (
        unseen
        | {each.destination for each in definition.mounted}
        | {each.dest for each in definition.spec.volumes}
    )


def _files(services: Services, definition: Definition) -> list[str]:
    """Where in the container files are mounted that the engine has written."""
    request = build_request(services, definition, "")
    return [place for _, place in destinations(request, modes(request)["network"])]


def _mount_points(services: Services, definition: Definition, layers: Layers) -> list[str]:
    """What is in the container's layer only for the sake of files of the engine's."""
    request = build_request(services, definition, "")
    return traces(request, modes(request)["network"], layers.upper, layers.lower)


async def commit(services: Services, entry: Entry, request: CommitRequest, actor: Actor | None) -> str:
    """The id of the new image. InvalidArgument, NotSupported, DiskFull, StorageFailed. When it is cancelled, nothing
    is left."""
    container = entry.container
    definition = container.definition
    wish = await trio.to_thread.run_sync(partial(_wish, services, definition, request), limiter=services.disk)
    committing = Committing(services.store, services.images.ledger, services.images.limiter)
    event = container.event(EventStatus.COMMIT, actor)
    paused = False
    async with held(entry) as path:
        try:
            if request.pause and container.state is State.RUNNING:
                await entry.worker.ask(rq.Pause(actor=actor))
                paused = True
            layers = await trio.to_thread.run_sync(
                partial(layers_of, services, definition), limiter=services.disk
            )
            root = path if request.squash else layers.upper
            find = partial(_mount_points, services, definition, layers)
            points = await trio.to_thread.run_sync(find, limiter=services.disk)
            image = await committing.commit(wish, root, layers.lower, event, exclude=points)
        finally:
            if paused:
                with trio.CancelScope(shield=True):
                    await _unpause(entry, actor)
    return image.id


async def _unpause(entry: Entry, actor: Actor | None) -> None:
    try:
        await entry.worker.ask(rq.Unpause(actor=actor))
    except PymanError as error:
        log.warning("cannot unpause", container=entry.container.id, error=str(error))


def _wish(services: Services, definition: Definition, request: CommitRequest) -> Wish:
    name = definition.name
    if not definition.image.id:
        raise NotSupported(
            f"cannot commit container '{name}': it is made of a directory, and not of an image",
            subject=name,
            hint="'export' and 'import' make an image of its root filesystem",
        )
    kind = request.format or "oci"
    if kind not in _FORMATS:
        raise InvalidArgument(
            f"cannot make an image of the format '{kind}'", hint=f"known are {', '.join(_FORMATS)}"
        )
    if request.message and kind == "oci":
        raise InvalidArgument(
            "cannot keep a message in an image of OCI's format", hint="use --format docker, or no message"
        )
    maps = _maps(services, definition, on_disk=not request.squash)
    return Wish(
        base=definition.image.id,
        names=(str(normalized(request.image)),) if request.image else (),
        container=definition.id,
        author=request.author,
        message=request.message,
        docker=kind == "docker",
        squash=request.squash,
        changes=tuple(request.changes),
        override=request.config,
        settings=_settings(services, definition, volumes=request.include_volumes),
        command=" ".join([*(definition.spec.entrypoint or []), *definition.spec.command]),
        uids=maps.uids,
        gids=maps.gids,
    )


def _settings(services: Services, definition: Definition, *, volumes: bool) -> dict[str, Any]:
    """What of the container goes into the image's configuration, over that of its own image."""
    spec, image = definition.spec, definition.image
    variables = lasting_environment(build_request(services, definition, ""))
    found: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Entrypoint": spec.entrypoint or None,
        "Cmd": spec.command or None,
        "Labels": spec.labels or None,
        "WorkingDir": spec.work_dir or "/",
        "User": spec.user or None,
        "ExposedPorts": {port: {} for port in served(spec, image)} or None,
    }
    if volumes:
        paths = dict.fromkeys([*image.volumes, *(volume.dest for volume in spec.volumes)])
        found["Volumes"] = {path: {} for path in paths} or None
    return found
