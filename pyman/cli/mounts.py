"""Options that mount something in a container, and what of the create request they are."""

from __future__ import annotations

from pyman.cli.options import LIST, TEXT
from pyman.cli.values import absolute, size
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["MOUNT_OPTIONS", "mount_settings"]

MOUNT_OPTIONS: tuple[Option, ...] = (
    (
        "mount",
        "",
        LIST,
        "type=TYPE,…",
        "Mount a bind, volume, tmpfs, image, devpts, glob or ramfs: type=bind,src=DIR,dst=DIR,ro",
    ),
    ("shm-size", "", TEXT, "SIZE", "Size of /dev/shm, such as 100m; 0: as much as there is memory"),
    (
        "shm-size-systemd",
        "",
        TEXT,
        "SIZE",
        "Size of /run, /tmp and the others that are a tmpfs in systemd mode; 0: no limit",
    ),
    ("tmpfs", "", LIST, "DIR[:OPTIONS]", "Mount a tmpfs there, such as /tmp:size=64m,mode=1777"),
    (
        "volume",
        "v",
        LIST,
        "[SOURCE:]DIR[:OPTIONS]",
        "Mount a directory of the host (a path), or a volume (a name, or none)",
    ),
    ("volumes-from", "", LIST, "CONTAINER[:OPTIONS]", "Mount what was mounted in another container"),
)


def mount_settings(args: Parsed) -> dict[str, Any]:
    """The spec's fields that the options of `MOUNT_OPTIONS` set. InvalidArgument, NotSupported."""
    spec: dict[str, Any] = {}
    if args.mount or args.volume or args.tmpfs:
        from pyman.mounttext import mount_fields, tmpfs_fields, volume_fields

        for fields in (
            mount_fields(args.mount, absolute),
            volume_fields(args.volume, absolute),
            tmpfs_fields(args.tmpfs),
        ):
            for name, wishes in fields.items():
                spec.setdefault(name, []).extend(wishes)
    if args.volumes_from:
        spec["volumes_from"] = args.volumes_from
    for option, text in (("shm-size", args.shm_size), ("shm-size-systemd", args.shm_size_systemd)):
        if text:
            number = size(text, base=1024)
            if number is None or number < 0:
                raise InvalidArgument(
                    f"option --{option} cannot be '{text}'", hint="it must be a size such as 100m"
                )
            spec[option.replace("-", "_")] = number
    return spec
