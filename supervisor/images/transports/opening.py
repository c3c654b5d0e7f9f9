"""Archives, directories and other stores opened as sources of images.

What a place holds is looked at once, and told as `Candidate`s: the names that each image is to get, and how it is
opened. An archive that is compressed, or comes through a pipe, is first written to a file without a name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import ArchiveRefused, InvalidArgument, PymanError
from supervisor.archive import jobs
from supervisor.images.names import normalized
from supervisor.images.transports import docker_archive, layout, legacy_archive
from supervisor.images.transports import places as transports
from supervisor.images.transports.archived import Archived
from supervisor.images.transports.directory import DirectorySource
from supervisor.images.transports.docker_archive import DockerArchiveSource
from supervisor.images.transports.folder import Folder, limiter
from supervisor.images.transports.layout import LayoutSource
from supervisor.images.transports.spooling import spool
from supervisor.images.transports.transport import Source
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supervisor.images.transports.folder import Files
    from supervisor.images.transports.places import Place

__all__ = ["Candidate", "archive", "directory", "images_of", "kind_of", "opened_file", "place"]

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Candidate(msgspec.Struct, frozen=True):
    """An image that is there. `names`: full ones that it is to get; may be none."""

    names: tuple[str, ...]
    open: Callable[[], Awaitable[Source]]


@asynccontextmanager
async def archive(
    fd: int, name: str, spool_in: str, report: Callable[[int], None] | None = None
) -> AsyncIterator[Archived]:
    """An archive that the client has opened. ArchiveRefused, DiskFull, StorageFailed."""
    async with spool(spool_in) as spooled:
        contents = await jobs.index(fd, spooled, report=report)
        inside = spooled if contents.spooled else fd
        files = await trio.to_thread.run_sync(Archived, name, inside, contents.members, limiter=limiter)
        try:
            yield files
        finally:
            await files.aclose()


@asynccontextmanager
async def directory(path: str) -> AsyncIterator[Folder]:
    """InvalidArgument: there is none."""
    folder = await Folder.at(path)
    try:
        yield folder
    finally:
        await folder.aclose()


@asynccontextmanager
async def opened_file(path: str) -> AsyncIterator[int]:
    """A file, or a pipe, at an absolute path, for reading. InvalidArgument: there is none. StorageFailed."""
    try:
        fd = await trio.to_thread.run_sync(os.open, path, _OPEN, limiter=limiter)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.EACCES):
            raise InvalidArgument(f"cannot read '{path}': {error.strerror}", subject=path) from error
        raise storage_error(error, "read", path) from error
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise InvalidArgument(f"cannot read '{path}': it is not a file", subject=path)
        os.set_blocking(fd, True)
        yield fd
    finally:
        os.close(fd)


@asynccontextmanager
async def place(where: Place, spool_in: str, fd: int = -1) -> AsyncIterator[Candidate]:
    """The image that a place names. `fd`: its archive, if the client has opened that. ArchiveRefused,
    InvalidArgument, NotSupported, StorageFailed."""
    if where.transport in transports.DIRECTORIES:
        async with directory(where.path) as folder:
            yield (await images_of(folder, where))[0]
    elif fd >= 0:
        async with archive(fd, where.path, spool_in) as files:
            yield (await images_of(files, where))[0]
    else:
        async with opened_file(where.path) as own, archive(own, where.path, spool_in) as files:
            yield (await images_of(files, where))[0]


async def images_of(files: Files, where: Place | None = None) -> list[Candidate]:
    """What is in a place: the one image that it names, or without one all that is there, whatever its kind."""
    if where is None:
        return await _all(files)
    if where.transport == transports.DIR:
        return [_of_directory(files)]
    if where.transport == transports.DOCKER_ARCHIVE:
        if await _is_docker(files) or not await legacy_archive.is_legacy(files):
            found = await docker_archive.items(files)
            item, tags = docker_archive.choose(found, files.name, where.name, where.index)
            return [_of_item(files, item, tags)]
        return [await _of_legacy(files, where)]
    entry = layout.choose(await layout.entries(files), files.name, where.name, where.index)
    return [_of_entry(files, entry)]


async def _all(files: Files) -> list[Candidate]:
    has_layout = await files.size(layout.INDEX_FILE) >= 0
    docker = await _is_docker(files) and isinstance(files, Archived)
    if has_layout:
        found = await layout.entries(files)
        # Docker writes both: of one image the layout keeps more, of several the other one the names.
        if len(found) == 1 or not docker:
            return [_of_entry(files, entry) for entry in found]
    if docker:
        listed = await docker_archive.items(files)
        return [_of_item(files, item, docker_archive.tags_of(item, files.name)) for item in listed]
    if await legacy_archive.is_legacy(files):
        return [
            Candidate(tuple(names), partial(legacy_archive.source, files, id, files.name))
            for id, names in (await legacy_archive.images(files)).items()
        ]
    if not isinstance(files, Archived):
        return [_of_directory(files)]
    raise ArchiveRefused(
        f"cannot load '{files.name}': it is of no known kind",
        subject=files.name,
        hint="an archive of 'save' or a directory of an image is; for a root file system, use import",
    )


async def kind_of(files: Files) -> str:
    """By which transport it would be named."""
    packed = isinstance(files, Archived)
    if await files.size(layout.INDEX_FILE) >= 0:
        return transports.OCI_ARCHIVE if packed else transports.OCI
    return transports.DOCKER_ARCHIVE if packed else transports.DIR


async def _is_docker(files: Files) -> bool:
    return await files.size(docker_archive.MANIFEST) >= 0


def _of_directory(files: Files) -> Candidate:
    return Candidate((), partial(DirectorySource.of, files, files.name))


def _of_item(files: Files, item: docker_archive.Item, tags: list[str]) -> Candidate:
    return Candidate(tuple(tags), partial(DockerArchiveSource.of, files, item, files.name))


async def _of_legacy(files: Files, where: Place) -> Candidate:
    found = await legacy_archive.images(files)
    for id, names in found.items():
        if where.name in names or (len(found) == 1 and not where.name and where.index < 0):
            wanted = (where.name,) if where.name else tuple(names)
            return Candidate(wanted, partial(legacy_archive.source, files, id, files.name))
    raise ArchiveRefused(f"cannot use '{where}': it has no such image, or several", subject=str(where))


def _of_entry(files: Files, entry: layout.Entry) -> Candidate:
    async def source() -> LayoutSource:
        return LayoutSource(files, entry, files.name)

    return Candidate(_names_of(entry, files.name), source)


def _names_of(entry: layout.Entry, files: str) -> tuple[str, ...]:
    if not entry.full_name:
        return ()
    try:
        return (str(normalized(entry.full_name)),)
    except PymanError as error:
        raise ArchiveRefused(f"cannot use '{files}': {error.message}", subject=files) from None
