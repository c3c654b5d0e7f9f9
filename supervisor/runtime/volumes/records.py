"""What the state database keeps of a volume: what it was created as, and what is known of it."""

from __future__ import annotations

import msgspec

__all__ = ["Volume", "VolumeObserved", "Wish"]


class Wish(msgspec.Struct, frozen=True):
    """A volume as it is asked for."""

    name: str = ""
    """Empty: 64 hexadecimal digits."""
    driver: str = ""
    """Empty: local, the only one."""
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    """Of the driver: `type`, `device`, `o`, `copy`, `nocopy`."""
    uid: int | None = None
    gid: int | None = None
    anonymous: bool = False
    """It goes with its container."""


class Volume(msgspec.Struct, frozen=True, omit_defaults=True):
    """What it was created as; never changed."""

    name: str
    mountpoint: str
    created: int
    """Nanoseconds since the epoch."""
    lock: int
    driver: str = "local"
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    """As `inspect` shows them."""
    anonymous: bool = False
    uid: int = 0
    gid: int = 0
    type: str = ""
    """Of a file system that is mounted at the mountpoint while the volume is used."""
    device: str = ""
    mount_options: str = ""
    no_copy: bool = False
    """Nothing that an image has goes into it."""

    @property
    def needs_mount(self) -> bool:
        """It is more than a directory."""
        return bool(self.type or self.device or self.mount_options)


class VolumeObserved(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has become of it."""

    needs_copy_up: bool = True
    """The first image that has something where it is mounted fills it."""
    needs_chown: bool = True
    """The next container it is mounted into makes it its user's."""
    chowned: tuple[int, int] | None = None
    """The container's user it was given to last: uid and gid."""
    holders: tuple[str, ...] = ()
    """Containers for which it is mounted. Where nothing needs to be mounted, none is noted."""
    mounts: int = 0
    """How often people have mounted it."""

    @property
    def count(self) -> int:
        return len(self.holders) + self.mounts

    @property
    def settled(self) -> bool:
        """Nothing has to be done before it is mounted into a container."""
        return not self.needs_copy_up and not self.needs_chown
