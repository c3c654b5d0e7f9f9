"""The OCI runtime specification's configuration, as far as the engine writes it.

Field names are the specification's in Python's spelling; what equals its default is left out of the JSON.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "BlockIo",
    "Box",
    "Capabilities",
    "Cpu",
    "Device",
    "DeviceRule",
    "IdMapping",
    "IntelRdt",
    "Linux",
    "Memory",
    "Mount",
    "NamespaceEntry",
    "Personality",
    "Pids",
    "PosixRlimit",
    "Process",
    "Resources",
    "Root",
    "Spec",
    "ThrottledDevice",
    "User",
    "WeighedDevice",
]

OCI_VERSION = "1.0.2"


class Box(msgspec.Struct, frozen=True):
    """A terminal's size in characters."""

    height: int
    width: int


class User(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    uid: int
    gid: int
    umask: int | None = None
    additional_gids: list[int] = []


class PosixRlimit(msgspec.Struct, frozen=True):
    type: str
    hard: int
    soft: int


class Capabilities(msgspec.Struct, frozen=True, omit_defaults=True):
    bounding: list[str] = []
    effective: list[str] = []
    inheritable: list[str] = []
    permitted: list[str] = []
    ambient: list[str] = []


class Process(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    user: User
    args: list[str]
    env: list[str]
    cwd: str
    terminal: bool = False
    console_size: Box | None = None
    capabilities: Capabilities | None = None
    rlimits: list[PosixRlimit] = []
    oom_score_adj: int | None = None
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""


class Root(msgspec.Struct, frozen=True, omit_defaults=True):
    path: str
    readonly: bool = False


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    destination: str
    type: str
    source: str
    options: list[str] = []


class NamespaceEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    path: str = ""


class IdMapping(msgspec.Struct, frozen=True):
    """`size` ids from `container_id` on are the host's from `host_id` on."""

    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int


class Device(msgspec.Struct, frozen=True, rename="camel"):
    path: str
    type: str
    major: int
    minor: int
    file_mode: int
    uid: int
    gid: int


class DeviceRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of the cgroup. Without a type and a number it is about every device."""

    allow: bool
    access: str
    type: str = ""
    major: int | None = None
    minor: int | None = None


class Pids(msgspec.Struct, frozen=True):
    limit: int


class Memory(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes; `swap` counts the memory too."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(name="disableOOMKiller", default=None)


class Cpu(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""


class WeighedDevice(msgspec.Struct, frozen=True):
    major: int
    minor: int
    weight: int


class ThrottledDevice(msgspec.Struct, frozen=True):
    major: int
    minor: int
    rate: int
    """Bytes or operations a second."""


class BlockIo(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    weight: int | None = None
    weight_device: list[WeighedDevice] = []
    throttle_read_bps_device: list[ThrottledDevice] = []
    throttle_write_bps_device: list[ThrottledDevice] = []
    throttle_read_iops_device: list[ThrottledDevice] = msgspec.field(
        name="throttleReadIOPSDevice", default_factory=list
    )
    throttle_write_iops_device: list[ThrottledDevice] = msgspec.field(
        name="throttleWriteIOPSDevice", default_factory=list
    )


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    devices: list[DeviceRule] = []
    pids: Pids | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    block_io: BlockIo | None = msgspec.field(name="blockIO", default=None)
    unified: dict[str, str] = {}
    """Files of cgroup v2, and what is written to them."""


class Personality(msgspec.Struct, frozen=True):
    """Of personality(2): LINUX or LINUX32."""

    domain: str


class IntelRdt(msgspec.Struct, frozen=True):
    clos_id: str = msgspec.field(name="closID")


class Linux(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    namespaces: list[NamespaceEntry]
    uid_mappings: list[IdMapping] = []
    gid_mappings: list[IdMapping] = []
    sysctl: dict[str, str] = {}
    resources: Resources | None = None
    cgroups_path: str = ""
    devices: list[Device] = []
    seccomp: msgspec.Raw | None = None
    """Already encoded: the profile is long and the same for nearly every container."""
    rootfs_propagation: str = ""
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    mount_label: str = ""
    personality: Personality | None = None
    intel_rdt: IntelRdt | None = None


class Spec(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    oci_version: str
    process: Process
    root: Root
    mounts: list[Mount]
    linux: Linux
    hostname: str = ""
    annotations: dict[str, str] = {}
