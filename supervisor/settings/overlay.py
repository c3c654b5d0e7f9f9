"""The options of the storage driver, as far as they concern how an overlay is mounted and where layers are.

They stand in `[storage.options]` and `[storage.options.overlay]` of storage.conf, in $STORAGE_OPTS and after
`--storage-opt`, with or without `overlay.` in front. Three kinds: what `OverlayOptions` has is acted upon; what
would change something that pyman does not do yet is warned of by name; the rest concerns other drivers, or
parts that pyman does not have.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import msgspec

from supervisor.settings.values import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "BOTH",
    "FUSE_ALONE",
    "KERNEL_ALONE",
    "OverlayOptions",
    "overlay_options",
    "unknown_to",
    "warnings_of",
]

_PREFIXES = ("overlay.", "overlay2.")
_OTHER_DRIVERS = ("aufs.", "btrfs.", "devicemapper.", "thinpool.", "vfs.", "zfs.")
_ACTED_UPON = ("mount_program", "mountopt", "force_mask", "ignore_chown_errors", "sync")
_ADDITIONAL = ("additionalimagestores", "additionalimagestore", "imagestore")
"""Three names of one list; the last as an option of the driver."""
_NOT_YET = frozenset(
    {
        "additionallayerstore",
        "additionallayerstores",
        "inodes",
        "remap-gids",
        "remap-group",
        "remap-uids",
        "remap-user",
        "size",
        "use_composefs",
    }
)
_WITHOUT_EFFECT = frozenset(
    {
        "auto-userns-max-size",
        "auto-userns-min-size",
        "disable-volatile",
        "override_kernel_check",
        "root-auto-userns-user",
        "skip_mount_home",
    }
)

BOTH = frozenset({"nodev", "nosuid", "noexec", "noatime", "nodiratime", "relatime"})
KERNEL_ALONE = frozenset({"index", "metacopy", "nfs_export", "redirect_dir", "uuid", "verity", "xino"})
FUSE_ALONE = frozenset(
    {
        "clone_fd",
        "fsync",
        "ino32_t",
        "max_idle_threads",
        "max_threads",
        "noacl",
        "noxattrs",
        "squash_to_gid",
        "squash_to_root",
        "squash_to_uid",
        "static_nlink",
        "threaded",
        "timeout",
        "volatile",
        "xattr_permissions",
    }
)
"""What may stand in `mountopt`, up to an equals sign, by who understands it: the kernel's overlay, fuse-overlayfs."""


class OverlayOptions(msgspec.Struct, frozen=True):
    mount_program: str = ""
    """A program that is called like fuse-overlayfs; empty: the kernel mounts, where it does that."""
    mountopt: tuple[str, ...] = ()
    """Words of the three sets above, with their values."""
    force_mask: bool = False
    """Files have other permissions on the disk than in containers, whose own are in extended attributes."""
    additional_stores: tuple[str, ...] = ()
    """Graph roots whose images are there, too, and which are only read. Absolute paths."""
    ignore_chown_errors: bool = False
    """Files of layers whose owner does not exist here belong to the engine's user."""
    sync: bool = False
    """A layer's files have reached the disk before it is recorded."""


def overlay_options(options: Iterable[str]) -> OverlayOptions:
    """From `NAME=VALUE` texts; what belongs to the overlay driver wins over what belongs to any. Raises Unusable
    with the name of the option as its second argument."""
    found: dict[str, str] = {}
    stores: list[str] = []
    for name, value in _pairs(options):
        key = _bare(name)
        if key in _ADDITIONAL:
            stores += _stores(name, value)
        if key in _ACTED_UPON and (key != name or key not in found):
            try:
                _check(key, value)
            except Unusable as error:
                raise Unusable(str(error), name) from None
            found[key] = value
    if found.get("force_mask") and not found.get("mount_program"):
        raise Unusable("possible without a mount_program, which stores the permissions", "force_mask")
    words = tuple(word.strip() for word in found.get("mountopt", "").split(",") if word.strip())
    return OverlayOptions(
        mount_program=found.get("mount_program", ""),
        mountopt=words,
        force_mask=bool(found.get("force_mask")),
        ignore_chown_errors=found.get("ignore_chown_errors") == "true",
        additional_stores=tuple(dict.fromkeys(stores)),
        sync=found.get("sync") == "filesystem",
    )


def warnings_of(options: Iterable[str]) -> Iterator[str]:
    """A sentence for each option that nothing acts upon and somebody may count on."""
    for name, _value in _pairs(options):
        key = _bare(name)
        if key in _NOT_YET:
            yield f"the storage option '{name}' is not supported yet and has no effect"
        elif not (
            key in _ACTED_UPON
            or key in _ADDITIONAL
            or key in _WITHOUT_EFFECT
            or name.startswith(_OTHER_DRIVERS)
            or key.startswith("pull_options.")
        ):
            known = [*_ACTED_UPON, *_ADDITIONAL, *_NOT_YET, *_WITHOUT_EFFECT]
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
            yield f"the unknown storage option '{name}' is ignored{hint}"


def unknown_to(options: Iterable[str]) -> str:
    """The first option that nothing here acts upon; empty: there is none."""
    for name, _value in _pairs(options):
        if _bare(name) not in (*_ACTED_UPON, *_ADDITIONAL, *_WITHOUT_EFFECT):
            return name
    return ""


def _pairs(options: Iterable[str]) -> Iterator[tuple[str, str]]:
    for option in options:
        name, _, value = option.partition("=")
        yield name.lower(), value


def _stores(name: str, value: str) -> list[str]:
    paths = [path.strip() for path in value.split(",") if path.strip()]
    for path in paths:
        if not path.startswith("/"):
            raise Unusable("a list of absolute paths", name)
    return [path.rstrip("/") or "/" for path in paths]


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _check(key: str, value: str) -> None:
    if key == "mount_program" and value and not value.startswith("/"):
        raise Unusable("an absolute path")
    if key == "force_mask" and not re.fullmatch(r"|shared|private|0?[0-7]{3,4}", value):
        raise Unusable("'shared', 'private' or an octal mode such as 700")
    if key == "ignore_chown_errors" and value not in ("", "true", "false"):
        raise Unusable("true or false")
    if key == "sync" and value not in ("", "none", "filesystem"):
        raise Unusable("'none' or 'filesystem'")
    if key == "mountopt":
        known = BOTH | KERNEL_ALONE | FUSE_ALONE
        for word in value.split(","):
            name = word.strip().partition("=")[0]
            if name and name not in known:
                raise Unusable(f"a list of mount options that are known: '{name}' is none")
