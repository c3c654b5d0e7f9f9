"""What a container is asked to be: the create request, with the field names of Podman's SpecGenerator."""

from __future__ import annotations

import msgspec

from pyman.api.limits import ResourceLimits, ThrottleDevice, WeightDevice

__all__ = [
    "Caller",
    "ContainerSpec",
    "HealthConfig",
    "IdMappings",
    "ImageVolume",
    "IntelRdt",
    "LogConfig",
    "Mount",
    "NamedVolume",
    "Namespace",
    "NetworkWish",
    "OverlayVolume",
    "Personality",
    "PortMapping",
    "RestartBackoff",
    "Rlimit",
    "Secret",
    "StartAfter",
    "StartupHealthConfig",
]


class Namespace(msgspec.Struct, frozen=True):
    """`nsmode` is host, private, none, shareable, container, ns or, of networks, what `netns` tells; `value` the container (name or id; its id once the
    container is created) or the absolute path. A user namespace may also be auto, keep-id or nomap; `value` has the
    options then, as `size=1024,uid=1000`."""

    nsmode: str = ""
    value: str = ""


class NetworkWish(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a container is on a network; what is empty is chosen."""

    static_ips: list[str] = []
    """At most one in each of the network's subnets."""
    aliases: list[str] = []
    """Names that it has there besides its own."""
    static_mac: str = ""
    interface_name: str = ""
    """In the container."""
    options: dict[str, str] = {}
    """The driver's: `host_interface_name` of a bridge."""


class PortMapping(msgspec.Struct, frozen=True, omit_defaults=True):
    """Ports of the host that lead into a container."""

    container_port: int
    host_port: int = 0
    """0: one that is free, chosen when the container is created."""
    host_ip: str = ""
    """Empty: all of the host's addresses."""
    range: int = 1
    """How many, from these on."""
    protocol: str = "tcp"
    """tcp, udp, sctp, or several, separated by commas."""


class Personality(msgspec.Struct, frozen=True):
    """What personality(2) makes of a container's processes."""

    domain: str
    """LINUX, or LINUX32: `uname -m` is that of a 32-bit machine."""


class IntelRdt(msgspec.Struct, frozen=True):
    """Which part of the processor's caches a container has."""

    clos_id: str = msgspec.field(name="closID")
    """A class of service that is there: a directory of /sys/fs/resctrl."""


class IdMappings(msgspec.Struct, frozen=True):
    """The maps of a user namespace, as podman-run(1) describes --uidmap, --gidmap, --subuidname, --subgidname."""

    uid_map: list[str] = []
    """`[+][u|g]CONTAINER_ID:[@]ID[:SIZE]`."""
    gid_map: list[str] = []
    sub_uid_name: str = ""
    sub_gid_name: str = ""


class Mount(msgspec.Struct, frozen=True):
    """Something mounted in a container, as mount(8) has it: bind, tmpfs, ramfs or devpts."""

    destination: str
    type: str = ""
    """Empty: bind."""
    source: str = ""
    """Of a bind: an absolute path on the host."""
    options: list[str] = []
    """As podman-run(1) describes them at --volume and --tmpfs."""


class NamedVolume(msgspec.Struct, frozen=True, omit_defaults=True):
    """A volume that is mounted into a container."""

    dest: str
    """Absolute path in the container."""
    name: str = ""
    """Empty: an anonymous one, of the container's own. A named one that does not exist is made, unless
    the options have `nocreate`."""
    options: list[str] = []
    """As podman-run(1) describes them at --volume."""
    is_anonymous: bool = False
    """It goes with the container."""
    sub_path: str = ""
    """A directory or file in the volume that is mounted instead of all of it."""


class OverlayVolume(msgspec.Struct, frozen=True):
    """A directory of the host that is not changed: writes go elsewhere, and end with the run."""

    destination: str
    source: str
    options: list[str] = []
    """`upperdir=` and `workdir=`: directories that keep what is written; `U`."""


class ImageVolume(msgspec.Struct, frozen=True):
    """The files of an image mounted in a container."""

    destination: str
    source: str
    """The image, a name or an id."""
    read_write: bool = False
    """Writes are possible; they end with the run."""
    sub_path: str = ""


class Secret(msgspec.Struct, frozen=True):
    """A secret that is a file in a container."""

    source: str
    """Its name or id."""
    target: str = ""
    """The file: an absolute path, or one below /run/secrets; empty: its name."""
    uid: int = 0
    """The owner, in the container."""
    gid: int = 0
    mode: int = 0o444


class LogConfig(msgspec.Struct, frozen=True):
    driver: str = ""
    """k8s-file, json-file (the same), none, passthrough; empty: the configured default."""
    path: str = ""
    size: int = 0
    """Rotate when the file is larger, in bytes; 0: never."""
    max_files: int = 1
    """Files kept, the one being written included. 1: the rotated file is deleted."""
    tag: str = ""
    options: dict[str, str] = {}


class Rlimit(msgspec.Struct, frozen=True):
    type: str
    """RLIMIT_NOFILE and so on."""
    hard: int
    soft: int


class RestartBackoff(msgspec.Struct, frozen=True):
    """The times of the restart policy. Seconds; none: the engine's default."""

    delay: float | None = None
    """Before the first restart (0.1)."""
    factor: float | None = None
    """By which it grows (2)."""
    maximum: float | None = None
    """The longest (60)."""
    reset: float | None = None
    """Running as long starts over with the first delay (10)."""
    give_up_after: int | None = None
    """As many restarts within `window` end it; 0 or none: never."""
    window: float | None = None
    """Seconds for `give_up_after` (60)."""
    stop_codes: list[int] = []
    """Exit codes after which there is no restart."""


class HealthConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """A health check. Times in nanoseconds; what is none is the image's, or the default."""

    test: list[str] = []
    """`CMD` and the words of a command, `CMD-SHELL` and one line, or `NONE`; empty: the image's."""
    interval: int | None = None
    """Default 30 s. 0: it runs only when somebody asks for it."""
    timeout: int | None = None
    """Default 30 s."""
    start_period: int | None = None
    """After the start, in which a failure does not count. Default 0."""
    retries: int | None = None
    """Failures in a row that make the container unhealthy. Default 3; of a start-up check: failures after which the
    container is restarted, default 0: never."""


class StartupHealthConfig(HealthConfig, frozen=True, rename="pascal"):
    """The check that comes first. It has no start period."""

    successes: int = 0
    """As many and it has passed; 0: one."""


class StartAfter(msgspec.Struct, frozen=True):
    """A container that has to be something before this one starts. It is started, if need be."""

    container: str
    """Name or id."""
    condition: str = "started"
    """started, healthy, or completed: ended with exit code 0."""


class Caller(msgspec.Struct, frozen=True):
    """What a request takes from the process that made it; nothing is ever read from the supervisor's."""

    cwd: str = ""
    environment: dict[str, str] = {}
    """Only what was asked for with --env-host or `-e NAME`, and the variables of proxies unless they are not wanted."""
    umask: int | None = None
    cgroup: str = ""
    """Contents of /proc/self/cgroup, for `cgroups=split` and with a `notify_socket`."""
    notify_socket: str = ""
    """$NOTIFY_SOCKET: of the service manager that waits until the container is ready."""
    groups: list[int] | None = None
    """Its supplementary groups, for the group keep-groups."""


class ContainerSpec(msgspec.Struct, frozen=True):
    """A container to be. Absent fields take the engine's configured default."""

    name: str = ""
    """Empty: a random adjective_surname."""
    namespace: str = ""
    """The part of the state it lives in; a client may see one only."""
    rootfs: str = ""
    """Absolute path of a directory that is the root filesystem."""
    rootfs_overlay: bool = False
    """Keep the directory unchanged: writes go to an overlay that ends with the run."""
    rootfs_idmap: bool = False
    """Files have the ids in the container that they have on disk, whatever its user namespace."""
    image: str = ""
    """Instead of `rootfs`: an image by name or id. What the image says and this spec does not, holds."""
    image_volume_mode: str = ""
    """anonymous, tmpfs or ignore; empty: the configured one."""
    no_healthcheck: bool = False
    """Forget the one that the image has."""
    healthconfig: HealthConfig | None = None
    """The health check, or what of the image's is changed."""
    startup_health_config: StartupHealthConfig | None = msgspec.field(
        name="startupHealthConfig", default=None
    )
    """The check that comes first, until it has passed."""
    health_check_on_failure_action: str = ""
    """What becomes of an unhealthy container: none (as if empty), kill, restart or stop."""
    health_log_destination: str = msgspec.field(name="healthLogDestination", default="")
    """local (as if empty), events_logger, or the path of a directory that gets the log as a file, too."""
    health_max_log_count: int | None = msgspec.field(name="healthMaxLogCount", default=None)
    """Answers that are kept; 0: as many as have room. None: 5."""
    health_max_log_size: int | None = msgspec.field(name="healthMaxLogSize", default=None)
    """Bytes of an answer that are kept; 0: as many as have room. None: 500."""

    command: list[str] = []
    """Empty: the image's, unless an entrypoint is given here."""
    entrypoint: list[str] | None = None
    """None: the image's. An empty word alone: none."""
    env: dict[str, str] = {}
    env_host: bool = False
    envmerge: list[str] = []
    """`NAME=VALUE` with variables of the image's or the configured in the value, as in a shell."""
    httpproxy: bool | None = None
    """The caller's variables of proxies are set; None: as configured."""
    expose: dict[str, str] = {}
    """Ports that it serves, each with its protocols, separated by commas; an empty one is tcp."""
    timezone: str = ""
    """A name, or `local`: the host's; empty: as configured."""
    unsetenv: list[str] = []
    unsetenv_all: bool = False
    terminal: bool = False
    stdin: bool = False
    work_dir: str = ""
    user: str = ""
    """User[:group], names or numbers."""
    groups: list[str] = []
    """Further groups, names or numbers; or `keep-groups` alone: the caller's."""
    manage_password: bool = True
    """Users and groups that its /etc/passwd and /etc/group do not have get a line there."""
    passwd_entry: str = ""
    """That line, with $USERNAME, $UID, $GID, $NAME and $HOME; empty: the usual one."""
    group_entry: str = ""
    """Likewise, with $GROUPNAME, $GID and $USERLIST."""
    hostusers: list[str] = []
    """Users of the host, names or numbers, whom its /etc/passwd is to have."""
    hostname: str = ""
    umask: str = ""
    """Octal; empty: 0022."""
    init: bool = False
    init_path: str = ""
    systemd: str = ""
    """true (as if empty): where the command is systemd or an init; always, or false: whether it has what systemd needs."""
    sdnotify_mode: str = msgspec.field(name="sdnotifyMode", default="")
    """Who says that it is ready to a service manager that asks: container (as if empty), conmon, healthy, or ignore."""
    shm_size_systemd: int | None = None
    """Bytes of each tmpfs that systemd mode brings; 0 or none: half of the memory."""
    read_only_filesystem: bool = False
    read_write_tmpfs: bool = True
    """With a read-only root filesystem: tmpfs on /run, /tmp and /var/tmp."""
    privileged: bool = False
    cap_add: list[str] = []
    """Capabilities that it has besides the configured ones: names, or ALL. A user other than root has them in effect."""
    cap_drop: list[str] = []
    """Capabilities that it does not have; with ALL it has only what is added."""
    no_new_privileges: bool = False
    seccomp_profile_path: str = ""
    """Where `seccomp_profile` comes from, as inspect shows it; `unconfined`: no profile; empty: the configured one."""
    seccomp_profile: str = ""
    """The text of a profile, in the format of Docker and of containers-common."""
    apparmor_profile: str = ""
    """Of the host, by its name; `unconfined`: none; empty: the configured one."""
    selinux_opts: list[str] = []
    """`user:`, `role:`, `type:`, `level:`, `filetype:` with a value, or `disable`."""
    label_nested: bool = False
    mask: list[str] = []
    """Paths of which the container sees nothing."""
    unmask: list[str] = []
    """Paths, or patterns of such, that are not hidden or read-only though they usually are; or ALL."""
    procfs_opts: list[str] = []
    """Options of the container's /proc, instead of the usual ones."""
    devices: list[str] = []
    """`HOST[:CONTAINER][:RIGHTS]`: a device of the host, a link to one, or a directory of devices."""
    device_cgroup_rule: list[str] = []
    """Devices that its cgroup lets it use: `c 10:229 rwm`, with a star for any number."""
    r_limits: list[Rlimit] = []
    cgroups_mode: str = ""
    """enabled, disabled, no-conmon or split."""
    cgroup_parent: str = ""
    """A path; with the systemd manager a slice."""
    resource_limits: ResourceLimits = ResourceLimits()
    weight_device: dict[str, WeightDevice] = msgspec.field(name="weightDevice", default_factory=dict)
    """By the path of a block device, as the next four."""
    throttle_read_bps_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleReadBpsDevice", default_factory=dict
    )
    throttle_write_bps_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleWriteBpsDevice", default_factory=dict
    )
    throttle_read_iops_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleReadIOPSDevice", default_factory=dict
    )
    throttle_write_iops_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleWriteIOPSDevice", default_factory=dict
    )
    cgroup_conf: dict[str, str] = msgspec.field(name="unified", default_factory=dict)
    """Files of its cgroup and what is written to them; cgroup v2 only."""
    oom_score_adj: int | None = None
    """How readily the kernel ends it when memory is short, -1000 to 1000; none: the configured value."""

    mounts: list[Mount] = []
    volumes: list[NamedVolume] = []
    overlay_volumes: list[OverlayVolume] = []
    image_volumes: list[ImageVolume] = []
    volumes_from: list[str] = []
    """`CONTAINER[:OPTIONS]`: the binds and volumes of that container; the options are ro, rw and z."""
    shm_size: int | None = None
    """Bytes of /dev/shm; 0: no limit; none: the configured size."""

    secrets: list[Secret] = []
    secret_env: dict[str, str] = {}
    """Variables, each with the name or id of the secret that it has as its value. They count for more than `env`."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    stop_signal: str = ""
    stop_timeout: float | None = None
    """Seconds."""
    timeout: int = 0
    """Seconds after which the container is killed; 0: never."""
    restart_policy: str = ""
    restart_tries: int | None = None
    restart_backoff: RestartBackoff = RestartBackoff()
    remove: bool = False
    """Remove it when it has ended."""
    remove_image: bool = msgspec.field(name="removeImage", default=False)
    """Its image goes with it, unless others use it; with `remove` alone."""
    dependency_containers: list[str] = msgspec.field(name="dependencyContainers", default_factory=list)
    """Names or ids of containers that are started before this one, and stay as long as it is there."""
    after: list[StartAfter] = []
    """The same, with a condition."""
    oci_runtime: str = ""
    log_configuration: LogConfig = LogConfig()
    use_image_hosts: bool | None = None
    """The image's /etc/hosts stays; None: as configured."""
    base_hosts_file: str = ""
    """What /etc/hosts has besides: a file of the host, `image` or `none`; empty: as configured."""
    hostadd: list[str] = []
    """Its entries, `NAME[;NAME…]:IP`; `host-gateway` stands for the host's address."""
    use_image_hostname: bool = False
    """The image's /etc/hostname stays."""
    use_image_resolve_conf: bool | None = None
    """The image's /etc/resolv.conf stays; None: as configured."""
    dns_server: list[str] = []
    """Addresses, besides those configured; none at all: the host's."""
    dns_search: list[str] = []
    """Domains, likewise; `.` alone: none."""
    dns_option: list[str] = []
    """Likewise."""
    chroot_directories: list[str] = []
    """Directories in the container that have these files as well."""
    preserve_fd: list[int] = []
    """Numbers, 3 to 255, that descriptors have in it which come with the request that runs it: one for each."""
    pid_file: str = ""
    conmon_pid_file: str = ""
    cid_file: str = ""
    """Where the client wrote the id; kept so that `rm --cidfile` and inspect know it."""
    detach_keys: str | None = None
    create_command: list[str] = []
    """The command line that made it, for inspect."""

    netns: Namespace = Namespace()
    """none, host, container, ns, bridge, pasta or slirp4netns; private, or empty: as configured, or else what this user
    can have: bridge, or pasta."""
    networks: dict[str, NetworkWish] = msgspec.field(name="Networks", default_factory=dict)
    """With bridge: names or ids; none at all: the default one."""
    network_options: dict[str, list[str]] = {}
    """Of pasta or slirp4netns, by that word."""
    portmappings: list[PortMapping] = []
    publish_image_ports: bool = False
    """Each port that it exposes is one that is free on the host, too."""
    pidns: Namespace = Namespace()
    ipcns: Namespace = Namespace()
    """One that is private, or none, no other container joins; none has no /dev/shm either."""
    utsns: Namespace = Namespace()
    cgroupns: Namespace = Namespace()
    userns: Namespace = Namespace()
    """Empty: the one configured, or private with `idmappings`."""
    idmappings: IdMappings = IdMappings()
    domainname: str = ""
    """The NIS domain name in its UTS namespace."""
    sysctl: dict[str, str] = {}
    """Kernel parameters of its namespaces, besides the configured ones."""
    personality: Personality | None = None
    intel_rdt: IntelRdt | None = msgspec.field(name="intelRdt", default=None)
