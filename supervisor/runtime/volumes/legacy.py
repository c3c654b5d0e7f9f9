"""Containers that were made before there were volumes: what their images wanted volumes for are directories of their own,
by number, in their static directories. They become anonymous volumes when a supervisor starts.

Recorded first, then moved; whatever a killed supervisor has not moved is found in its old place by the next one. Where
volumes lie on another file system, a container that runs keeps its directories until it is found stopped.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import PymanError
from pyman.names import STATES_WITH_PROCESS
from supervisor.kernel import files
from supervisor.logging import log
from supervisor.runtime.records import encode
from supervisor.runtime.volumes.filling import copy_tree
from supervisor.runtime.volumes.wishes import used
from supervisor.state.changes import PutDefinition

if TYPE_CHECKING:
    from supervisor.runtime.records import Definition, Observed
    from supervisor.runtime.services import Services

__all__ = ["adopted"]

_DEADLINE = 600.0
"""Seconds for the copy of one."""


async def adopted(services: Services, definition: Definition, observed: Observed) -> Definition:
    """The definition, with volumes. One that could not get them stays as it is and is told in the log."""
    if not definition.image.volumes:
        return definition
    old = services.layout.container_volumes(definition.id)
    there = await trio.to_thread.run_sync(os.path.isdir, old, limiter=services.disk)
    if definition.image.volume_mode != "anonymous" and not there:
        return definition
    try:
        if observed.state in STATES_WITH_PROCESS and not _same_file_system(services, old):
            log.info(
                "the volumes of a container stay where they are until it is stopped", container=definition.id
            )
            return definition
        if definition.image.volume_mode == "anonymous":
            definition = await _recorded(services, definition)
        if there:
            await _moved(services, definition, old)
    except (PymanError, OSError) as error:
        log.warning("cannot make volumes of directories", container=definition.id, error=str(error))
    return definition


def _same_file_system(services: Services, old: str) -> bool:
    try:
        root = services.volumes.ground.root
        while not os.path.isdir(root):
            root = os.path.dirname(root)
        return os.stat(root).st_dev == os.stat(old).st_dev
    except FileNotFoundError:
        return True


async def _recorded(services: Services, definition: Definition) -> Definition:
    spec, image = used(definition.spec, definition.image)
    new = msgspec.structs.replace(definition, spec=spec, image=image)
    async with services.volumes.joined(spec, None) as volumes:
        await services.database.commit(
            [PutDefinition("container", new.id, new.name, encode(new)), *volumes.changes],
            volumes.events,
            durable=True,
            apply=lambda _events: volumes.apply(),
        )
    return new


async def _moved(services: Services, definition: Definition, old: str) -> None:
    by_place = {volume.dest: volume.name for volume in definition.spec.volumes if volume.is_anonymous}
    for number, path in enumerate(definition.image.volumes):
        source, name = f"{old}/{number}", by_place.get(path, "")
        if not name or not await trio.to_thread.run_sync(os.path.isdir, source, limiter=services.disk):
            continue
        entry = services.volumes.find(name)
        move = partial(_move, services, source, name)
        await trio.to_thread.run_sync(move, limiter=services.disk)
        await services.volumes.note(entry, needs_copy_up=False, needs_chown=False)
    with suppress(OSError):
        os.rmdir(old)


def _move(services: Services, source: str, name: str) -> None:
    ground = services.volumes.ground
    data = ground.data(name)
    try:
        os.rename(source, data)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise files.storage_error(error, "move", source) from error
        staged = ground.stage("new")
        descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_tree(descriptor, staged, _DEADLINE)
        finally:
            os.close(descriptor)
        os.rename(staged, data)
        os.rename(source, f"{services.layout.trash}/{os.path.basename(staged)}")
