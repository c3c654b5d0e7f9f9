"""What a run of a container needs before its conmon is there: directories, root filesystem, config.json, FIFOs.

Most of it is done in a thread, which may have to wait for a file system of somebody else's, and gives back what it has
made if the start did not wait for it.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import DeadlineExceeded, PymanError, StorageFailed
from supervisor.conmon import exit, logs, spawn
from supervisor.kernel import cgroups, files
from supervisor.kernel.userns import with_maps
from supervisor.logging import log
from supervisor.oci import ahead, build
from supervisor.runtime.answers import with_beside
from supervisor.runtime.creation import userns
from supervisor.runtime.life.reporting import listened_to
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.specs import build_request, placement_of, root_of
from supervisor.runtime.volumes.filling import fill
from supervisor.storage import rootfs
from supervisor.storage.rootfs import Shift

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.kernel.idmaps import IdMaps
    from supervisor.oci.request import UserNamespace
    from supervisor.runtime.container import Container
    from supervisor.runtime.life.joining import Joined
    from supervisor.runtime.networks.wiring import Wiring
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services
    from supervisor.storage.rootfs import Layers

__all__ = ["Preparing"]

COUNT_PATIENCE = 1.0
"""Seconds that a start waits for the store's locks to say that a layer is mounted."""


class Preparation(msgspec.Struct):
    """Shared with the thread that does it."""

    under_way: bool = False
    given_up: bool = False


class Preparing:
    """The body's part that prepares; it holds nothing that could not be made again."""

    def __init__(
        self, services: Services, container: Container, wiring: Wiring, take_back: Callable[[], None]
    ) -> None:
        """`take_back`: gives everything back that was prepared, in a thread."""
        self._services = services
        self._container = container
        self._layout = services.layout
        self._id = container.id
        self._wiring = wiring
        self._take_back = take_back
        self._preparation = Preparation()
        self.joined: Joined | None = None
        """The namespaces that the coming run joins, until it is made."""
        self._placed: Layers | None = None
        """The directories of its layer, where that has just been made."""

    @property
    def under_way(self) -> bool:
        """A thread is at it, whether it is waited for or not."""
        return self._preparation.under_way

    @property
    def _deadline(self) -> float:
        return self._services.settings.pyman.call_deadline

    async def prepare(self) -> None:
        """Directories, root filesystem, config.json, FIFOs. Undone by `clean`; what is made after the deadline,
        by the thread that makes it."""
        definition = self._container.definition
        spec = definition.spec
        secrets = await self._services.secret_values(spec) if spec.secret_env else {}
        if definition.joins:
            from supervisor.runtime.life import joining

            self.part()
            self.joined = await joining.join(self._services, definition)
        await self._services.volumes.mount_all(spec, self._id)
        files_ready = partial(self._in_time, partial(self._prepare, secrets))
        if self._container.observed.attachments:
            await with_beside(files_ready, self._wiring.ground)
        else:
            await files_ready()

    def part(self) -> None:
        """What is joined needs to be held no more: the container has it, or never will."""
        joined, self.joined = self.joined, None
        if joined is not None:
            joined.close()

    async def mount(self) -> str:
        """The root filesystem alone, and where it is. Undone by `clean`."""
        await self._in_time(self._mount)
        await self.registered()
        return self.root()

    def root(self) -> str:
        """Where the root filesystem is that is mounted."""
        return root_of(self._services, self._container.definition)

    async def _in_time(self, step: Callable[[UserNamespace | None, Shift | None], object]) -> None:
        if self._preparation.under_way:
            name = self._container.name
            raise DeadlineExceeded(
                f"cannot start container '{name}': an earlier start still waits for its root filesystem",
                subject=name,
            )
        self._preparation = Preparation()
        definition = self._container.definition
        await self._layered()
        path = "" if self.joined is None else self.joined.paths.get("user", "")
        space = await userns.joined(definition, path)
        async with AsyncExitStack() as stack:
            shift = None if space is None else Shift(space.maps)
            if shift is not None and self._maps_files(shift):
                shift = shift._replace(namespace=await self._seen_from(stack, shift.maps))
            work = partial(self._done_in_time, self._preparation, partial(step, space, shift))
            try:
                await look_into(definition.spec.rootfs or definition.image.id, work, self._deadline)
            except DeadlineExceeded:
                self._preparation.given_up = True
                raise

    async def _seen_from(self, stack: AsyncExitStack, maps: IdMaps) -> int:
        """A descriptor of a user namespace with these maps, for mounts. StorageFailed."""
        try:
            return await stack.enter_async_context(with_maps(maps))
        except OSError as error:
            root = self._container.definition.spec.rootfs or self._container.definition.image_name
            raise files.storage_error(error, "map the ids of the root filesystem", root) from error

    def _maps_files(self, shift: Shift) -> bool:
        """A mount is made that shows files with the container's ids. It takes root's rights on the host."""
        spec = self._container.definition.spec
        wanted = spec.rootfs_overlay or spec.rootfs_idmap or bool(spec.image)
        return wanted and not self._services.settings.rootless and rootfs.is_mapped(shift.maps)

    async def registered(self) -> None:
        """Other engines know of its layer, and that it is mounted. One that holds the store's locks for long is not
        waited for."""
        container = self._container
        if not container.definition.image.id:
            return
        if container.layer is not None:
            await container.layer.recorded.get()
            container.layer = None
        count = partial(self._services.layers.mounting, self._id, self._layout.container_rootfs(self._id))
        with trio.move_on_after(COUNT_PATIENCE):
            await trio.to_thread.run_sync(count, limiter=self._services.disk, abandon_on_cancel=True)

    async def _layered(self) -> None:
        """Its layer can be mounted. One that never ran may have been created by a supervisor that was killed at it."""
        container, services = self._container, self._services
        self._placed = None
        if container.layer is not None:
            self._placed = await container.layer.placed.get()
        elif container.definition.image.id and not container.observed.started_at:
            there = partial(services.layers.known, self._id)
            if not await trio.to_thread.run_sync(there, limiter=services.disk):
                mend = partial(services.layers.mend, container.definition)
                await trio.to_thread.run_sync(mend, limiter=services.patient)

    def _done_in_time(self, preparation: Preparation, step: Callable[[], object]) -> None:
        preparation.under_way = True
        try:
            step()
        finally:
            try:
                if preparation.given_up:
                    self._take_back()
            except (PymanError, OSError) as error:
                log.warning("not cleaned up after a late start", container=self._id, error=str(error))
            finally:
                preparation.under_way = False

    def _prepare(self, secrets: dict[str, str], space: UserNamespace | None, shift: Shift | None) -> None:
        layout, container, joined = self._layout, self._container, self.joined
        bundle = layout.container_bundle(self._id)
        try:
            for path in (bundle, layout.container_static(self._id), layout.container_persist(self._id)):
                os.makedirs(path, mode=0o700, exist_ok=True)
            os.makedirs(os.path.dirname(container.definition.log_path) or "/", mode=0o700, exist_ok=True)
            check_files(container.definition)
            exit.clear_exit(layout.exits, layout.container_persist(self._id), self._id)
            root = self._mount(space, shift)
            networking = self._wiring.told()
            request = build_request(
                self._services, container.definition, root, space, joined, secrets, networking
            )
            if joined is not None:
                joined.stage(request)
            request = listened_to(request, container.observed.reporting, bundle)
            fill(self._services.volumes, request, self._deadline)
            if request.mounted:
                from supervisor.runtime.mounts import staging

                staging.prepare(self._services, request, self._deadline)
            if container.definition.is_given:
                from supervisor.runtime.secrets import giving

                giving.prepare(layout, request)
            build.write_files(request)
            spec = build.build(request)
            descriptor = os.open(
                f"{bundle}/config.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            with open(descriptor, "wb") as file:
                file.write(spec)
            spawn.make_fifos(bundle)
            ahead.make_gate(bundle)
        except OSError as error:
            raise files.storage_error(error, "prepare", error.filename or bundle) from error

    def _mount(self, _space: UserNamespace | None, shift: Shift | None) -> str:
        """The root filesystem, where the OCI runtime finds it."""
        services, spec = self._services, self._container.definition.spec
        root = rootfs.mount_rootfs(self._layout, self._id, spec, services.overlays, shift, self._layers())
        server = services.overlays.server_of(self._layout.container_rootfs(self._id))
        if server is not None and (cgroup := placement_of(services, self._container.definition).monitor):
            # Like conmon: whatever ends the supervisor's service must not take it along.
            cgroups.place(server.pid, cgroup)
        return root

    def _layers(self) -> Layers | None:
        definition = self._container.definition
        if not definition.image.id:
            return None
        return self._placed or self._services.layers.of(definition)


def check_files(definition: Definition) -> None:
    """Files that a user has named and others will write: what is wrong with them is said better here."""
    if problem := logs.unfit(definition.log_path):
        message = f"cannot log to '{definition.log_path}': {problem}"
        raise StorageFailed(message, subject=definition.log_path)
    path = definition.spec.pid_file
    if path and not os.path.isdir(os.path.dirname(path)):
        raise StorageFailed(f"cannot write the pid to '{path}': its directory does not exist", subject=path)
