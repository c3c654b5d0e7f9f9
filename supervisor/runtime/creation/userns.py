"""The user namespace of a container: what was asked for becomes id maps, once, when the container is created.

The maps are in the ids of the engine's own namespace: the host's for root, and those of the user's namespace for an
ordinary user. Those of `auto` are nobody else's as long as the container exists. Whoever joins another container's
namespace, or one at a path, takes it as it is at each start.
"""

from __future__ import annotations

import os
import pwd
import threading
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import idmaps, userns
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.oci.build import KEEP_GROUPS
from supervisor.oci.host import this_host
from supervisor.oci.request import Account, UserNamespace
from supervisor.oci.users import largest_id
from supervisor.rootless import chosen, identity, requested, subids
from supervisor.storage.others import maps_of_others

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyman.api.spec import Caller, ContainerSpec, Namespace
    from supervisor.oci.imaged import ImageUse
    from supervisor.oci.runtimes import OciRuntime
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services
    from supervisor.settings.model import Settings

__all__ = [
    "IdLedger",
    "Owned",
    "account_of",
    "check_groups",
    "has_own",
    "joined",
    "mode_of",
    "settle",
    "wish_of",
]

_ALONE = frozenset({"host", "private", "nomap"})
"""Modes without options."""
_DIGITS = 10
"""Of the largest id."""


class Owned(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container's user namespace as it was settled."""

    maps: IdMaps = IdMaps()
    """Empty: the engine's own namespace, or one whose maps are not known before it is joined."""
    container: str = ""
    """The id of the container whose namespace is joined."""
    path: str = ""
    """Of a namespace that is joined."""

    @property
    def is_own(self) -> bool:
        """A namespace that nothing else has."""
        return bool(self.maps.uids) and not self.container and not self.path


class IdLedger:
    """Which container has which ids. Used by the threads in which definitions are made.

    Such a thread may go on when nobody waits for it any more: ids are given to containers that are known, from
    `open` to `release`.
    """

    def __init__(self) -> None:
        self._maps: dict[str, IdMaps] = {}
        self._lock = threading.Lock()

    def open(self, id: str) -> None:
        with self._lock:
            self._maps[id] = IdMaps()

    def claim(self, id: str, maps: IdMaps) -> None:
        with self._lock:
            if id in self._maps:
                self._maps[id] = maps

    def release(self, id: str) -> None:
        with self._lock:
            self._maps.pop(id, None)

    def allocate(
        self,
        id: str,
        size: int,
        pool: tuple[list[range], list[range]],
        fixed: IdMaps,
        others: Sequence[IdMaps],
    ) -> IdMaps:
        """Ids that are nobody's, for the container. InvalidArgument: there are not so many."""
        with self._lock:
            made = chosen.automatic(size, pool, [*self._maps.values(), *others], fixed)
            if id in self._maps:
                self._maps[id] = made
            return made


def wish_of(spec: ContainerSpec, settings: Settings) -> Namespace:
    """The mode, as it was asked for or is configured, with what belongs to it."""
    wish = spec.userns
    if wish.nsmode:
        return wish
    if _has_maps(spec):
        return msgspec.structs.replace(wish, nsmode="private")
    mode, _, value = settings.containers.userns.partition(":")
    return msgspec.structs.replace(wish, nsmode=mode or "host", value=value)


def mode_of(definition: Definition) -> str:
    """As `inspect` tells it."""
    owned = definition.userns
    if owned.container:
        return f"container:{owned.container}"
    if owned.path:
        return f"ns:{owned.path}"
    return "private" if owned.is_own else ""


def has_own(spec: ContainerSpec, settings: Settings) -> bool:
    """The container's ids are not the engine's."""
    return wish_of(spec, settings).nsmode not in ("", "host")


def settle(
    services: Services,
    id: str,
    spec: ContainerSpec,
    runtime: OciRuntime,
    owner: Definition | None,
    image: ImageUse,
) -> tuple[ContainerSpec, Owned]:
    """The namespace of a container to be, and its spec: with `keep-id` its command runs as the caller.

    `owner`: the container whose namespace is to be joined, if one was named. Ids that were allocated belong to `id`
    until the ledger is told otherwise. Looks into the root filesystem. InvalidArgument, NotSupported.
    """
    settings = services.settings
    wish = wish_of(spec, settings)
    mode, options = wish.nsmode, wish.value
    if _has_maps(spec) and mode != "private":
        raise InvalidArgument(
            f"cannot use --userns {mode} together with --uidmap, --gidmap, --subuidname or --subgidname"
        )
    if mode in _ALONE and options:
        raise InvalidArgument(f"cannot use --userns {mode}:{options}: {mode} has no options")
    match mode:
        case "host":
            return spec, Owned()
        case "container" | "ns":
            return spec, _joins(mode, options, owner)
    # Settings that change later change nothing of a container that is there.
    spec = msgspec.structs.replace(spec, userns=wish)
    spec, maps = _own(services, id, spec, mode, options, image)
    if runtime.kind == "runc" and not all(idmaps.has_inside(0, lines) for lines in maps):
        raise NotSupported(
            "cannot make a user namespace without the ids 0: the OCI runtime runc needs them",
            hint="map them too, or use --runtime crun",
        )
    services.ids.claim(id, maps)
    return spec, Owned(maps)


def _joins(mode: str, value: str, owner: Definition | None) -> Owned:
    if mode == "ns":
        if not os.path.isabs(value):
            raise InvalidArgument(f"cannot use --userns ns:{value}: the path is not absolute", subject=value)
        try:
            os.stat(value)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InvalidArgument(f"cannot use --userns ns:{value}: {reason}", subject=value) from error
        return Owned(path=value)
    if owner is None:
        raise InvalidArgument("cannot use --userns container: without a container")
    theirs = owner.userns
    # Whoever joins one that joins another one's depends on that one.
    return Owned(theirs.maps, theirs.container or (owner.id if theirs.is_own else ""), theirs.path)


def _own(
    services: Services, id: str, spec: ContainerSpec, mode: str, options: str, image: ImageUse
) -> tuple[ContainerSpec, IdMaps]:
    """The maps of a new namespace."""
    settings = services.settings
    available = this_host().id_maps
    match mode:
        case "private":
            maps = _described(spec, settings, available)
        case "keep-id":
            known = _Options(mode, options, ("uid", "gid", "size"))
            spec, maps = _keep_id(spec, settings, available, known)
        case "nomap":
            if not settings.rootless:
                raise InvalidArgument(
                    "cannot use --userns nomap as root: it leaves out an ordinary user's own id"
                )
            maps = chosen.no_map(available)
        case "auto":
            maps = _automatic(services, id, spec, available, options, image)
        case _:
            raise InvalidArgument(
                f"cannot use --userns {mode}",
                subject=mode,
                hint="known are host, auto, keep-id, nomap, container:NAME and ns:PATH",
            )
    requested.check(maps, available)
    if spec.rootfs_idmap and settings.rootless:
        raise NotSupported(
            f"cannot map the ids of the root filesystem '{spec.rootfs}': an ordinary user's mounts may not",
            subject=spec.rootfs,
        )
    return spec, maps


def _has_maps(spec: ContainerSpec) -> bool:
    wish = spec.idmappings
    return bool(wish.uid_map or wish.gid_map or wish.sub_uid_name or wish.sub_gid_name)


def _described(spec: ContainerSpec, settings: Settings, available: IdMaps) -> IdMaps:
    """--uidmap, --gidmap, --subuidname, --subgidname."""
    wish = spec.idmappings
    if not _has_maps(spec):
        raise InvalidArgument(
            "cannot use --userns private without a map",
            hint="give --uidmap or --subuidname, or --userns auto",
        )
    maps = IdMaps()
    if wish.sub_uid_name or wish.sub_gid_name:
        maps = chosen.of_name(
            _ranges_of("--subuidname", subids.SUBUID, wish.sub_uid_name or wish.sub_gid_name),
            _ranges_of("--subgidname", subids.SUBGID, wish.sub_gid_name or wish.sub_uid_name),
            available,
        )
    return requested.requested(wish.uid_map, wish.gid_map, available, fill=settings.rootless, maps=maps)


def _ranges_of(option: str, path: str, name: str) -> list[subids.Subordinate]:
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        uid = -1
    found = subids.read(path, name, uid)
    if not found:
        raise InvalidArgument(f"cannot use {option} '{name}': {path} has no line for it", subject=name)
    return found


def _keep_id(
    spec: ContainerSpec, settings: Settings, available: IdMaps, options: _Options
) -> tuple[ContainerSpec, IdMaps]:
    if settings.rootless:
        uid, gid = settings.uid, idmaps.outside(0, available.gids)
    else:
        uid = gid = 0
        if options.has("size"):
            raise InvalidArgument("cannot use --userns keep-id:size as root: every id of the host is kept")
    uid, gid = options.number("uid", uid, least=0), options.number("gid", gid, least=0)
    if settings.rootless:
        maps = chosen.keep_id(uid, gid, available, options.number("size", 0))
    else:
        maps = IdMaps(
            *(tuple(IdRange(line.inside, line.inside, line.size) for line in lines) for lines in available)
        )
    return msgspec.structs.replace(spec, user=spec.user or f"{uid}:{gid}"), maps


def _automatic(
    services: Services, id: str, spec: ContainerSpec, available: IdMaps, text: str, image: ImageUse
) -> IdMaps:
    settings = services.settings
    storage = settings.storage
    options = _Options("auto", text, ("size", "uidmapping", "gidmapping"))
    size, fixed = options.number("size", 0), options.fixed(available)
    if not size:
        largest = services.layers.largest_id(image) if image.id else largest_id(spec.rootfs)
        size = max(storage.auto_userns_min_size, largest + 1)
        if size > storage.auto_userns_max_size:
            raise InvalidArgument(
                f"cannot use --userns auto: the root filesystem needs {size} ids, more than the"
                f" {storage.auto_userns_max_size} of auto-userns-max-size",
                hint="give --userns auto:size=N",
            )
    if settings.rootless:
        pool = chosen.pool_of_user(available)
    else:
        name = storage.root_auto_userns_user
        pool = (_pool_of_name(subids.SUBUID, name), _pool_of_name(subids.SUBGID, name))
    return services.ids.allocate(id, size, pool, fixed, maps_of_others(services.layout.graph_root))


def _pool_of_name(path: str, name: str) -> list[range]:
    found = subids.read(path, name, -1)
    if not found:
        raise InvalidArgument(
            f"cannot use --userns auto: {path} gives no ids to the name '{name}'",
            subject=path,
            hint=f"add a line such as {name}:2147483647:2147483648",
        )
    return [range(each.first, each.first + each.size) for each in found]


class _Options:
    """What stands behind a mode: `uid=200,gid=210`."""

    def __init__(self, mode: str, text: str, known: Sequence[str]) -> None:
        self._option = f"--userns {mode}:{text}"
        self._values: dict[str, list[str]] = {}
        for part in text.split(",") if text else ():
            key, equals, value = part.partition("=")
            if key not in known or not equals:
                raise InvalidArgument(
                    f"cannot use {self._option}: '{part}' is no option",
                    hint=f"known are {'=, '.join(known)}=",
                )
            self._values.setdefault(key, []).append(value)

    def has(self, key: str) -> bool:
        return key in self._values

    def number(self, key: str, default: int, *, least: int = 1) -> int:
        if key not in self._values:
            return default
        value = self._values[key][-1]
        is_number = value.isascii() and value.isdecimal() and len(value) <= _DIGITS
        if not (is_number and least <= int(value) < (1 << 32) - 1):
            raise InvalidArgument(f"cannot use {self._option}: '{value}' is no number of ids or id")
        return int(value)

    def fixed(self, available: IdMaps) -> IdMaps:
        """The lines that are wanted in any case."""
        return IdMaps(
            tuple(self._lines("u", "uidmapping", available.uids)),
            tuple(self._lines("g", "gidmapping", available.gids)),
        )

    def _lines(self, kind: str, key: str, available: Sequence[IdRange]) -> Iterator[IdRange]:
        for text in self._values.get(key, ()):
            wish = requested.parse(f"--userns auto:{key}=", text)
            if wish.extends or wish.only:
                raise InvalidArgument(f"cannot use {self._option}: a line of {key}= has no flags")
            yield from requested.from_host(kind, wish.line, available) if wish.of_host else [wish.line]


async def joined(definition: Definition, path: str) -> UserNamespace | None:
    """The namespace for a start; none: the engine's own. `path`: where the one is now that is joined; empty: as the
    definition says. InvalidArgument: what was at its path is there no more."""
    owned = definition.userns
    if owned.container:
        return UserNamespace(owned.maps, path)
    if owned.path:
        try:
            return UserNamespace(await userns.maps_of(path or owned.path), path or owned.path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InvalidArgument(
                f"cannot join the user namespace at '{owned.path}': {reason}", subject=owned.path
            ) from error
    return UserNamespace(owned.maps) if owned.maps.uids else None


def account_of(services: Services, definition: Definition) -> Account | None:
    """With `keep-id`: the caller, for a root filesystem that does not know him. Root is known."""
    settings = services.settings
    if definition.spec.userns.nsmode != "keep-id" or not settings.rootless:
        return None
    uid, gid = (idmaps.inside(0, lines) for lines in definition.userns.maps)
    if uid == 0:
        return None
    try:
        name = pwd.getpwuid(settings.uid).pw_name
    except KeyError:
        name = f"uid-{settings.uid}"
    return Account(name, uid, gid)


def check_groups(spec: ContainerSpec, caller: Caller, runtime: OciRuntime) -> None:
    """Of the group keep-groups: InvalidArgument and NotSupported where the caller's groups cannot be kept."""
    if KEEP_GROUPS not in spec.groups:
        return
    if len(spec.groups) > 1:
        raise InvalidArgument(f"cannot use --group-add {KEEP_GROUPS} together with other groups")
    if runtime.kind != "crun":
        raise NotSupported(
            f"cannot use --group-add {KEEP_GROUPS}: the OCI runtime {runtime.name} gives up the caller's groups",
            hint="use --runtime crun",
        )
    missing = sorted(set(caller.groups or ()) - identity.groups())
    if missing:
        raise InvalidArgument(
            f"cannot keep the group {missing[0]}: the supervisor was started without it",
            subject=str(missing[0]),
            hint="end the supervisor, containers go on without it, and start it from a session that has the group",
        )
