"""`push`: an image of the store, or a manifest list with its members, to a place of any kind."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument, NotSupported
from supervisor.images import transports
from supervisor.images.apart import apart
from supervisor.images.convert import converted_index
from supervisor.images.directory_writing import DirectoryDestination
from supervisor.images.docker_archive_writing import DockerArchiveDestination
from supervisor.images.layout_writing import archive_destination, directory_destination
from supervisor.images.manifests import DOCKER_LIST, OCI_INDEX, decode_index, encode_index
from supervisor.images.outfile import written
from supervisor.images.registry_writing import RegistryDestination
from supervisor.images.sending import closing
from supervisor.images.tarring import TarWriter
from supervisor.images.transport import Blob
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from pyman.api.image import RegistryAccess
    from supervisor.images.blobinfo import BlobInfo
    from supervisor.images.manifests import Member
    from supervisor.images.sending import Receiver, Sender
    from supervisor.images.transport import RawManifest
    from supervisor.images.transports import Place
    from supervisor.images.wishes import Wish
    from supervisor.registry.client import Registries
    from supervisor.registry.reference import Reference

__all__ = ["destination_for", "list_type", "push_list"]


@asynccontextmanager
async def destination_for(
    place: Place,
    *,
    tags: Sequence[str],
    fd: int = -1,
    registries: Registries,
    memory: BlobInfo,
    access: RegistryAccess,
    sources: Mapping[str, Sequence[Reference]],
    retrying: Callable[[str], None],
) -> AsyncIterator[Receiver]:
    """A place that is no store, opened for writing: whoever leaves the block without `finish` has changed nothing there.

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
                access=access,
                sources=sources,
                retrying=retrying,
            )
        elif place.transport in transports.ARCHIVES:
            docker = place.transport == transports.DOCKER_ARCHIVE
            if fd < 0:
                fd = await stack.enter_async_context(written(place.path, replace=not docker))
            writer = TarWriter(fd, place.path)
            if docker:
                archive = DockerArchiveDestination(writer)
                archive.begin([place.name] if place.name else tags)
                destination = archive
            else:
                destination = archive_destination(writer, place.name)
        elif place.transport == transports.OCI:
            destination = await directory_destination(place.path, place.name)
        else:
            destination = await DirectoryDestination.at(place.path)
        await stack.enter_async_context(closing(destination))
        yield destination


def list_type(wish: Wish) -> str:
    """The media type of the list that was asked for; empty: as it is."""
    return {"oci": OCI_INDEX, "v2s2": DOCKER_LIST}.get(wish.format, "")


async def push_list(
    raw: RawManifest,
    send_member: Callable[[Member, Sender], Awaitable[RawManifest | None]],
    sender: Sender,
    destination: Receiver,
    wish: Wish,
) -> RawManifest:
    """The members first, then the list, which names them by what has become of them. `send_member`: what a member is
    there now; None: it is left out. The list is sent byte for byte where nothing has changed."""
    index = await apart(len(raw.data), lambda: decode_index(raw))
    types = destination.manifest_types
    wanted = list_type(wish) or index.media_type
    if types and wanted not in types:
        if list_type(wish) or OCI_INDEX not in types:
            raise NotSupported(
                f"cannot push a manifest list to '{destination.name}'", subject=destination.name
            )
        wanted = OCI_INDEX
    members = []
    for member in index.members:
        sent = await send_member(member, sender)
        if sent is None:
            members.append(member)
            continue
        blob = Blob(sent.digest, len(sent.data), sent.media_type, member.blob.annotations, member.blob.urls)
        members.append(msgspec.structs.replace(member, blob=blob))
    changed = msgspec.structs.replace(index, members=tuple(members))
    same = changed == index and wanted == index.media_type
    result = raw if same else encode_index(converted_index(changed, wanted))
    await destination.put_manifest(result)
    return result
