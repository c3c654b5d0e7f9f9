"""How a container is created: named, checked, defined and recorded together with what it needs, or not at all."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import outcome
import trio

from pyman.errors import NoSuchContainer, PymanError
from pyman.names import EventStatus
from supervisor.kernel.idmaps import IdMaps
from supervisor.logging import log
from supervisor.oci import build
from supervisor.runtime.answers import in_background
from supervisor.runtime.container import Container
from supervisor.runtime.creation import sharing, userns
from supervisor.runtime.creation.defining import define, new_id
from supervisor.runtime.creation.words import random_name
from supervisor.runtime.dependencies import needs_of
from supervisor.runtime.life import requests as rq
from supervisor.runtime.mounts.sources import bound, look_up
from supervisor.runtime.networks.creation import wishes
from supervisor.runtime.records import Observed, encode, replaced
from supervisor.runtime.registry import check_name
from supervisor.runtime.rootfs.layers import Layering
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.specs import build_request
from supervisor.state.database import PutRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyman.api.event import Actor
    from pyman.api.spec import Caller, ContainerSpec, PortMapping
    from supervisor.runtime.creation.imaged import Chosen
    from supervisor.runtime.mounts.sources import Sources
    from supervisor.runtime.records import Definition
    from supervisor.runtime.registry import Entry, Registry
    from supervisor.runtime.secrets.choosing import Chosen as ChosenSecrets
    from supervisor.runtime.services import Services
    from supervisor.runtime.volumes.book import Batch
    from supervisor.state.locks import Locks
    from supervisor.storage.rootfs import Layers

__all__ = ["Creation"]

NO_MAPS = IdMaps()


class Creation:
    """Of all containers of an engine, several at once."""

    def __init__(
        self,
        services: Services,
        registry: Registry,
        locks: Locks,
        nursery: trio.Nursery,
        entry_of: Callable[[Container], Entry],
    ) -> None:
        """`nursery`: of the workers. `entry_of`: a container with a worker that does not run yet."""
        self._services = services
        self._registry = registry
        self._locks = locks
        self._nursery = nursery
        self._entry_of = entry_of
        self._joining: dict[str, tuple[set[str], str]] = {}
        """Containers that are being created: by id, what they depend on, and their names."""
        self._publishing: dict[str, list[PortMapping]] = {}
        """The same, with their ports."""
        self._choosing = trio.Lock()
        """For one of them at a time free ports are looked for."""

    async def create(
        self,
        spec: ContainerSpec,
        caller: Caller,
        actor: Actor | None,
        *,
        replace: bool,
        image: Chosen | None = None,
    ) -> Entry:
        """Define a container: its name is taken and its record committed, nothing else exists yet. With an image, its
        layer in the store is being made (`complete`)."""
        namespace = spec.namespace or self._services.settings.engine.namespace
        view = self._registry.within(namespace)
        needs = self._services.dependencies.resolve(spec, view, replaces=replace)
        spec = await wishes.settle(self._services, spec, _exposed(image))
        if replace and spec.name:
            await self._replace(spec.name, actor)
        id = new_id()
        name = spec.name or random_name(self._registry.taken)
        spec = replaced(spec, namespace=namespace)
        check_name(name)
        self._registry.reserve(name, id)
        self._services.ids.open(id)
        lock: int | None = None
        layer: Layering | None = None
        secrets: ChosenSecrets | None = None
        try:
            lock = self._locks.allocate()
            spec = await self._with_ports(id, spec)
            if spec.secrets or spec.secret_env:
                secrets = await self._services.choose_secrets(spec)
                spec = secrets.spec
            owners = sharing.owners(view, spec, self._services.settings)
            sources = await look_up(self._services.images, view, spec)
            work = partial(self._defined, id, name, lock, spec, caller, owners, image, sources)
            if image is not None and not userns.has_own(spec, self._services.settings):
                layer = self._layer(id, image)
            definition = await self._settled(spec, image, work)
            if image is not None:
                layer = layer or self._layer(id, image, definition.userns.maps)
            definition = replaced(definition, needs=needs) if needs else definition
            definition = secrets.taken(definition) if secrets is not None else definition
            self._join(definition)
            container = Container(definition, Observed())
            container.layer = layer
            entry = self._entry_of(container)
            if secrets is not None:
                await secrets.keep(id)
            await self._record(entry, lock, actor)
        except BaseException:
            self._registry.release(name, id)
            self._services.ids.release(id)
            self._locks.release(lock)
            if secrets is not None:
                await secrets.drop()
            if layer is not None:
                await self._unlayer(id, layer)
            raise
        finally:
            self._joining.pop(id, None)
            self._publishing.pop(id, None)
        self._nursery.start_soon(entry.worker.run, trio.Event())
        return entry

    async def _with_ports(self, id: str, spec: ContainerSpec) -> ContainerSpec:
        """With free ports of the host where it names none. NetworkFailed, PermissionDenied."""
        mappings = spec.portmappings
        if not mappings:
            return spec
        if not all(mapping.host_port for mapping in mappings):
            from supervisor.runtime.networks.creation import publishing

            async with self._choosing:
                others = [entry.container.definition.spec.portmappings for entry in self._registry]
                known = [*chain(*others, *self._publishing.values())]
                choose = partial(publishing.chosen, mappings, known)
                mappings = await trio.to_thread.run_sync(choose, limiter=self._services.disk)
                self._publishing[id] = mappings
        else:
            self._publishing[id] = mappings
        return replaced(spec, portmappings=mappings)

    async def _record(self, entry: Entry, lock: int, actor: Actor | None) -> None:
        """A container, together with the volumes that are made for it."""
        container, definition = entry.container, entry.container.definition
        record = PutRecord(
            "container", container.id, container.name, lock, encode(definition), encode(container.observed)
        )
        event = container.event(EventStatus.CREATE, actor)
        async with (
            wishes.locked(self._services, definition.spec),
            self._services.volumes.joined(definition.spec, actor) as volumes,
        ):
            await self._services.database.commit(
                [record, *volumes.changes],
                [*volumes.events, event],
                durable=True,
                apply=lambda _events: self._add_new(entry, volumes),
            )

    def _add_new(self, entry: Entry, volumes: Batch) -> None:
        volumes.apply()
        self._registry.add(entry)

    def _layer(self, id: str, image: Chosen, maps: IdMaps = NO_MAPS) -> Layering:
        """Begin to make the layer of a container. Most of what a start has to do can be done meanwhile."""
        layering = Layering()

        def placed(directories: Layers) -> None:
            trio.from_thread.run_sync(layering.placed.give, directories)

        async def work() -> None:
            make = partial(self._services.layers.make, id, image.id, image.name, maps, placed)
            done = await outcome.acapture(trio.to_thread.run_sync, make, limiter=self._services.patient)
            if isinstance(done, outcome.Error) and isinstance(done.error, Exception):
                layering.placed.fail(done.error)
            layering.placed.give(None)
            done.unwrap()

        layering.recorded = in_background(self._nursery, work)
        return layering

    async def complete(self, entry: Entry, actor: Actor | None) -> None:
        """Once this has returned, everything is there of a container that was created. Where its layer could not be
        made, nothing is there any more, and why is raised."""
        layer = entry.container.layer
        if layer is None:
            return
        try:
            await layer.recorded.get()
            entry.container.layer = None
        except PymanError:
            with suppress(NoSuchContainer):
                await entry.worker.ask(rq.Remove(force=True, timeout=0, volumes=True, actor=actor))
            raise

    async def _unlayer(self, id: str, layer: Layering) -> None:
        """Of a container that was not made after all."""
        with trio.CancelScope(shield=True):
            remove = partial(self._services.layers.remove, id)
            try:
                with suppress(PymanError):
                    await layer.recorded.get()
                await trio.to_thread.run_sync(remove, limiter=self._services.patient)
            except PymanError as error:
                log.warning("cannot remove a layer", container=id, error=str(error))

    async def _settled(
        self, spec: ContainerSpec, image: Chosen | None, work: Callable[[], Definition]
    ) -> Definition:
        """The definition, made where a file system that does not answer holds up nobody else. DeadlineExceeded."""
        settings = self._services.settings
        seconds = settings.pyman.call_deadline
        if image is None:
            return await look_into(spec.rootfs, work, seconds)
        if path := bound(settings, spec):
            return await look_into(path, work, seconds, "what is to be mounted,")
        return await trio.to_thread.run_sync(work, limiter=self._services.disk)

    def _defined(
        self,
        id: str,
        name: str,
        lock: int,
        spec: ContainerSpec,
        caller: Caller,
        owners: Mapping[str, Definition],
        image: Chosen | None,
        sources: Sources,
    ) -> Definition:
        """The definition. What cannot be built is refused now, before anything is made."""
        if image is None:
            definition = define(self._services, id, name, lock, spec, caller, owners, sources=sources)
            build.build(build_request(self._services, definition, spec.rootfs))
            return definition
        spec, use = image.taken(spec, self._services.settings.engine.image_volume_mode)
        definition = define(self._services, id, name, lock, spec, caller, owners, use, sources)
        build.build(build_request(self._services, definition, ""))
        return definition

    def _join(self, definition: Definition) -> None:
        """From here on the containers that it depends on cannot be removed. NoSuchContainer: one just was."""
        needed = {need.id for need in needs_of(definition)}
        if not needed:
            return
        for id in needed:
            found = self._services.find(id)
            if found is None or found.observed.leaving:
                raise NoSuchContainer(f"cannot depend on container {id[:12]}: it was removed")
        self._joining[definition.id] = needed, definition.name

    def names_of_dependents(self, id: str) -> list[str]:
        known = [entry.container.name for entry in self._services.dependencies.dependents(id)]
        return known + [name for needed, name in self._joining.values() if id in needed]

    async def _replace(self, name: str, actor: Actor | None) -> None:
        try:
            existing = self._registry.within("").find(name)
        except NoSuchContainer:
            return
        if existing.container.name == name:
            await existing.worker.ask(rq.Remove(force=True, timeout=0, actor=actor))


def _exposed(image: Chosen | None) -> list[str]:
    """The ports of its image."""
    return [] if image is None else sorted(image.config.exposed_ports or {})
