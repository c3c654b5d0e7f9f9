"""Files that are copied into containers, out of them, and from one to another.

Of a container that runs, the program that copies sees what its processes see: it is given its mount namespace. Of
another one it is given the root file system, held meanwhile, and what a run would mount there from the host: volumes,
with the contents of the image where they have none yet, and directories. What only a run makes, as a view of an image, is
refused by name.
"""

from __future__ import annotations

import os
import posixpath
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from pyman.errors import InvalidArgument, WrongState
from pyman.names import STATES_WITH_PROCESS
from supervisor.archive import copies
from supervisor.archive.copies import Archive, At, Inside, Mount, Open
from supervisor.kernel import files
from supervisor.kernel.process import ref_of
from supervisor.oci import build
from supervisor.runtime.rootfs.committing import held
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.specs import build_request
from supervisor.runtime.volumes.filling import fill

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pyman.api.copying import CopyAcrossRequest, CopyInRequest, CopyOutRequest
    from supervisor.archive.copies import Copied
    from supervisor.kernel.process import ProcessRef
    from supervisor.oci.mounted import Mounted
    from supervisor.oci.request import BuildRequest
    from supervisor.runtime.records import Definition
    from supervisor.runtime.registry import Entry
    from supervisor.runtime.services import Services

__all__ = ["copy_across", "copy_in", "copy_out"]


class _Seen(NamedTuple):
    """A container while something is copied."""

    inside: Inside
    request: BuildRequest
    running: bool

    def at(self, path: str, *, contents: bool = False) -> At:
        work_dir = self.request.spec.work_dir or "/"
        return At(self.inside, posixpath.join("/", work_dir, path), contents)


async def copy_in(services: Services, entry: Entry, request: CopyInRequest, descriptor: int) -> Copied:
    """What a client has opened, or an archive. NotFound, InvalidArgument, NotSupported, ArchiveRefused, WrongState, DiskFull,
    StorageFailed."""
    _check(request.path)
    async with _seen(services, entry, writes=True) as seen:
        source: Open | Archive = Archive(descriptor)
        if request.source:
            source = Open(descriptor, _name(request.source), request.source, request.contents)
        return await copies.copy(
            source,
            seen.at(request.path),
            owner=await _user(services, seen) if request.archive else None,
            overwrite=request.overwrite,
            devices=not services.settings.rootless,
        )


async def copy_out(services: Services, entry: Entry, request: CopyOutRequest, descriptor: int) -> Copied:
    """To a directory that a client has opened, or as an archive. Raises as `copy_in` does."""
    _check(request.path)
    async with _seen(services, entry, writes=False) as seen:
        source = seen.at(request.path, contents=request.contents)
        skip = seen.running and services.settings.rootless
        if request.as_archive:
            owner = await _user(services, seen) if request.archive else None
            return await copies.copy(source, Archive(descriptor), owner=owner, skip_denied=skip)
        target = _name(request.target) if request.target else ""
        # The engine's own user is the client.
        return await copies.copy(
            source,
            Open(descriptor, target, is_file=request.exists),
            owner=(os.geteuid(), os.getegid()),
            overwrite=request.overwrite,
            devices=False,
            skip_denied=skip,
        )


async def copy_across(services: Services, source: Entry, target: Entry, request: CopyAcrossRequest) -> Copied:
    """From one container to another, or within one. Raises as `copy_in` does."""
    _check(request.source_path)
    _check(request.target_path)
    async with _seen(services, source, writes=False) as begin, _seen(services, target, writes=True) as end:
        return await copies.copy(
            begin.at(request.source_path, contents=request.contents),
            end.at(request.target_path),
            owner=await _user(services, end) if request.archive else None,
            overwrite=request.overwrite,
            devices=not services.settings.rootless,
            skip_denied=begin.running and services.settings.rootless,
        )


def _check(path: str) -> None:
    if not path or "\0" in path:
        raise InvalidArgument("cannot copy: a path is empty, or has a NUL byte", subject=path)


def _name(name: str) -> str:
    """One that stays in its directory."""
    if "/" in name or "\0" in name or name in (".", ".."):
        raise InvalidArgument(f"cannot copy to '{name}': it is no name of a file", subject=name)
    return name


async def _user(services: Services, seen: _Seen) -> tuple[int, int]:
    """The container's, in the engine's ids."""
    find = partial(build.owner_of, seen.request)
    return await look_into(seen.request.rootfs, find, services.settings.pyman.call_deadline)


@asynccontextmanager
async def _seen(services: Services, entry: Entry, *, writes: bool) -> AsyncGenerator[_Seen, None]:
    container = entry.container
    definition = container.definition
    async with held(entry) as root, AsyncExitStack() as stack:
        request = build_request(services, definition, root)
        owner = build.root_of(request) or (0, 0)
        inside = Inside(
            definition.name, owner=owner, uids=definition.userns.maps.uids, gids=definition.userns.maps.gids
        )
        init = container.observed.init if container.state in STATES_WITH_PROCESS else None
        if init is not None:
            place, namespace = await trio.to_thread.run_sync(_opened, init, definition, limiter=services.disk)
            stack.callback(os.close, place)
            stack.callback(os.close, namespace)
            yield _Seen(inside._replace(root=place, namespace=namespace), request, running=True)
            return
        if writes and definition.spec.rootfs_overlay and not container.observed.mounts:
            raise WrongState(
                f"cannot copy to container '{definition.name}': what is written to its root filesystem ends with a run, and it does not run",
                subject=definition.name,
                hint="start it first",
            )
        for volume in definition.spec.volumes:
            await stack.enter_async_context(services.volumes.held(services.volumes.find(volume.name)))
        if writes and definition.spec.volumes:
            work = partial(fill, services.volumes, request, services.settings.pyman.call_deadline)
            await trio.to_thread.run_sync(work, limiter=services.disk)
        mounts, unseen = _mounts(request)
        yield _Seen(inside._replace(path=root, mounts=mounts, unseen=unseen), request, running=False)


def _opened(init: ProcessRef, definition: Definition) -> tuple[int, int]:
    """The root directory and the mount namespace of a container's first process. WrongState: it has ended."""
    place = namespace = -1
    try:
        place = os.open(f"/proc/{init.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        namespace = os.open(f"/proc/{init.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        if ref_of(init.pid) == init:
            return place, namespace
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError as error:
        _close(place, namespace)
        raise files.storage_error(error, "look into container", definition.name) from error
    _close(place, namespace)
    raise WrongState(
        f"cannot look into container '{definition.name}': it is about to end", subject=definition.name
    )


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _mounts(request: BuildRequest) -> tuple[list[Mount], list[str]]:
    """What a run would bind, the outer ones first, and where it has what is not there without one."""
    found: list[Mount] = []
    unseen: list[str] = []
    for each in request.mounted:
        if each.kind == "tmpfs" and not each.has("notmpcopyup"):
            continue  # it begins with what the root file system has there
        if each.is_link:
            continue
        if each.kind not in ("bind", "volume") or each.copied_on_write or each.value("idmap") is not None:
            unseen.append(each.destination)
            continue
        source = request.volumes[each.source] if each.kind == "volume" else each.source
        found.append(
            Mount(
                each.destination, source, each.sub_path, recursive=not each.has("bind"), readonly=_reads(each)
            )
        )
    return sorted(found, key=lambda mount: mount.destination.count("/")), unseen


def _reads(each: Mounted) -> bool:
    return each.has("ro") or each.has("readonly")
