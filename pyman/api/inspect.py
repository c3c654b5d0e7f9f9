"""What `inspect` and `info` show, with the keys of Podman's JSON.

Keys whose value is always the same stand for what this version does not set: templates written for Podman
find them, and what they find is true.
"""

from __future__ import annotations

import msgspec

from pyman.api.inspect_networks import InspectHostPort, InspectNetworkSettings

__all__ = [
    "ExecInspect",
    "ExecProcess",
    "InspectAfter",
    "InspectBlkioDevice",
    "InspectBlkioWeightDevice",
    "InspectConfig",
    "InspectContainer",
    "InspectDevice",
    "InspectHealth",
    "InspectHealthLog",
    "InspectHealthcheck",
    "InspectHostConfig",
    "InspectIdMappings",
    "InspectLogConfig",
    "InspectMount",
    "InspectRestart",
    "InspectRestartPolicy",
    "InspectSecretFile",
    "InspectStartupHealthcheck",
    "InspectState",
    "InspectUlimit",
]


class InspectHealthLog(msgspec.Struct, frozen=True, rename="pascal"):
    """One answer of a health check."""

    start: str
    """RFC 3339, as the next one."""
    end: str
    exit_code: int
    """0, 1, or -1: it took too long."""
    output: str


class InspectHealth(msgspec.Struct, frozen=True, rename="pascal"):
    """Of the present run, or the last one."""

    status: str = ""
    """starting, healthy or unhealthy; empty: there is no health check, or it was not started yet."""
    failing_streak: int = 0
    log: list[InspectHealthLog] | None = None
    """The newest last."""
    skipped: int = 0
    """Checks that could not be run in time."""


class InspectState(msgspec.Struct, frozen=True, rename="pascal"):
    oci_version: str
    status: str
    running: bool
    paused: bool
    restarting: bool
    """The restart policy will start it again; see `Restart` for when."""
    oom_killed: bool = msgspec.field(name="OOMKilled")
    dead: bool
    pid: int
    conmon_pid: int
    exit_code: int
    exit_known: bool
    """False where the exit code could not be learnt: `ExitCode` is -1 then."""
    error: str
    started_at: str
    """RFC 3339; 0001-01-01T00:00:00Z: never."""
    finished_at: str
    cgroup_path: str
    monitor: str
    """`ok`, `lost` (conmon ended before the container), `wedged` (does not answer), or empty."""
    health: InspectHealth = InspectHealth()
    checkpointed_at: str = "0001-01-01T00:00:00Z"
    restored_at: str = "0001-01-01T00:00:00Z"


class InspectRestart(msgspec.Struct, frozen=True, rename="pascal"):
    """What the restart policy will do next."""

    count: int
    """Restarts by the policy since the last start by a user."""
    next: str
    """RFC 3339 time of the pending restart; empty: none."""
    delay: float
    """Seconds of the current delay."""
    reason: str
    """Why there will be, or will not be, a restart."""


class InspectAfter(msgspec.Struct, frozen=True, rename="pascal"):
    """What a container that is depended on has to be before the other one starts, beside started."""

    container: str
    """Its id."""
    condition: str
    """healthy or completed."""


class InspectMount(msgspec.Struct, frozen=True, rename="pascal"):
    type: str
    source: str
    destination: str
    name: str = ""
    """Of a volume."""
    driver: str = ""
    mode: str = ""
    options: list[str] = []
    rw: bool = msgspec.field(name="RW", default=True)
    propagation: str = ""
    sub_path: str = ""


class InspectHealthcheck(msgspec.Struct, frozen=True, rename="pascal"):
    """Times in nanoseconds."""

    test: list[str]
    interval: int
    """0: it runs only when somebody asks for it."""
    timeout: int
    start_period: int
    retries: int


class InspectStartupHealthcheck(msgspec.Struct, frozen=True, rename="pascal"):
    """Times in nanoseconds."""

    test: list[str]
    interval: int
    timeout: int
    retries: int
    successes: int


class InspectSecretFile(msgspec.Struct, frozen=True, rename="pascal"):
    """A secret that is a file in a container."""

    name: str
    id: str = msgspec.field(name="ID")
    uid: int = msgspec.field(name="UID")
    """In the container, as the next one."""
    gid: int = msgspec.field(name="GID")
    mode: int


class InspectConfig(msgspec.Struct, frozen=True, rename="pascal"):
    hostname: str
    user: str
    attach_stdin: bool
    tty: bool
    open_stdin: bool
    env: list[str]
    cmd: list[str]
    image: str
    working_dir: str
    entrypoint: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    stop_signal: int
    stop_timeout: float
    timeout: int
    umask: str
    create_command: list[str]
    init: bool
    systemd_mode: bool = False
    sdnotify_mode: str = msgspec.field(name="sdNotifyMode", default="")
    sdnotify_socket: str = msgspec.field(name="sdNotifySocket", default="")
    """Of the service manager that waited for it when it was created."""
    domainname: str = ""
    attach_stdout: bool = False
    attach_stderr: bool = False
    stdin_once: bool = False
    exposed_ports: dict[str, dict[str, str]] | None = None
    """Of the image as well, as the next ones are alone."""
    healthcheck: InspectHealthcheck | None = None
    startup_health_check: InspectStartupHealthcheck | None = None
    healthcheck_on_failure_action: str = "none"
    health_log_destination: str = "local"
    health_max_log_count: int = 5
    health_max_log_size: int = 500
    volumes: dict[str, dict[str, str]] | None = None
    timezone: str | None = None
    chroot_dirs: list[str] | None = None
    on_build: list[str] | None = None
    secrets: list[InspectSecretFile] | None = None
    """Those that are variables are in `env`, without their values."""


class InspectLogConfig(msgspec.Struct, frozen=True, rename="pascal"):
    type: str
    path: str
    size: str
    tag: str
    config: dict[str, str] | None = None


class InspectRestartPolicy(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    maximum_retry_count: int
    delay: float
    factor: float
    maximum_delay: float
    reset: float
    give_up_after: int
    window: float
    stop_codes: list[int]


class InspectUlimit(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    soft: int
    hard: int


class InspectDevice(msgspec.Struct, frozen=True, rename="pascal"):
    path_on_host: str
    path_in_container: str
    cgroup_permissions: str


class InspectBlkioWeightDevice(msgspec.Struct, frozen=True, rename="pascal"):
    path: str
    weight: int


class InspectBlkioDevice(msgspec.Struct, frozen=True, rename="pascal"):
    path: str
    rate: int
    """Bytes or operations a second."""


class InspectIdMappings(msgspec.Struct, frozen=True, rename="pascal"):
    """Lines of the form CONTAINER_ID:ID:SIZE, with the ids of the engine's namespace."""

    uid_map: list[str]
    gid_map: list[str]


class InspectHostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    binds: list[str]
    cgroup_manager: str
    cgroup_mode: str
    container_id_file: str = msgspec.field(name="ContainerIDFile")
    log_config: InspectLogConfig
    network_mode: str
    restart_policy: InspectRestartPolicy
    auto_remove: bool
    auto_remove_image: bool
    annotations: dict[str, str]
    cap_add: list[str]
    cap_drop: list[str]
    ipc_mode: str
    pid_mode: str
    uts_mode: str = msgspec.field(name="UTSMode")
    userns_mode: str
    privileged: bool
    readonly_rootfs: bool
    security_opt: list[str]
    shm_size: int
    runtime: str
    cgroup_parent: str
    ulimits: list[InspectUlimit]
    init: bool
    group_add: list[str]
    pids_limit: int
    """0: none."""
    sysctls: dict[str, str]
    """Those that were asked for."""
    intel_rdt_clos_id: str = msgspec.field(name="IntelRdtClosID", default="")
    id_mappings: InspectIdMappings | None = msgspec.field(name="IDMappings", default=None)
    """Of a user namespace of its own."""
    port_bindings: dict[str, list[InspectHostPort]] = {}
    publish_all_ports: bool = False
    volumes_from: list[str] | None = None
    tmpfs: dict[str, str] = {}
    devices: list[InspectDevice] = []
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] = []
    hosts_file: str = ""
    links: list[str] | None = None
    cgroup: str = ""
    cgroups: str = "default"
    oom_score_adj: int = 0
    oom_kill_disable: bool = False
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int = 0
    kernel_memory: int = 0
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[InspectBlkioWeightDevice] = []
    blkio_device_read_bps: list[InspectBlkioDevice] = []
    blkio_device_write_bps: list[InspectBlkioDevice] = []
    blkio_device_read_io_ps: list[InspectBlkioDevice] = msgspec.field(
        name="BlkioDeviceReadIOps", default_factory=list
    )
    blkio_device_write_io_ps: list[InspectBlkioDevice] = msgspec.field(
        name="BlkioDeviceWriteIOps", default_factory=list
    )
    cgroup_conf: dict[str, str] = {}


class InspectContainer(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    created: str
    path: str
    args: list[str]
    state: InspectState
    restart: InspectRestart
    image: str
    image_name: str
    rootfs: str
    pod: str
    static_dir: str
    oci_config_path: str = msgspec.field(name="OCIConfigPath")
    oci_runtime: str = msgspec.field(name="OCIRuntime")
    conmon_pid_file: str
    pid_file: str
    name: str
    restart_count: int
    driver: str
    mount_label: str
    process_label: str
    effective_caps: list[str]
    bounding_caps: list[str]
    exec_ids: list[str] = msgspec.field(name="ExecIDs")
    mounts: list[InspectMount]
    dependencies: list[str]
    """The ids of the containers that it depends on."""
    after: list[InspectAfter]
    network_settings: InspectNetworkSettings
    namespace: str
    lock_number: int
    is_infra: bool
    config: InspectConfig
    host_config: InspectHostConfig
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    app_armor_profile: str = ""
    image_digest: str = ""
    is_service: bool = False
    size_rw: int | None = None
    """Bytes written above the root filesystem, if asked for."""
    size_root_fs: int | None = None


class ExecProcess(msgspec.Struct, frozen=True):
    entrypoint: str
    arguments: list[str]
    privileged: bool
    tty: bool
    user: str


class ExecInspect(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = msgspec.field(name="ID")
    container_id: str = msgspec.field(name="ContainerID")
    running: bool
    exit_code: int
    pid: int
    open_stdin: bool
    can_remove: bool
    detach_keys: str
    process_config: ExecProcess
