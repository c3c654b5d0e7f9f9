"""The settings as frozen values: containers.conf(5), storage.conf(5) and pyman's own table.

Fields carry the names of the configuration keys, so that `engine.stop_timeout` in a file, in a warning,
in the answer to `system reload` and in the code are the same word. What a key means is in the manual
pages of containers.conf and storage.conf; here stands only what differs or what the type does not say.

Rules: nothing here reads a file or the environment (`load` does). A value is kept in the form in which it
is used: sizes in bytes, durations in seconds, `NAME=VALUE` lists as mappings, limits as `Rlimit` with -1
for unlimited.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pyman.api.spec import Rlimit
from supervisor.settings.xdg import Xdg

__all__ = [
    "AFTER_RESTART",
    "RUNTIME_PATHS",
    "ContainersSettings",
    "EngineSettings",
    "NetworkSettings",
    "Options",
    "PymanSettings",
    "SecretsSettings",
    "Settings",
    "StorageSettings",
    "SubnetPool",
    "changed",
    "needs_restart",
]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_RUNTIME_DIRECTORIES = (
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/sbin",
    "/bin",
    "/run/current-system/sw/bin",
)

RUNTIME_PATHS: dict[str, tuple[str, ...]] = {
    name: tuple(f"{directory}/{name}" for directory in _RUNTIME_DIRECTORIES)
    for name in ("crun", "runc", "youki", "runsc", "krun")
} | {"kata": tuple(f"{directory}/kata-runtime" for directory in _RUNTIME_DIRECTORIES)}
"""Where OCI runtimes are looked for unless `[engine.runtimes]` says otherwise."""


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the command line says; an absent value leaves the files' word in force."""

    root: str | None = None
    runroot: str | None = None
    tmpdir: str | None = None
    config: str | None = None
    """A file that is read instead of all other containers.conf files."""
    log_level: str | None = None
    on_stop: str | None = None
    """`leave` or `stop`."""
    storage_driver: str | None = None
    storage_opt: tuple[str, ...] | None = None
    runtime: str | None = None
    runtime_flags: tuple[str, ...] | None = None
    conmon: str | None = None
    cgroup_manager: str | None = None
    events_backend: str | None = None
    namespace: str | None = None
    volumepath: str | None = None
    network_config_dir: str | None = None


class ContainersSettings(msgspec.Struct, frozen=True):
    """`[containers]`: the defaults of a new container."""

    annotations: dict[str, str] = {}
    apparmor_profile: str = ""
    """For containers that ask for none, where there is AppArmor; empty: none is set."""
    base_hosts_file: str = ""
    """What /etc/hosts has besides: a path on the host, `image` or `none`; empty: the host's own."""
    cgroupns: str = ""
    """Empty: private on the unified hierarchy, host elsewhere."""
    cgroups: str = "enabled"
    """`enabled`, `no-conmon` or `disabled`."""
    default_capabilities: tuple[str, ...] = (
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    )
    """Always in capitals and with CAP_, sorted."""
    default_sysctls: dict[str, str] = msgspec.field(
        default_factory=lambda: {"net.ipv4.ping_group_range": "0 0"}
    )
    default_ulimits: tuple[Rlimit, ...] = ()
    devices: tuple[str, ...] = ()
    """As of --device."""
    dns_options: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_servers: tuple[str, ...] = ()
    """Addresses; `none`: the image's /etc/resolv.conf stays."""
    env: dict[str, str] = msgspec.field(default_factory=lambda: {"PATH": _PATH, "TERM": "xterm"})
    host_containers_internal_ip: str = ""
    """The host's address for containers; empty: it is looked for; `none`: they are not told one."""
    http_proxy: bool = True
    """The caller's variables of proxies are set."""
    init: bool = False
    init_path: str = ""
    """Empty: catatonit, searched in `engine.helper_binaries_dir` and `/usr/bin`."""
    interface_name: str = ""
    """`device`: a container's interface is called as its network's on the host; empty: eth0 and so on."""
    ipcns: str = "shareable"
    log_driver: str = "k8s-file"
    """`k8s-file` (`json-file` means the same), `none` or `passthrough`."""
    log_size_max: int = -1
    """Bytes; not positive: no limit."""
    log_tag: str = ""
    mounts: tuple[str, ...] = ()
    """As --mount has them, for every container."""
    netns: str = "private"
    no_hosts: bool = False
    """The image's /etc/hosts stays."""
    oom_score_adj: int | None = None
    pidns: str = "private"
    pids_limit: int = 2048
    """Not positive: no limit."""
    privileged: bool = False
    read_only: bool = False
    seccomp_profile: str = ""
    """A file; empty or `unconfined`: no profile. Unless a file of settings says something, it is the one that
    the administrator or else the distribution has installed."""
    shm_size: int = 65536 * 1024
    """Bytes."""
    tz: str = ""
    """A time zone, or `local`: the host's; empty: the image's."""
    umask: str = "0022"
    userns: str = "host"
    """A mode of --userns, with its options: `keep-id:uid=200`."""
    utsns: str = "private"
    volumes: tuple[str, ...] = ()
    """As --volume has them, for every container."""


class EngineSettings(msgspec.Struct, frozen=True):
    """`[engine]`: how the supervisor works."""

    add_compression: tuple[str, ...] = ()
    """In what compressions each platform of a manifest list is pushed besides: `gzip`, `zstd`."""
    cgroup_manager: str = "cgroupfs"
    """`cgroupfs` or `systemd`; the latter is the default of a user whose service manager can be reached."""
    compression_format: str = ""
    """What layers are compressed with for places that have them compressed: `gzip`, `zstd`; empty: gzip."""
    compression_level: int | None = None
    """As the format counts it; none: a quick one."""
    conmon_env_vars: dict[str, str] = msgspec.field(default_factory=lambda: {"PATH": _PATH})
    conmon_path: tuple[str, ...] = (
        "/usr/libexec/podman/conmon",
        "/usr/local/libexec/podman/conmon",
        "/usr/local/lib/podman/conmon",
        "/usr/bin/conmon",
        "/usr/sbin/conmon",
        "/usr/local/bin/conmon",
        "/usr/local/sbin/conmon",
        "/run/current-system/sw/bin/conmon",
    )
    detach_keys: str = "ctrl-p,ctrl-q"
    env: dict[str, str] = {}
    """For the programs that the supervisor starts."""
    events_logfile_max_size: int = 1_000_000
    """Bytes; 0: no limit."""
    events_logfile_path: str = ""
    """Empty: `events.log` in the directory for temporary files."""
    events_logger: str = "none"
    """A sink beside the journal in the state database: `none`, `file` or `journald`."""
    helper_binaries_dir: tuple[str, ...] = (
        "/usr/local/libexec/podman",
        "/usr/local/lib/podman",
        "/usr/libexec/podman",
        "/usr/lib/podman",
    )
    image_copy_tmp_dir: str = "/var/tmp"  # noqa: S108 - Podman's default
    """Where Buildah keeps the caches of builds, unless $TMPDIR says otherwise; `storage`: `tmp` in the graph root. What
    pyman has to keep for a while lies in the graph root in any case."""
    image_parallel_copies: int = 0
    """Blobs that are transferred at once; 0: as many as pyman finds right."""
    image_volume_mode: str = "anonymous"
    """What becomes of the volumes that an image names: `anonymous`, `tmpfs` or `ignore`."""
    lock_type: str = "shm"
    multi_image_archive: bool = False
    """Every name that is saved is an image; else those after the first are further names of it."""
    namespace: str = ""
    network_cmd_options: tuple[str, ...] = ()
    """For slirp4netns, before what a container asks for."""
    network_cmd_path: str = ""
    """Of slirp4netns; empty: it is looked for."""
    num_locks: int = 2048
    """To start with: the supervisor makes more when they are used up."""
    pull_policy: str = "missing"
    """When a container's image is looked for in a registry: `always`, `missing`, `newer` or `never`."""
    retry: int = 3
    """How often a failed request to a registry is tried again."""
    retry_delay: float | None = None
    """Seconds before each repetition; none: doubling from 1."""
    runtime: str = ""
    """A name in `runtimes` or an absolute path; empty: chosen by what works here."""
    runtime_flags: tuple[str, ...] = ()
    """Arguments for every call of the OCI runtime, from the command line alone."""
    runtime_supports_nocgroups: tuple[str, ...] = ("crun", "crun-vm", "krun")
    runtimes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(RUNTIME_PATHS))
    static_dir: str = ""
    """Empty: below the graph root. pyman uses a directory `pyman` in it."""
    stop_timeout: float = 10.0
    """Seconds."""
    tmp_dir: str = ""
    """Empty: below /run or $XDG_RUNTIME_DIR. pyman uses a directory `pyman` in it."""
    volume_path: str = ""
    """Empty: `volumes` in the graph root."""


class SubnetPool(msgspec.Struct, frozen=True):
    """Where subnets are taken from that nobody names."""

    base: str
    """An IPv4 network in CIDR notation."""
    size: int
    """The length of the prefix of each subnet."""


class NetworkSettings(msgspec.Struct, frozen=True):
    """`[network]`."""

    default_host_ips: tuple[str, ...] = ()
    """Addresses of the host at which ports are published that name none; empty: all."""
    default_network: str = "podman"
    default_rootless_network_cmd: str = "pasta"
    """`pasta` or `slirp4netns`: what an ordinary user's containers have."""
    default_subnet: str = "10.88.0.0/16"
    """IPv4 or IPv6, in CIDR notation."""
    default_subnet_pools: tuple[SubnetPool, ...] = (
        SubnetPool("10.89.0.0/16", 24),
        SubnetPool("10.90.0.0/15", 24),
        SubnetPool("10.92.0.0/14", 24),
        SubnetPool("10.96.0.0/11", 24),
        SubnetPool("10.128.0.0/9", 24),
    )
    """The first that is free is taken."""
    network_config_dir: str = ""
    """Empty: /etc/containers/networks, rootless `networks` in the graph root."""
    dns_bind_port: int = 53
    pasta_options: tuple[str, ...] = ()
    """For pasta, before what a container asks for."""


class SecretsSettings(msgspec.Struct, frozen=True):
    """`[secrets]`: what a new secret has that is not asked for something else."""

    driver: str = "file"
    """`file`, `pass` or `shell`."""
    opts: dict[str, str] = {}
    """Options of that driver."""


class StorageSettings(msgspec.Struct, frozen=True):
    """`[storage]` of storage.conf. The paths are final: absolute, with the options applied."""

    driver: str = "overlay"
    graphroot: str = "/var/lib/containers/storage"
    runroot: str = "/run/containers/storage"
    options: tuple[str, ...] = ()
    """`overlay.mountopt=nodev` and so on, for the storage driver."""
    auto_userns_min_size: int = 1024
    auto_userns_max_size: int = 65536
    """Ids of a user namespace of mode auto that was given no size."""
    root_auto_userns_user: str = "containers"
    """Whose subordinate ids root's namespaces of mode auto are made of."""


class PymanSettings(msgspec.Struct, frozen=True):
    """`[pyman]` in containers.conf: what Podman has no key for. Durations in seconds."""

    restart_delay: float = 0.1
    restart_factor: float = 2.0
    restart_maximum: float = 60.0
    restart_reset: float = 10.0
    restart_budget: float = 0.5
    """Restarts by policy per second, of all failing containers of this supervisor together."""
    restart_burst: int = 100
    """As many restarts may come at once before the budget counts."""
    events_max_entries: int = 100_000
    events_max_bytes: int = 64 << 20
    on_stop: str = "leave"
    """What becomes of containers when the supervisor is told to end: `leave` or `stop`."""
    call_deadline: float = 30.0
    """For one call of an OCI runtime or of conmon."""
    health_checks_at_once: int = 16
    """Health checks of all containers that run at the same time, at most."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""


class Settings(msgspec.Struct, frozen=True):
    """Everything that was decided before the supervisor starts."""

    uid: int
    xdg: Xdg
    containers: ContainersSettings = ContainersSettings()
    engine: EngineSettings = EngineSettings()
    network: NetworkSettings = NetworkSettings()
    secrets: SecretsSettings = SecretsSettings()
    storage: StorageSettings = StorageSettings()
    pyman: PymanSettings = PymanSettings()
    subscriptions: tuple[tuple[str, str], ...] = ()
    """What mounts.conf has: paths on the host, with the paths at which new containers have copies of them."""
    selection: str = ""
    """Which supervisor this is: empty for the default one, `root:PATH` or `config:PATH`."""
    options: Options = Options()
    files: tuple[str, ...] = ()
    """The configuration files that were read, in order."""
    warnings: tuple[str, ...] = ()
    """A sentence each, for the log and for `info`."""

    @property
    def rootless(self) -> bool:
        """The engine of an ordinary user, which lives in a user namespace."""
        return self.uid != 0

    @property
    def child_environment(self) -> dict[str, str]:
        """What conmon and the OCI runtimes have to know besides the clean environment: a user's runtime keeps its
        state below the user's runtime directory, takes a user who is not called root for one, and asks the user's
        systemd for cgroups."""
        if not self.rootless:
            return {}
        return {
            "XDG_RUNTIME_DIR": self.xdg.runtime_dir,
            "USER": f"uid-{self.uid}",
            "DBUS_SESSION_BUS_ADDRESS": self.xdg.bus_address,
        }


_SECTIONS = ("containers", "engine", "network", "secrets", "storage", "pyman")

AFTER_RESTART = frozenset(
    {
        "engine.cgroup_manager",
        "engine.conmon_path",
        "engine.env",
        "engine.events_logfile_max_size",
        "engine.events_logfile_path",
        "engine.events_logger",
        "engine.image_parallel_copies",
        "engine.lock_type",
        "engine.namespace",
        "engine.num_locks",
        "engine.runtime",
        "engine.runtime_flags",
        "engine.runtimes",
        "engine.static_dir",
        "engine.tmp_dir",
        "engine.volume_path",
        "network.dns_bind_port",
        "network.network_config_dir",
        "pyman.call_deadline",
        "pyman.events_max_bytes",
        "pyman.events_max_entries",
        "pyman.log_level",
        "storage.driver",
        "storage.graphroot",
        "storage.options",
        "storage.runroot",
    }
)
"""Settings that are read once, when the supervisor starts."""


def changed(old: Settings, new: Settings) -> list[str]:
    """The dotted names of the settings that differ, sorted."""
    names: list[str] = []
    for section in _SECTIONS:
        before: msgspec.Struct = getattr(old, section)
        after: msgspec.Struct = getattr(new, section)
        for field in before.__struct_fields__:
            here: Any = getattr(before, field)
            if here != getattr(after, field):
                names.append(f"{section}.{field}")
    return sorted(names)


def needs_restart(names: list[str]) -> list[str]:
    """Those of the dotted names that take effect only with the next supervisor."""
    return [name for name in names if name in AFTER_RESTART]
