"""`io.pyman.Volume`: directories with a name that outlive containers, and anonymous ones that go with theirs.

Volumes are found by their names, or by the beginning of one that no other has.
"""

from __future__ import annotations

import msgspec

from pyman.api.container import ExistsReply
from pyman.api.method import Access, Interface, Method, Nothing, Vanish
from pyman.api.selection import ErrorInfo

__all__ = [
    "INTERFACE",
    "CreateVolumeReply",
    "CreateVolumeRequest",
    "InspectVolume",
    "InspectVolumesReply",
    "InspectVolumesRequest",
    "ListVolumesReply",
    "ListVolumesRequest",
    "MountVolumeReply",
    "PruneVolumesRequest",
    "ReloadVolumesReply",
    "RemoveVolumesRequest",
    "RemovedVolume",
    "RemovedVolumesReply",
    "UnmountVolumeRequest",
    "VolumeRequest",
]


class VolumeRequest(msgspec.Struct, frozen=True):
    """Export and Import bring the descriptor of the archive."""

    name: str


class CreateVolumeRequest(msgspec.Struct, frozen=True):
    name: str = ""
    """Empty: 64 hexadecimal digits."""
    driver: str = ""
    """Empty: local, the only one."""
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    """Of the driver: type, device and o for what is mounted there; copy, nocopy."""
    uid: int | None = None
    """The owner of its directory; none: the container's user that uses it first."""
    gid: int | None = None
    ignore: bool = False
    """One of that name that is there is taken."""


class CreateVolumeReply(msgspec.Struct, frozen=True):
    name: str
    created: bool
    """False: it was there."""


class InspectVolume(msgspec.Struct, frozen=True, rename="pascal"):
    """Podman's document."""

    name: str
    driver: str
    mountpoint: str
    created_at: str
    """RFC 3339."""
    labels: dict[str, str]
    scope: str
    options: dict[str, str]
    mount_count: int
    """Mounts for containers and people; 0 where nothing has to be mounted."""
    needs_copy_up: bool
    """The next container fills it with what its image has there."""
    needs_chown: bool
    """The next container makes it its user's."""
    lock_number: int
    anonymous: bool = False
    uid: int = msgspec.field(name="UID", default=0)
    gid: int = msgspec.field(name="GID", default=0)


class ListVolumesRequest(msgspec.Struct, frozen=True):
    filters: dict[str, list[str]] = {}
    """anonymous, dangling, driver, label, label!, name, opt, scope, since (or after), until."""


class ListVolumesReply(msgspec.Struct, frozen=True):
    volumes: list[InspectVolume]
    """By their names."""


class InspectVolumesRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    all: bool = False


class InspectVolumesReply(msgspec.Struct, frozen=True):
    volumes: list[InspectVolume]
    errors: list[ErrorInfo] = []


class RemoveVolumesRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    all: bool = False
    force: bool = False
    """Also the containers that use it."""
    timeout: float | None = None
    """Seconds until SIGKILL with force; none: each container's own."""


class PruneVolumesRequest(msgspec.Struct, frozen=True):
    """Volumes that no container uses."""

    all: bool = False
    """Named ones as well as the anonymous."""
    filters: dict[str, list[str]] = {}
    """anonymous, label, label!, since (or after), until."""
    dry_run: bool = False
    """Nothing is removed; the reply has what would be."""


class RemovedVolume(msgspec.Struct, frozen=True):
    name: str
    size: int = 0
    """Bytes; of a prune only."""
    error: ErrorInfo | None = None


class RemovedVolumesReply(msgspec.Struct, frozen=True):
    volumes: list[RemovedVolume]
    """Those that were found first, in the order of the request."""


class ReloadVolumesReply(msgspec.Struct, frozen=True):
    """What other engines' drivers have that is not known, and the other way round. There is but the driver local, which
    has what is recorded; errors name volumes whose directories are gone."""

    added: list[str]
    removed: list[str]
    errors: list[ErrorInfo]


class MountVolumeReply(msgspec.Struct, frozen=True):
    path: str
    """In the engine's mount namespace, which an ordinary user's is not the host's."""


class UnmountVolumeRequest(msgspec.Struct, frozen=True):
    name: str
    force: bool = False
    """However often people have mounted it. What containers use stays mounted."""


INTERFACE = Interface(
    name="io.pyman.Volume",
    doc="Volumes.",
    methods=(
        Method("Create", CreateVolumeRequest, CreateVolumeReply, "Make a volume.", access=Access.OWNER),
        Method("List", ListVolumesRequest, ListVolumesReply, "The volumes that fit.", access=Access.READ),
        Method(
            "Inspect",
            InspectVolumesRequest,
            InspectVolumesReply,
            "Everything known of volumes.",
            access=Access.READ,
        ),
        Method(
            "Exists",
            VolumeRequest,
            ExistsReply,
            "Whether there is one of exactly that name.",
            access=Access.READ,
        ),
        Method(
            "Remove",
            RemoveVolumesRequest,
            RemovedVolumesReply,
            "Remove volumes that no container uses; with force the containers, too.",
            access=Access.OWNER,
        ),
        Method(
            "Prune",
            PruneVolumesRequest,
            RemovedVolumesReply,
            "Remove the volumes that no container uses.",
            access=Access.OWNER,
        ),
        Method(
            "Export",
            VolumeRequest,
            Nothing,
            "Write what is in a volume into a tar archive.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
            descriptors_in=1,
        ),
        Method(
            "Import",
            VolumeRequest,
            Nothing,
            "Unpack a tar archive into a volume.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
            descriptors_in=1,
        ),
        Method("Reload", Nothing, ReloadVolumesReply, "Compare drivers and records.", access=Access.OWNER),
        Method(
            "Mount",
            VolumeRequest,
            MountVolumeReply,
            "Mount what a volume mounts, for people.",
            access=Access.OWNER,
        ),
        Method("Unmount", UnmountVolumeRequest, Nothing, "Undo a Mount.", access=Access.OWNER),
    ),
)
