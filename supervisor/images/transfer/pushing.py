"""`push`: an image of the store, or a manifest list with its members, to a place of any kind."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.images.transfer.sending import closing
from supervisor.images.transports import places as transports
from supervisor.images.transports.directory_writing import DirectoryDestination
from supervisor.images.transports.docker_archive_writing import DockerArchiveDestination
from supervisor.images.transports.layout_writing import archive_destination, directory_destination
from supervisor.images.transports.outfile import written
from supervisor.images.transports.registry_writing import RegistryDestination
from supervisor.images.transports.tarring import TarWriter
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from pyman.api.image import RegistryAccess
    from supervisor.images.deeds import Deed
    from supervisor.images.transfer.blobinfo import BlobInfo
    from supervisor.images.transfer.sending import Receiver
    from supervisor.images.transports.places import Place
    from supervisor.registry.client import Registries
    from supervisor.registry.reference import Reference

__all__ = ["destination_for"]


@asynccontextmanager
async def destination_for(
    place: Place,
    *,
    tags: Sequence[str],
    fd: int = -1,
    registries: Registries,
    memory: BlobInfo,
    deed: Deed,
    access: RegistryAccess,
    sources: Mapping[str, Sequence[Reference]],
    retrying: Callable[[str], None],
) -> AsyncIterator[Receiver]:
    """A place that is no store, opened for writing: whoever leaves the block without `finish` has changed nothing there.
    The last step is one of the `deed`, unless it is somebody else's archive.

    `tags`: full names that an image gets in an archive which is given none. `fd`: an archive that the client has
    opened; -1: it is made at its path. Errors of the kinds of destinations.
    """
    if place.index >= 0:
        raise InvalidArgument(f"cannot push to '{place}': a number is for reading")
    async with AsyncExitStack() as stack:
        destination: Receiver
        if place.transport == transports.REGISTRY:
            destination = RegistryDestination(
                registries,
                reference.parse(place.name),
                memory,
                deed,
                access=access,
                sources=sources,
                retrying=retrying,
            )
        elif place.transport in transports.ARCHIVES:
            docker = place.transport == transports.DOCKER_ARCHIVE
            if fd < 0:
                fd = await stack.enter_async_context(written(place.path, deed, replace=not docker))
            writer = TarWriter(fd, place.path)
            if docker:
                archive = DockerArchiveDestination(writer)
                archive.begin([place.name] if place.name else tags)
                destination = archive
            else:
                destination = archive_destination(writer, place.name)
        elif place.transport == transports.OCI:
            destination = await directory_destination(place.path, place.name, deed)
        else:
            destination = await DirectoryDestination.at(place.path, deed)
        await stack.enter_async_context(closing(destination))
        yield destination
