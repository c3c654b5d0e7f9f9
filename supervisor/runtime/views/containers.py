"""What `ps` and `inspect` show of a container: from memory, but for a look at who its user is."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from pyman.api.container import ListContainer
from pyman.api.inspect import (
    ExecInspect,
    ExecProcess,
    InspectAfter,
    InspectConfig,
    InspectContainer,
    InspectDevice,
    InspectHealth,
    InspectHealthcheck,
    InspectHealthLog,
    InspectHostConfig,
    InspectIdMappings,
    InspectLogConfig,
    InspectMount,
    InspectRestart,
    InspectRestartPolicy,
    InspectSecretFile,
    InspectStartupHealthcheck,
    InspectState,
    InspectUlimit,
)
from pyman.errors import PymanError
from pyman.names import STATES_WITH_PROCESS, State
from supervisor.kernel import cgroups
from supervisor.oci import devices, etc_files, namespaces, placement, ports
from supervisor.oci.accounts import account_files
from supervisor.oci.build import environment_of, groups_of
from supervisor.oci.capabilities import added_and_dropped, of_container
from supervisor.oci.confinement import apparmor, security_options
from supervisor.oci.mounts import mounted_file, volume_directory
from supervisor.oci.spec import Capabilities
from supervisor.oci.users import Identity, look_up
from supervisor.runtime.creation.userns import mode_of
from supervisor.runtime.dependencies import needs_of
from supervisor.runtime.life.policy import policy_of
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.specs import build_request, placement_of
from supervisor.runtime.views.limits import shown_limits
from supervisor.runtime.views.networks import bindings, exposed, inspect_networks, published
from supervisor.runtime.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyman.api.inspect_networks import InspectNetworkSettings
    from supervisor.oci.request import BuildRequest
    from supervisor.runtime.container import Container, ExecSession
    from supervisor.runtime.health.plan import Plan
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services

__all__ = ["exec_view", "inspect_view", "list_view"]

_CGROUPS = {"enabled": "default"}
"""Podman's word, in inspect."""
LOOK = 2.0
"""Seconds that `inspect` waits for a root filesystem."""
_SOMEBODY = 65534
"""Stands for a user who is not root, where no more can be told."""
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def list_view(
    container: Container,
    find: Callable[[str], Container | None],
    *,
    namespaces: bool = False,
    size: dict[str, int] | None = None,
) -> ListContainer:
    """One line of `ps`. The plain line is made once for each thing that is observed: there may be thousands. `find`:
    containers by their ids."""
    if namespaces or size is not None:
        return _line(container, find, namespaces=namespaces, size=size)
    seen = (container.definition, container.observed)
    if container.line is None or container.line[0] != seen:
        container.line = seen, _line(container, find)
    return container.line[1]


def _line(
    container: Container,
    find: Callable[[str], Container | None],
    *,
    namespaces: bool = False,
    size: dict[str, int] | None = None,
) -> ListContainer:
    definition, observed = container.definition, container.observed
    spec = definition.spec
    return ListContainer(
        id=definition.id,
        names=[definition.name],
        image=definition.image_name,
        image_id=definition.image.id,
        command=[*(spec.entrypoint or []), *spec.command],
        created=definition.created // 1_000_000_000,
        created_at=rfc3339(definition.created),
        started_at=observed.started_at // 1_000_000_000,
        exited=observed.state in (State.EXITED, State.STOPPED),
        exited_at=observed.finished_at // 1_000_000_000,
        exit_code=_exit_code(container),
        state=observed.state.value,
        status=_detail(container),
        pid=observed.init.pid if observed.init is not None and observed.state in STATES_WITH_PROCESS else 0,
        restarts=observed.history.count,
        auto_remove=spec.remove,
        labels=spec.labels,
        mounts=_mounted(definition),
        namespaces=_namespaces(container) if namespaces else {},
        networks=list(spec.networks),
        ports=published(container, find),
        exposed_ports=exposed(definition),
        pod="",
        pod_name="",
        is_infra=False,
        size=size,
    )


def _detail(container: Container) -> str:
    if container.observed.monitor_state == "wedged":
        return "wedged"
    return container.health_status if container.state in (State.RUNNING, State.PAUSED) else ""


def _mounted(definition: Definition) -> list[str]:
    """Where in the container."""
    own = [each.destination for each in definition.mounted]
    own += [volume.dest for volume in definition.spec.volumes]
    return own + (definition.image.volumes if definition.image.volume_mode else [])


def _exit_code(container: Container) -> int:
    """Of the run that has ended; 0 while another one goes on, whatever became of those before it."""
    return 0 if container.state in STATES_WITH_PROCESS else container.exit_code


def _namespaces(container: Container) -> dict[str, str]:
    init = container.observed.init
    found: dict[str, str] = {}
    if init is None or container.state not in STATES_WITH_PROCESS:
        return found
    for kind in NAMESPACES:
        try:
            found[kind] = os.readlink(f"/proc/{init.pid}/ns/{kind}").partition("[")[2].rstrip("]")
        except OSError:
            continue
    return found


async def inspect_view(
    services: Services, container: Container, size: dict[str, int] | None = None
) -> InspectContainer:
    """Everything known of a container, in Podman's shape."""
    spec = container.definition.spec
    request = build_request(services, container.definition, spec.rootfs)
    try:
        identity = await look_into(spec.rootfs, partial(_identity, request), LOOK)
    except (
        PymanError
    ):  # the root filesystem is not what it was, or not mounted; it is no reason not to show the rest
        is_root = spec.user.partition(":")[0] in ("", "root", "0")
        identity = Identity(uid=0 if is_root else _SOMEBODY, gid=0, groups=[], home="/")
    return _inspect(services, container, identity, await inspect_networks(services, container), size)


def _identity(request: BuildRequest) -> Identity:
    spec = request.spec
    return look_up(spec.rootfs, spec.user, groups_of(spec), account_files(request))


def _inspect(
    services: Services,
    container: Container,
    identity: Identity,
    networked: InspectNetworkSettings,
    size: dict[str, int] | None,
) -> InspectContainer:
    definition = container.definition
    spec, layout = definition.spec, services.layout
    run = layout.container_run(definition.id)
    command = [*(spec.entrypoint or []), *spec.command]
    request = build_request(services, definition, spec.rootfs)
    caps = _capabilities(request, identity.uid)
    return InspectContainer(
        id=definition.id,
        created=rfc3339(definition.created),
        path=command[0] if command else "",
        args=command[1:],
        state=_state(services, container),
        restart=_restart(container),
        image=definition.image.id,
        image_name=definition.image.name,
        image_digest=definition.image.digest,
        rootfs=spec.rootfs,
        pod="",
        static_dir=layout.container_static(definition.id),
        oci_config_path=f"{run}/config.json" if container.observed.monitor is not None else "",
        oci_runtime=definition.runtime,
        conmon_pid_file=spec.conmon_pid_file or layout.container_conmon_pidfile(definition.id),
        pid_file=spec.pid_file or layout.container_pidfile(definition.id),
        name=definition.name,
        restart_count=container.observed.history.count,
        driver="overlay" if spec.rootfs_overlay or definition.image.id else "",
        mount_label="",
        process_label="",
        effective_caps=caps.effective,
        bounding_caps=caps.bounding,
        exec_ids=[id for id, session in container.execs.items() if session.running],
        mounts=_mounts(request),
        dependencies=[need.id for need in needs_of(definition)],
        after=[
            InspectAfter(need.id, need.condition)
            for need in needs_of(definition)
            if need.condition != "started"
        ],
        network_settings=networked,
        namespace=spec.namespace,
        lock_number=definition.lock,
        is_infra=False,
        config=_config(request, container, identity),
        host_config=_host_config(services, request, container, caps.bounding),
        **_written(services, request, running=container.observed.monitor is not None),
        app_armor_profile=_apparmor(request),
        size_rw=None if size is None else size["rwSize"],
        size_root_fs=None if size is None else size["rootFsSize"],
    )


def _capabilities(request: BuildRequest, uid: int) -> Capabilities:
    """None where what was asked for is not possible any more."""
    try:
        return of_container(request, uid)
    except PymanError:
        return Capabilities()


def _apparmor(request: BuildRequest) -> str:
    try:
        return apparmor(request)
    except PymanError:
        return request.spec.apparmor_profile


def _written(services: Services, request: BuildRequest, *, running: bool) -> dict[str, Any]:
    """Where the files of its /etc are that the engine has written, as long as they are there."""
    if not running:
        return {}
    found = etc_files.made(request, namespaces.modes(request)["network"])
    fields = {
        etc_files.HOSTNAME: "hostname_path",
        etc_files.HOSTS: "hosts_path",
        etc_files.RESOLV_CONF: "resolv_conf_path",
    }
    shared: dict[str, str] | None = None
    if request.spec.netns.nsmode == "container":
        from supervisor.runtime.life.joining import network_files

        shared = network_files(services, request.spec.netns.value)
        found = [path for path in found if path == etc_files.HOSTNAME or path in shared]
    own = {path: mounted_file(request, path) for path in found if path in fields}
    return {fields[path]: (shared or own).get(path, file) for path, file in own.items()}


def _devices(request: BuildRequest) -> list[InspectDevice]:
    """Those that it was given: a privileged container has them all."""
    if request.privileged:
        return []
    try:
        found = devices.given(request)
    except PymanError:  # one that has gone meanwhile
        return []
    return [InspectDevice(each.source, each.node.path, each.access) for each in found]


def _state(services: Services, container: Container) -> InspectState:
    observed = container.observed
    alive = observed.state in STATES_WITH_PROCESS
    return InspectState(
        oci_version="1.0.2",
        status=observed.state.value,
        running=observed.state in (State.RUNNING, State.STOPPING),
        paused=observed.state is State.PAUSED,
        restarting=observed.restart_at != 0,
        oom_killed=observed.oom_killed,
        dead=False,
        pid=observed.init.pid if alive and observed.init is not None else 0,
        conmon_pid=observed.monitor.pid if alive and observed.monitor is not None else 0,
        exit_code=_exit_code(container),
        exit_known=observed.exit_known,
        error=observed.error,
        started_at=rfc3339(observed.started_at),
        finished_at=rfc3339(observed.finished_at),
        cgroup_path=_cgroup_path(services, container) if alive else "",
        monitor=observed.monitor_state if alive else "",
        health=_health(container),
    )


def _health(container: Container) -> InspectHealth:
    if not container.health_status:
        return InspectHealth()
    health = container.observed.health
    log = [
        InspectHealthLog(rfc3339(entry.start), rfc3339(entry.end), entry.exit_code, entry.output)
        for entry in health.log
    ]
    return InspectHealth(health.status, health.streak, log, health.skipped)


def _cgroup_path(services: Services, container: Container) -> str:
    """With systemd only the kernel knows what became of the slice and the scope that were asked for."""
    place = placement_of(services, container.definition)
    init = container.observed.init
    if place.systemd and init is not None:
        return cgroups.own_path(init.pid) or place.path
    return place.path


def _restart(container: Container) -> InspectRestart:
    observed = container.observed
    return InspectRestart(
        count=observed.history.count,
        next="" if not observed.restart_at else rfc3339(observed.restart_at),
        delay=observed.restart_delay if observed.restart_at else 0.0,
        reason=observed.restart_reason,
    )


def _environment(request: BuildRequest, home: str) -> list[str]:
    try:
        return environment_of(request, home)
    except PymanError:
        return []


def _config(request: BuildRequest, container: Container, identity: Identity) -> InspectConfig:
    definition = container.definition
    spec = definition.spec
    return InspectConfig(
        hostname=definition.hostname,
        domainname=spec.domainname,
        user=spec.user,
        attach_stdin=spec.stdin,
        tty=spec.terminal,
        open_stdin=spec.stdin,
        env=_environment(request, identity.home),
        cmd=spec.command,
        image=definition.image_name,
        working_dir=spec.work_dir or "/",
        entrypoint=spec.entrypoint or [],
        labels=spec.labels,
        annotations=spec.annotations,
        stop_signal=definition.stop_signal,
        stop_timeout=definition.stop_timeout,
        timeout=spec.timeout,
        umask=spec.umask or request.settings.containers.umask,
        create_command=spec.create_command,
        init=request.init,
        systemd_mode=request.systemd,
        sdnotify_mode=spec.sdnotify_mode or "container",
        sdnotify_socket="" if spec.sdnotify_mode == "ignore" else definition.caller.notify_socket,
        exposed_ports={port: {} for port in ports.served(spec, definition.image)} or None,
        timezone=spec.timezone or request.settings.containers.tz or None,
        chroot_dirs=spec.chroot_directories or None,
        **_healthcheck(container.health_plan),
        volumes={path: {} for path in definition.image.volumes} or None,
        secrets=[
            InspectSecretFile(each.name, each.id, each.uid, each.gid, each.mode)
            for each in definition.secrets
        ]
        or None,
    )


def _healthcheck(plan: Plan | None) -> dict[str, Any]:
    """What `InspectConfig` says of it."""
    if plan is None:
        return {}
    startup = plan.startup
    return {
        "healthcheck": InspectHealthcheck(
            plan.test, plan.interval, plan.timeout, plan.start_period, plan.retries
        ),
        "startup_health_check": None
        if startup is None
        else InspectStartupHealthcheck(
            startup.test, startup.interval, startup.timeout, startup.retries, startup.successes
        ),
        "healthcheck_on_failure_action": plan.on_failure,
        "health_log_destination": plan.log_destination,
        "health_max_log_count": plan.log_count,
        "health_max_log_size": plan.log_size,
    }


def _mounts(request: BuildRequest) -> list[InspectMount]:
    """The volumes that are there; what is a tmpfs is told by none of them, as in Podman."""
    from supervisor.runtime.mounts import showing

    found = showing.mounts(request)
    image = request.image
    if image.volume_mode != "anonymous":
        return found
    return found + [
        InspectMount(
            type="volume",
            source=volume_directory(request.volumes_directory, number),
            destination=path,
            driver="local",
            options=["nodev", "exec", "rbind"],
            rw=True,
            propagation="rprivate",
        )
        for number, path in enumerate(image.volumes)
    ]


def _host_config(
    services: Services, request: BuildRequest, container: Container, bounding: list[str]
) -> InspectHostConfig:
    from supervisor.runtime.mounts import showing

    definition = container.definition
    spec = definition.spec
    policy = policy_of(spec, services.settings)
    modes = namespaces.modes(request)
    cap_add, cap_drop = added_and_dropped(request, bounding)
    return InspectHostConfig(
        binds=showing.binds(request),
        tmpfs=showing.tmpfs(request),
        volumes_from=spec.volumes_from or None,
        cgroup_manager=services.settings.engine.cgroup_manager or "cgroupfs",
        cgroup_mode=namespaces.told("cgroup", request.spec, modes["cgroup"]),
        container_id_file=spec.cid_file,
        log_config=InspectLogConfig(
            type=spec.log_configuration.driver or definition.log_driver,
            path=definition.log_path,
            size=_human(definition.log_size),
            tag=spec.log_configuration.tag,
        ),
        network_mode=namespaces.told("network", request.spec, modes["network"]),
        restart_policy=InspectRestartPolicy(
            name=policy.kind.value,
            maximum_retry_count=policy.tries,
            delay=policy.delay,
            factor=policy.factor,
            maximum_delay=policy.maximum,
            reset=policy.reset,
            give_up_after=policy.give_up_after,
            window=policy.window,
            stop_codes=list(policy.stop_codes),
        ),
        auto_remove=spec.remove,
        auto_remove_image=spec.remove_image,
        annotations=spec.annotations,
        cap_add=cap_add,
        cap_drop=cap_drop,
        ipc_mode=namespaces.told("ipc", request.spec, modes["ipc"]),
        pid_mode=namespaces.told("pid", request.spec, modes["pid"]),
        uts_mode=namespaces.told("uts", request.spec, modes["uts"]),
        userns_mode=mode_of(definition),
        id_mappings=_id_mappings(definition),
        privileged=request.privileged,
        readonly_rootfs=request.read_only,
        security_opt=security_options(spec),
        devices=_devices(request),
        dns=spec.dns_server,
        dns_options=spec.dns_option,
        dns_search=spec.dns_search,
        extra_hosts=spec.hostadd,
        hosts_file=spec.base_hosts_file,
        shm_size=request.shm_size,
        sysctls=spec.sysctl,
        intel_rdt_clos_id=spec.intel_rdt.clos_id if spec.intel_rdt else "",
        runtime=definition.runtime,
        cgroup_parent=spec.cgroup_parent,
        cgroups=_CGROUPS.get(mode := placement.mode_of(services.settings, spec), mode),
        ulimits=[InspectUlimit(name=limit.type, soft=limit.soft, hard=limit.hard) for limit in spec.r_limits],
        init=request.init,
        group_add=spec.groups,
        port_bindings=bindings(spec.portmappings),
        publish_all_ports=spec.publish_image_ports,
        **shown_limits(request),
    )


def _id_mappings(definition: Definition) -> InspectIdMappings | None:
    maps = definition.userns.maps
    if not maps.uids:
        return None
    uids, gids = ([f"{line.inside}:{line.outside}:{line.size}" for line in lines] for lines in maps)
    return InspectIdMappings(uids, gids)


def _human(size: float) -> str:
    """`1.5MB`, as Podman tells sizes of logs: powers of 1000."""
    unit = 0
    while size >= 1000:
        size, unit = size / 1000, unit + 1
    return f"{size:.4g}{('B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB')[unit]}"


def exec_view(session: ExecSession) -> ExecInspect:
    definition, observed = session.definition, session.observed
    return ExecInspect(
        id=definition.id,
        container_id=definition.container,
        running=session.running,
        exit_code=observed.exit_code or 0,
        pid=observed.pid,
        open_stdin=definition.stdin,
        can_remove=not session.running,
        detach_keys=definition.detach_keys,
        process_config=ExecProcess(
            entrypoint=definition.command[0],
            arguments=definition.command[1:],
            privileged=definition.privileged,
            tty=definition.terminal,
            user=definition.user,
        ),
    )
