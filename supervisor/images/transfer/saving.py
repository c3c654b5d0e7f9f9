"""`save`: images of the store into an archive or a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.images.names import normalized
from supervisor.images.transfer.sending import closing
from supervisor.images.transfer.wishes import Wish
from supervisor.images.transports.directory_writing import DirectoryDestination
from supervisor.images.transports.docker_archive_writing import DockerArchiveDestination
from supervisor.images.transports.layout_writing import archive_destination, directory_destination
from supervisor.images.transports.tarring import TarWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyman.api.image import SaveRequest
    from supervisor.images.deeds import Deed
    from supervisor.images.names import Found
    from supervisor.images.transfer.sending import Outgoing, Receiver, Sender

__all__ = ["FORMATS", "Selected", "check", "save", "selected"]

ARCHIVES = ("docker-archive", "oci-archive")
DIRECTORIES = ("oci-dir", "docker-dir")
FORMATS = (*ARCHIVES, *DIRECTORIES)


class Selected:
    """An image that is to be saved, and the full names that it has in the archive."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.names: list[str] = []

    def add(self, name: str) -> None:
        if name not in self.names:
            self.names.append(name)


def check(request: SaveRequest, *, multi: bool) -> None:
    """InvalidArgument: the options do not go together. `multi`: every name is an image."""
    if request.format not in FORMATS:
        raise InvalidArgument(
            f"cannot save in the format '{request.format}'", hint=f"{', '.join(FORMATS)} are known"
        )
    if not request.names:
        raise InvalidArgument("cannot save images: none is named")
    if len(request.names) > 1 and request.format != "docker-archive":
        what = "several images" if multi else "an image under several names"
        raise InvalidArgument(
            f"cannot save {what} in the format '{request.format}'", hint="use docker-archive"
        )
    if request.compress and request.format != "docker-dir":
        raise InvalidArgument(f"cannot compress in the format '{request.format}'", hint="use docker-dir")
    if request.uncompressed and request.format not in ("oci-archive", "oci-dir"):
        raise InvalidArgument(
            f"cannot leave layers uncompressed in the format '{request.format}'",
            hint="use oci-archive or oci-dir; docker-archive has them so",
        )


def selected(found: Sequence[Found], further: Sequence[str]) -> list[Selected]:
    """One for each image, with the names that were asked for. `further`: that the first one gets, too."""
    by_id: dict[str, Selected] = {}
    for each in found:
        chosen = by_id.setdefault(each.image.id, Selected(each))
        if not each.by_id:
            full = normalized(each.name)
            if full.tag:
                chosen.add(str(full))
    first = next(iter(by_id.values()))
    for name in further:
        first.add(str(normalized(name)))
    return list(by_id.values())


async def save(
    request: SaveRequest,
    images: Sequence[tuple[Selected, Outgoing]],
    fd: int,
    sender_of: Callable[[Receiver, Wish], Sender],
    deed: Deed,
) -> None:
    """Write the images. `fd`: what an archive is written to; directories are at `request.path`, and complete by the
    last step of the `deed`.

    InvalidArgument, StorageFailed, DiskFull; then a directory is as it was, and an archive is not complete.
    """
    first = images[0][0]
    name = first.names[0] if first.names else ""
    if request.format in DIRECTORIES:
        if not request.path.startswith("/"):
            raise InvalidArgument(f"cannot save to '{request.path}': it is not an absolute path")
        destination: Receiver = (
            await directory_destination(request.path, name, deed)
            if request.format == "oci-dir"
            else await DirectoryDestination.at(request.path, deed)
        )
    else:
        writer = TarWriter(fd, request.path or "the archive")
        destination = (
            archive_destination(writer, name)
            if request.format == "oci-archive"
            else DockerArchiveDestination(writer)
        )
    async with closing(destination):
        sender = sender_of(destination, _wish(request))
        for chosen, image in images:
            if isinstance(destination, DockerArchiveDestination):
                destination.begin(chosen.names)
            await sender.send(image)
        await destination.finish()


def _wish(request: SaveRequest) -> Wish:
    compression = "gzip" if request.compress else "none" if request.uncompressed else ""
    return Wish(format="v2s2" if request.format == "docker-dir" else "", compression=compression)
