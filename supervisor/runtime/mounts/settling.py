"""What will be mounted in a container to be: asked for, configured, another container's, and what its image wants.

By destination each counts for more than the next. Two that were asked for at one destination are refused. Settings, and
other containers, that change later change nothing of a container that is there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from pyman.api.spec import ContainerSpec, NamedVolume
from pyman.errors import InvalidArgument, NotSupported
from pyman.mounttext import destination_of, mount_fields, volume_fields
from supervisor.oci import mount_options, namespaces
from supervisor.oci.mounted import Mounted
from supervisor.runtime.mounts import idmapping
from supervisor.runtime.mounts.sources import Sources
from supervisor.runtime.registry import check_name
from supervisor.runtime.volumes.wishes import new_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyman.api.spec import ImageVolume, Mount, OverlayVolume
    from supervisor.oci.imaged import ImageUse
    from supervisor.runtime.records import Definition
    from supervisor.settings.model import Settings

    _Each = Mounted | NamedVolume

__all__ = ["LIMIT", "settle"]

LIMIT = 4096
"""Mounts of one container."""
_TYPES = ("bind", "tmpfs", "ramfs", "devpts")
_OF_OTHERS = frozenset({"ro", "rw", "z"})


def settle(
    settings: Settings, spec: ContainerSpec, image: ImageUse, sources: Sources
) -> tuple[ContainerSpec, ImageUse, list[Mounted]]:
    """The spec with all volumes that there will be, each with its name; what of the image is left; and everything that is
    mounted but the volumes. Looks at paths on the host. InvalidArgument, NotSupported."""
    _check_shm(settings, spec)
    found: dict[str, _Each] = {}
    for each in _asked(settings, spec, sources):
        where = each.dest if isinstance(each, NamedVolume) else each.destination
        if found.setdefault(where, each) != each:
            raise InvalidArgument(
                f"cannot mount '{where}': two different mounts are to be there", subject=where
            )
    for every in (_configured(settings), _of_others(sources.containers), _of_image(image)):
        for each in list(every):
            where = each.dest if isinstance(each, NamedVolume) else each.destination
            found.setdefault(where, each)
    if len(found) > LIMIT:
        raise InvalidArgument(f"cannot mount {len(found)} things in a container: the most are {LIMIT}")
    if image.volume_mode:
        image = msgspec.structs.replace(image, volume_mode="")
    volumes = [_named(each) for each in found.values() if isinstance(each, NamedVolume)]
    mounted = [each for each in found.values() if isinstance(each, Mounted)]
    if volumes or spec.volumes:
        spec = msgspec.structs.replace(spec, volumes=volumes)
    return spec, image, mounted


def _named(volume: NamedVolume) -> NamedVolume:
    if volume.name:
        check_name(volume.name)
        return volume
    return msgspec.structs.replace(volume, name=new_name(), is_anonymous=True)


def _check_shm(settings: Settings, spec: ContainerSpec) -> None:
    if spec.shm_size is None:
        return
    if not 0 <= spec.shm_size < 1 << 63:
        raise InvalidArgument(f"cannot use --shm-size {spec.shm_size}: it is no size")
    mode = namespaces.mode("ipc", spec, settings.containers)
    if mode in ("host", "none", "container"):
        raise InvalidArgument(
            f"cannot use --shm-size together with --ipc {mode}: the container has no /dev/shm of its own"
        )


def _asked(settings: Settings, spec: ContainerSpec, sources: Sources) -> Iterator[_Each]:
    rootless = settings.rootless
    for mount in spec.mounts:
        yield _mount(mount, rootless)
    for volume in spec.volumes:
        yield _volume(volume, rootless)
    for overlay in spec.overlay_volumes:
        yield _overlay(overlay, rootless)
    for wish, id in zip(spec.image_volumes, sources.images, strict=True):
        yield _image(wish, id)


def _mount(wish: Mount, rootless: bool) -> Mounted:
    where = destination_of(wish.destination, f"the mount '{wish.destination}'")
    kind = wish.type or "bind"
    if kind not in _TYPES:
        raise InvalidArgument(
            f"cannot mount '{where}': '{kind}' is no type of mount", hint=f"known are {', '.join(_TYPES)}"
        )
    if kind != "bind":
        return Mounted(
            kind, where, options=mount_options.checked(kind, wish.options, where, rootless=rootless)
        )
    source = _directory(wish.source, where)
    options = _looked_at(kind, wish.options, where, source, rootless)
    return Mounted(kind, where, source, options)


def _looked_at(kind: str, options: Sequence[str], where: str, source: str, rootless: bool) -> list[str]:
    """For `kind`s of a path on the host, which has to be there."""
    itself = "no-dereference" in options and os.path.islink(source)
    try:
        os.stat(source, follow_symlinks=not itself)
        place = os.path.dirname(source) if itself else source
        found = mount_options.checked(kind, options, where, place, rootless=rootless)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidArgument(f"cannot mount '{source}' at '{where}': {reason}", subject=source) from error
    _check_map(found, where, rootless)
    return found


def _check_map(options: Iterable[str], where: str, rootless: bool) -> None:
    for option in options:
        if option.partition("=")[0] == "idmap":
            if rootless:
                raise NotSupported(f"cannot mount '{where}' with 'idmap': an ordinary user's mounts may not")
            idmapping.parse(option, where)


def _directory(source: str, where: str) -> str:
    if not os.path.isabs(source):
        raise InvalidArgument(
            f"cannot mount '{source}' at '{where}': it is not an absolute path", subject=source
        )
    return os.path.normpath(source).replace("//", "/")


def _volume(wish: NamedVolume, rootless: bool) -> NamedVolume:
    where = destination_of(wish.dest, f"the volume '{wish.name}'")
    options = mount_options.checked("volume", wish.options, where, rootless=rootless)
    _check_map(options, where, rootless)
    if "nocreate" in options and not wish.name:
        raise InvalidArgument(f"cannot mount '{where}': 'nocreate' goes with the name of a volume")
    return msgspec.structs.replace(wish, dest=where, options=options)


def _overlay(wish: OverlayVolume, rootless: bool) -> Mounted:
    where = destination_of(wish.destination, f"the volume '{wish.source}'")
    source = _directory(wish.source, where)
    options = _looked_at("overlay", wish.options, where, source, rootless)
    made = Mounted("overlay", where, source, options)
    for path in (source, made.value("upperdir"), made.value("workdir")):
        if path is not None and not os.path.isdir(path):
            raise InvalidArgument(f"cannot mount '{where}': '{path}' is not a directory", subject=path)
    return made


def _image(wish: ImageVolume, id: str) -> Mounted:
    where = destination_of(wish.destination, f"the image '{wish.source}'")
    return Mounted("image", where, id, sub_path=wish.sub_path, name=wish.source, read_write=wish.read_write)


def _configured(settings: Settings) -> Iterator[_Each]:
    """Of containers.conf, where paths are absolute."""
    conf = settings.containers
    if not conf.volumes and not conf.mounts:
        return
    fields = volume_fields(conf.volumes, str)
    for name, wishes in mount_fields(conf.mounts, str).items():
        fields.setdefault(name, []).extend(wishes)
    if fields.pop("image_volumes", None):
        raise NotSupported("cannot mount an image by containers.mounts: only --mount does that")
    spec = msgspec.convert(fields, ContainerSpec)
    yield from _asked(settings, spec, Sources())


def _of_others(containers: Iterable[tuple[str, Definition]]) -> Iterator[_Each]:
    """Their binds and volumes, as they are mounted there; the later containers win."""
    found: dict[str, _Each] = {}
    for text, definition in containers:
        options = text.split(",") if text else []
        unknown = next((option for option in options if option not in _OF_OTHERS), None)
        if unknown is not None or len(set(options)) < len(options) or {"ro", "rw"} <= set(options):
            raise InvalidArgument(
                f"cannot use --volumes-from '{definition.name}:{text}'",
                hint="the options are ro or rw, and z",
            )
        for volume in definition.spec.volumes:
            # One that is removed meanwhile is missed.
            changed = [
                *_replaced(volume.options, options),
                *([] if "nocreate" in volume.options else ["nocreate"]),
            ]
            found[volume.dest] = msgspec.structs.replace(volume, options=changed)
        for each in definition.mounted:
            if each.kind == "bind":
                replaced = msgspec.structs.replace(each, options=_replaced(each.options, options))
                found[each.destination] = replaced
    yield from found.values()


def _replaced(old: Sequence[str], options: Sequence[str]) -> list[str]:
    groups = [{"ro", "rw"}, {"z", "Z"}]
    dropped = {word for group in groups if group.intersection(options) for word in group}
    return [*options, *(option for option in old if option not in dropped)]


def _of_image(image: ImageUse) -> Iterator[_Each]:
    """What nobody asked for. An image that wants a volume in a place where something else is goes without it."""
    for path in image.volumes if image.volume_mode else ():
        if image.volume_mode == "anonymous":
            yield NamedVolume(dest=path, is_anonymous=True, options=list(_IMAGE_VOLUME))
        else:
            yield Mounted("tmpfs", path, options=[*_IMAGE_TMPFS, "tmpcopyup"])


_IMAGE_TMPFS = ("rprivate", "rw", "nodev", "exec")
_IMAGE_VOLUME = (*_IMAGE_TMPFS, "rbind")
