"""From what a volume is asked to be to what it is: everything that cannot work is refused by name.

Pure functions, but for a look at the directory that is to be bound. The options are those of Podman's driver `local`;
`inspect` shows them as Podman does, with UID, GID and SIZE taken out of `o` as well.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pyman.api.spec import NamedVolume
from pyman.errors import InvalidArgument, NoSuchVolume, NotSupported
from supervisor.runtime.registry import check_name
from supervisor.runtime.volumes.records import Volume, VolumeObserved, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.spec import ContainerSpec
    from supervisor.oci.imaged import ImageUse

__all__ = ["LABELS_LIMIT", "defined", "new_name", "used", "wish_of"]

LABELS_LIMIT = 256 * 1024
"""Characters of labels and options together: they come with every event."""
_ID_LIMIT = (1 << 32) - 2
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SIZE = re.compile(r"[0-9]+(\.[0-9]+)?[kKmMgGtTpP]?[iI]?[bB]?")
_KNOWN = ("copy", "device", "nocopy", "o", "type")
_OF_A_USER = frozenset({"bind", "none", "overlay", "ramfs", "tmpfs"})
"""File systems that the kernel lets somebody mount who is root in a user namespace only."""


def new_name() -> str:
    """Of an anonymous volume: 64 hexadecimal digits."""
    return secrets.token_hex(32)


def used(spec: ContainerSpec, image: ImageUse) -> tuple[ContainerSpec, ImageUse]:
    """The spec with every volume that the container uses, each with its name; an image that wants anonymous ones gets
    them where nothing else was asked for. InvalidArgument."""
    wanted = list(spec.volumes)
    if image.volume_mode == "anonymous":
        taken = {volume.dest for volume in wanted}
        wanted += [NamedVolume(dest=path, is_anonymous=True) for path in image.volumes if path not in taken]
        image = msgspec.structs.replace(image, volume_mode="")
    if not wanted:
        return spec, image
    named = []
    for volume in wanted:
        if volume.name:
            check_name(volume.name)
            named.append(volume)
        else:
            named.append(msgspec.structs.replace(volume, name=new_name(), is_anonymous=True))
    return msgspec.structs.replace(spec, volumes=named), image


def wish_of(volume: NamedVolume) -> Wish:
    """What is made where a container uses a volume that is not there. NoSuchVolume: it says not to."""
    if "nocreate" in volume.options:
        raise NoSuchVolume(
            f"cannot find volume '{volume.name}', which was not to be made (nocreate)", subject=volume.name
        )
    pairs = (
        option.partition("=")[2].partition("=")
        for option in volume.options
        if option.startswith("volume-opt=")
    )
    options = {key: value for key, _, value in pairs}
    return Wish(name=volume.name, anonymous=volume.is_anonymous, options=options)


class _Options(NamedTuple):
    """`o`, taken apart."""

    rest: tuple[str, ...] = ()
    """What is the mount's."""
    uid: int | None = None
    gid: int | None = None
    size: str = ""
    inodes: str = ""
    no_quota: bool = False


def defined(wish: Wish, mountpoint: str, *, rootless: bool) -> tuple[Volume, VolumeObserved]:
    """The volume, still without a lock. InvalidArgument, NotSupported."""
    name = wish.name
    check_name(name)
    _check_texts(wish)
    if wish.driver not in ("", "local"):
        raise NotSupported(
            f"cannot make volume '{name}' with the driver '{wish.driver}': there is none but local",
            subject=name,
            hint="plugins and image volumes are not there",
        )
    given = dict(wish.options)
    for key in given:
        if key not in _KNOWN:
            raise InvalidArgument(
                f"cannot make volume '{name}': the driver local has no option '{key}'",
                subject=name,
                hint=f"known are {', '.join(_KNOWN)}; size=, uid= and the like belong into o=",
            )
    options = _taken_apart(name, given.get("o", ""))
    kind, device = given.get("type", ""), given.get("device", "")
    if "copy" in given and "nocopy" in given:
        raise InvalidArgument(f"cannot make volume '{name}' both copy and nocopy", subject=name)
    _check_quota(name, kind, options)
    _check_mount(name, kind, device, options, rootless=rootless)
    uid = wish.uid if wish.uid is not None else options.uid
    gid = wish.gid if wish.gid is not None else options.gid
    for what, number in (("uid", wish.uid), ("gid", wish.gid)):
        if number is not None and not 0 <= number <= _ID_LIMIT:
            raise InvalidArgument(f"cannot make volume '{name}': {number} is no {what}", subject=name)
    owned = uid is not None or gid is not None
    volume = Volume(
        name=name,
        mountpoint=mountpoint,
        created=time.time_ns(),
        lock=-1,
        labels=wish.labels,
        options=_shown(given, options),
        anonymous=wish.anonymous,
        uid=uid or 0,
        gid=gid or 0,
        type="" if kind == "none" else kind,
        device=device,
        mount_options=_mount_options(kind, options),
        no_copy="nocopy" in given,
    )
    return volume, VolumeObserved(needs_chown=not owned)


def _check_texts(wish: Wish) -> None:
    texts = [*wish.labels, *wish.labels.values(), *wish.options, *wish.options.values()]
    if sum(map(len, texts)) > LABELS_LIMIT:
        raise InvalidArgument(
            f"cannot make volume '{wish.name}': its labels and options take more than {LABELS_LIMIT >> 10} KiB",
            subject=wish.name,
        )
    for text in texts:
        if "\0" in text:
            raise InvalidArgument(
                f"cannot make volume '{wish.name}': there is a NUL in its labels or options",
                subject=wish.name,
            )
    if "" in wish.labels:
        raise InvalidArgument(f"cannot make volume '{wish.name}': a label has no name", subject=wish.name)


def _taken_apart(name: str, text: str) -> _Options:
    rest: list[str] = []
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        key = key.lower()
        if key in ("uid", "gid", "size", "inodes"):
            if not equals or not value:
                raise InvalidArgument(f"cannot make volume '{name}': o={key} needs a value", subject=name)
            found[key] = value
        elif key == "noquota":
            found[key] = "true"
        elif key == "timeout":
            raise InvalidArgument(
                f"cannot make volume '{name}': o=timeout is for plugins, and the driver is local",
                subject=name,
            )
        elif part:
            rest.append(part)
    return _Options(
        rest=tuple(rest),
        uid=_id(name, "uid", found.get("uid")),
        gid=_id(name, "gid", found.get("gid")),
        size=_size(name, found.get("size", "")),
        inodes=_inodes(name, found.get("inodes", "")),
        no_quota="noquota" in found,
    )


def _id(name: str, what: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _ID_LIMIT):
        raise InvalidArgument(f"cannot make volume '{name}': o={what}={text} is no {what}", subject=name)
    return int(text)


def _size(name: str, text: str) -> str:
    if text and not (_SIZE.fullmatch(text) and len(text) < 24):
        raise InvalidArgument(
            f"cannot make volume '{name}': o=size={text} is no size", subject=name, hint="as in size=10m"
        )
    return text


def _inodes(name: str, text: str) -> str:
    if text and not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidArgument(f"cannot make volume '{name}': o=inodes={text} is no number", subject=name)
    return text


def _check_quota(name: str, kind: str, options: _Options) -> None:
    limits = [
        f"{key}={value}" for key, value in (("size", options.size), ("inodes", options.inodes)) if value
    ]
    if not limits:
        return
    shown = ",".join(limits)
    if options.no_quota:
        raise InvalidArgument(f"cannot limit volume '{name}' by {shown} with noquota", subject=name)
    if kind == "tmpfs":
        if options.inodes:
            raise InvalidArgument(
                f"cannot limit volume '{name}' by inodes={options.inodes}: it is a tmpfs",
                subject=name,
                hint="a tmpfs has nr_inodes=",
            )
        return
    raise NotSupported(
        f"cannot limit volume '{name}' by {shown}: this version sets no project quotas",
        subject=name,
        hint="a volume with type=tmpfs, device=tmpfs and o=size= has a limit",
    )


def _check_mount(name: str, kind: str, device: str, options: _Options, *, rootless: bool) -> None:
    if kind and not _WORD.fullmatch(kind):
        raise InvalidArgument(
            f"cannot make volume '{name}': type={kind} is no file system's type", subject=name
        )
    binds = kind == "bind" or "bind" in options.rest or "rbind" in options.rest
    if not kind and not device:
        if options.rest:
            raise InvalidArgument(
                f"cannot make volume '{name}': o={','.join(options.rest)} is for a mount, and nothing is to be mounted",
                subject=name,
                hint="give type= and device= as well",
            )
        return
    if binds:
        _check_bound(name, device)
    elif kind in ("", "none"):
        raise InvalidArgument(
            f"cannot make volume '{name}': device={device} has no type", subject=name, hint="give type="
        )
    elif not device and kind not in _OF_A_USER:
        raise InvalidArgument(f"cannot make volume '{name}': type={kind} needs a device=", subject=name)
    if rootless and not binds and kind not in _OF_A_USER:
        raise NotSupported(
            f"cannot make volume '{name}': an ordinary user may not mount type={kind}",
            subject=name,
            hint=f"an ordinary user may mount {', '.join(sorted(_OF_A_USER - {'none'}))}",
        )
    for text in (device, *options.rest):
        if "\n" in text:
            raise InvalidArgument(
                f"cannot make volume '{name}': there is a line break in its options", subject=name
            )


def _check_bound(name: str, device: str) -> None:
    if not os.path.isabs(device):
        raise InvalidArgument(
            f"cannot make volume '{name}': device={device} is not an absolute path", subject=name
        )
    if not os.path.exists(device):
        raise InvalidArgument(f"cannot make volume '{name}': device={device} does not exist", subject=name)


def _mount_options(kind: str, options: _Options) -> str:
    more = []
    if kind == "tmpfs":
        pairs = (("size", options.size), ("uid", options.uid), ("gid", options.gid))
        more = [f"{key}={value}" for key, value in pairs if value not in (None, "")]
    if kind == "bind" and "rbind" not in options.rest and "bind" not in options.rest:
        more.append("bind")
    return ",".join((*options.rest, *more))


def _shown(given: Mapping[str, str], options: _Options) -> dict[str, str]:
    shown = dict(given)
    pairs = (("UID", options.uid), ("GID", options.gid), ("SIZE", options.size), ("INODES", options.inodes))
    shown |= {key: str(value) for key, value in pairs if value not in (None, "")}
    if options.no_quota:
        shown["NOQUOTA"] = "true"
    return shown
