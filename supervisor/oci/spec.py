"""The OCI runtime specification's configuration, as far as the engine writes it.

Field names are the specification's in Python's spelling; what equals its default is left out of the JSON.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "Box",
    "Capabilities",
    "Cpu",
    "Device",
    "DeviceRule",
    "IdMapping",
    "Linux",
    "Memory",
    "Mount",
    "NamespaceEntry",
    "Pids",
    "PosixRlimit",
    "Process",
    "Resources",
    "Root",
    "Spec",
    "User",
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


class Cpu(msgspec.Struct, frozen=True, omit_defaults=True):
    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    cpus: str = ""
    mems: str = ""


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    devices: list[DeviceRule] = []
    pids: Pids | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None


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


class Spec(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    oci_version: str
    process: Process
    root: Root
    mounts: list[Mount]
    linux: Linux
    hostname: str = ""
    annotations: dict[str, str] = {}
