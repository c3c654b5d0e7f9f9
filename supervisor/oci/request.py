"""What a container's configuration is built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyman.api.spec import ContainerSpec
from supervisor.kernel.idmaps import IdMaps
from supervisor.oci.given import Given
from supervisor.oci.imaged import ImageUse
from supervisor.oci.mounted import Mounted
from supervisor.oci.placement import place_of
from supervisor.oci.systemd_mode import is_on
from supervisor.settings.model import Settings

if TYPE_CHECKING:
    from supervisor.oci.placement import Placement

__all__ = ["Account", "BuildRequest", "ExecBuildRequest", "UserNamespace"]


class UserNamespace(msgspec.Struct, frozen=True):
    """A user namespace other than the engine's. `path`: one to join; empty: a new one."""

    maps: IdMaps
    path: str = ""


class Account(msgspec.Struct, frozen=True):
    """A user whom a container's /etc/passwd and /etc/group get where they do not have him."""

    name: str
    uid: int
    gid: int


class Networking(msgspec.Struct, frozen=True):
    """What a container's files say of the networks that it is on."""

    addresses: list[str] = []
    """Its own."""
    host: str | None = ""
    """By which it finds the host; empty: the host's first one; None: by none."""
    servers: list[str] = []
    """Who is asked for names; none: whom the host asks."""
    leased: list[str] = []
    """Who is asked for names where nobody names others: as a DHCP server says, instead of whom the host asks."""
    forwarders: list[str] = []
    """Who asks the host's servers for it, and comes before them where nobody names others."""
    ipv6: bool = False
    """It reaches the host's servers by IPv6, too."""
    searches: list[str] = []
    """Domains in which names are looked for."""


class BuildRequest(msgspec.Struct, frozen=True):
    """A container and everything around it that its configuration depends on."""

    id: str
    name: str
    spec: ContainerSpec
    rootfs: str
    """The root filesystem as it is mounted now; the users and directories named are looked up in it. Empty: it is not
    mounted yet, and nobody is looked up."""
    hostname: str
    settings: Settings
    run_directory: str
    """Where `write_files` puts the files that are mounted into the container."""
    image: ImageUse = ImageUse()
    volumes: dict[str, str] = {}
    """Where the volumes of the spec are, by their names."""
    volumes_directory: str = ""
    """Where the volumes that the image wants are directories, by their numbers: of a container that was made before
    there were volumes."""
    mounted: list[Mounted] = []
    """All that the user has mounted, the volumes of the spec included."""
    notify_directory: str = ""
    """Where the socket is by which the container says that it is ready; empty: nobody wants to know."""
    secrets: list[Given] = []
    """Those that are files."""
    secret_environment: dict[str, str] = {}
    """Variables that have secrets as their values; without these, unless it is for a process that is to have them."""
    subscriptions: list[tuple[str, str]] = []
    """What it has copies of: paths on the host and in the container."""
    userns: UserNamespace | None = None
    joined: dict[str, str] = {}
    """Where the namespaces are that it joins, by the specification's names of the kinds. Empty: not known yet."""
    foreign: frozenset[str] = frozenset()
    """The kinds of those that belong to a user namespace over which the container has no rights: what shows them
    cannot be mounted by it."""
    network_files: dict[str, str] | None = None
    """Where the files are, by their places in the container, that it shares with the container whose network it joins;
    None: it joins none, or they are not known yet."""
    networking: Networking | None = None
    """None: it is on no networks of its own, or they are not known yet."""
    account: Account | None = None
    host_environment: dict[str, str] = {}
    """The caller's variables: all of them are used only if the spec asks for that, else those of proxies."""
    caller_cgroup: str = ""
    """Contents of the caller's /proc/self/cgroup."""
    stop_signal: int = 15
    stop_timeout: float = 10.0
    """Seconds."""
    rows: int = 0
    columns: int = 0
    """The terminal's first size in characters; 0: unknown."""

    @property
    def privileged(self) -> bool:
        return self.spec.privileged or self.settings.containers.privileged

    @property
    def restricted(self) -> bool:
        """Whoever creates the container's namespaces is not root on the host, or will not be there."""
        return self.settings.rootless or self.userns is not None

    @property
    def read_only(self) -> bool:
        """The root filesystem, that is."""
        return self.spec.read_only_filesystem or self.settings.containers.read_only

    @property
    def placement(self) -> Placement:
        """Of the cgroup."""
        return place_of(self.settings, self.spec, self.caller_cgroup, self.id)

    @property
    def shm_size(self) -> int:
        """Bytes; 0: no limit."""
        asked = self.spec.shm_size
        return self.settings.containers.shm_size if asked is None else asked

    @property
    def init(self) -> bool:
        return self.spec.init or self.settings.containers.init

    @property
    def systemd(self) -> bool:
        """It is in systemd mode."""
        return is_on(self.spec, init=self.init)


class ExecBuildRequest(msgspec.Struct, frozen=True):
    """A further command in a container."""

    container: BuildRequest
    command: list[str]
    env: dict[str, str] = {}
    user: str = ""
    work_dir: str = ""
    terminal: bool = False
    privileged: bool = False
    rows: int = 0
    columns: int = 0
