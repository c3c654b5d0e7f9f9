"""`info` and `version`: the host, the store and the supervisor, in Podman's sections."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman import __version__
from pyman.api.system import InfoReply, VersionReply
from pyman.errors import NotSupported, PymanError
from pyman.names import State
from supervisor.kernel import cgroups, idmaps, mounts
from supervisor.oci import resources
from supervisor.oci.host import this_host
from supervisor.runtime.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.idmaps import IdRange
    from supervisor.runtime.engine import Engine
    from supervisor.settings.model import EngineSettings

__all__ = ["API_VERSION", "Facts", "info", "version"]

API_VERSION = "1"
"""Grows when a client of the former one would not be understood any more."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


_NO_CONTROLLERS = frozenset({"ro", "rw", "xattr"})
"""Options of the mounts of cgroup v1, beside the controllers' names."""


class Facts(msgspec.Struct, frozen=True):
    """What the daemon knows of itself. `started`: nanoseconds since the epoch."""

    pid: int
    keeper_pid: int
    socket: str
    database: str
    started: int
    on_stop: str = "leave"


def version() -> VersionReply:
    name = os.uname()
    return VersionReply(
        version=__version__,
        api_version=API_VERSION,
        python_version=platform.python_version(),
        os=name.sysname.lower(),
        arch=ARCHITECTURES.get(name.machine, name.machine),
        kernel=name.release,
    )


async def info(engine: Engine, facts: Facts) -> InfoReply:
    host = await trio.to_thread.run_sync(_host, engine, limiter=engine.services.disk)
    told = version()
    return InfoReply(
        host=host,
        store=await _store(engine),
        registries={},
        plugins={
            "volume": ["local"],
            "network": ["bridge", "macvlan", "ipvlan"],
            "log": ["k8s-file", "none", "passthrough"],
            "authorization": None,
        },
        version={
            "APIVersion": told.api_version,
            "Version": told.version,
            "PythonVersion": told.python_version,
            "GitCommit": "",
            "BuiltTime": "",
            "Built": 0,
            "OsArch": f"{told.os}/{told.arch}",
            "Os": told.os,
        },
        supervisor=_supervisor(engine, facts),
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _release() -> dict[str, str]:
    fields = {}
    for line in _read("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        fields[key] = value.strip().strip('"')
    return {
        "distribution": fields.get("ID", "unknown"),
        "version": fields.get("VERSION_ID", "unknown"),
        "codename": fields.get("VERSION_CODENAME", ""),
    }


def _memory() -> dict[str, int]:
    sizes = {}
    for line in _read("/proc/meminfo").splitlines():
        key, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdecimal():
            sizes[key] = int(number[0]) * 1024
    return sizes


def _utilization() -> dict[str, float]:
    """Where the processors' time went since the boot, in per cent."""
    first = _read("/proc/stat").split("\n", 1)[0].split()
    times = [int(number) for number in first[1:9] if number.isdecimal()]
    total = sum(times) or 1
    user, _nice, system, idle = (times + [0] * 4)[:4]
    shares = {"userPercent": user, "systemPercent": system, "idlePercent": idle}
    return {name: round(share * 100 / total, 2) for name, share in shares.items()}


def _host(engine: Engine) -> dict[str, Any]:
    services, uname = engine.services, os.uname()
    memory, runtime = _memory(), services.runtimes.default
    mode = cgroups.mode()
    uptime = float((_read("/proc/uptime") or "0").split()[0])
    load = os.getloadavg()
    return {
        "arch": ARCHITECTURES.get(uname.machine, uname.machine),
        "cgroupManager": services.settings.engine.cgroup_manager or "cgroupfs",
        "cgroupVersion": "v2" if mode == "v2" else "v1",
        "cgroupHierarchy": mode,
        "cgroupControllers": sorted(
            c for c in resources.available(services.settings) - _NO_CONTROLLERS if "=" not in c
        ),
        "conmon": {
            "package": "Unknown",
            "path": services.conmon.path,
            "version": services.conmon.version,
        },
        "cpuUtilization": _utilization(),
        "cpus": os.cpu_count() or 1,
        "loadAverage": [round(value, 2) for value in load],
        "databaseBackend": "sqlite",
        "distribution": _release(),
        "eventLogger": services.settings.engine.events_logger,
        "hostname": uname.nodename,
        "idMappings": _id_mappings(engine),
        "kernel": uname.release,
        "linkmode": "dynamic",
        "logDriver": services.settings.containers.log_driver,
        "memFree": memory.get("MemFree", 0),
        "memTotal": memory.get("MemTotal", 0),
        "swapFree": memory.get("SwapFree", 0),
        "swapTotal": memory.get("SwapTotal", 0),
        "networkBackend": "pyman",
        "rootlessNetworkCmd": services.settings.network.default_rootless_network_cmd,
        **_network_programs(services.settings.engine),
        "ociRuntime": {
            "name": runtime.name,
            "package": "Unknown",
            "path": runtime.path,
            "version": runtime.version,
        },
        "os": uname.sysname.lower(),
        "remoteSocket": {"path": engine.layout.socket, "exists": os.path.exists(engine.layout.socket)},
        "serviceIsRemote": False,
        "security": {
            "rootless": engine.settings.rootless,
            "apparmorEnabled": False,
            "capabilities": ",".join(services.settings.containers.default_capabilities),
            "seccompEnabled": this_host().seccomp,
            "seccompProfilePath": services.settings.containers.seccomp_profile,
            "selinuxEnabled": os.path.isdir("/sys/fs/selinux/class"),
        },
        "uptime": _duration(uptime),
    }


def _network_programs(settings: EngineSettings) -> dict[str, Any]:
    """The ones that there are."""
    from supervisor.network import names  # only now: few ask
    from supervisor.network.user_mode import programs

    backend: dict[str, Any] = {"backend": "pyman", "version": __version__}
    with suppress(NotSupported):
        path = programs.find(names.PROGRAM, settings.helper_binaries_dir, package="")
        backend["dns"] = {"path": path, "package": "Unknown"}
    found: dict[str, Any] = {"networkBackendInfo": backend}
    for name, configured in (("pasta", ""), ("slirp4netns", settings.network_cmd_path)):
        with suppress(NotSupported):
            path = configured or programs.find(name, settings.helper_binaries_dir, package="")
            found[name] = {"executable": path, "package": "Unknown"}
    return found


def _id_mappings(engine: Engine) -> dict[str, Any]:
    """The maps of the engine's own user namespace; root's has none."""
    if not engine.settings.rootless:
        return {"gidmap": None, "uidmap": None}
    uids, gids = idmaps.of_this_process()
    return {"gidmap": _lines(gids), "uidmap": _lines(uids)}


def _few_ids(engine: Engine) -> list[str]:
    if not engine.settings.rootless or min(map(idmaps.count, idmaps.of_this_process())) > 1:
        return []
    return [
        "only one id can be used in containers: the user has no subordinate ids, or newuidmap does not work"
    ]


def _lines(ranges: Sequence[IdRange]) -> list[dict[str, int]]:
    return [{"container_id": line.inside, "host_id": line.outside, "size": line.size} for line in ranges]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h {minutes}m {rest}s"
    return f"{text} (Approximately {hours / 24:.2f} days)" if hours >= 24 else text


async def _store(engine: Engine) -> dict[str, Any]:
    counts = {"number": 0, "running": 0, "paused": 0, "stopped": 0}
    for container in engine.view().containers:
        counts["number"] += 1
        if container.state in (State.RUNNING, State.STOPPING):
            counts["running"] += 1
        elif container.state is State.PAUSED:
            counts["paused"] += 1
        else:
            counts["stopped"] += 1
    storage, layout = engine.settings.storage, engine.layout
    status, program = await _overlays(engine)
    return {
        "configFile": next((path for path in engine.settings.files if path.endswith("storage.conf")), ""),
        "containerStore": counts,
        "graphDriverName": storage.driver,
        "graphOptions": {**_pairs(storage.options), **program},
        "graphRoot": layout.graph_root,
        **_room(layout.static),
        "graphStatus": status,
        "imageStore": {"number": 0},
        "runRoot": layout.run_root,
        "transientStore": False,
        "volumePath": layout.volumes,
    }


def _room(path: str) -> dict[str, int | None]:
    """Of the file system, in bytes; None: somebody has taken the directory away."""
    try:
        room = os.statvfs(path)
    except OSError:
        return {"graphRootAllocated": None, "graphRootUsed": None}
    size = room.f_frsize
    return {
        "graphRootAllocated": room.f_blocks * size,
        "graphRootUsed": (room.f_blocks - room.f_bfree) * size,
    }


_PODMANS_NAMES = {"ext2": "extfs", "ext3": "extfs", "ext4": "extfs", "overlay": "overlayfs"}


async def _overlays(engine: Engine) -> tuple[dict[str, str], dict[str, Any]]:
    """How overlays are mounted: the store's status, and the program among the driver's options."""
    overlays, disk = engine.services.overlays, engine.services.disk
    look = partial(mounts.file_system_of, engine.layout.static)
    name = await trio.to_thread.run_sync(look, limiter=disk)
    status = {"Backing Filesystem": _PODMANS_NAMES.get(name, name or "<unknown>"), "Supports d_type": "true"}
    try:
        way = await trio.to_thread.run_sync(overlays.way, limiter=disk)
    except PymanError as error:
        return {**status, "Native Overlay Diff": "false", "Error": str(error)}, {}
    status |= {
        "Native Overlay Diff": _word(way.native),
        "Using metacopy": "false",
        "Supports shifting": _word(not way.native),
        "Supports volatile": _word(not way.native),
    }
    if way.native:
        return status, {}
    program = {
        "Executable": way.program,
        "Package": "Unknown",
        "Version": await overlays.version(way.program),
    }
    return status, {"overlay.mount_program": program}


def _word(value: bool) -> str:
    return str(value).lower()


def _pairs(options: Sequence[str]) -> dict[str, str]:
    """`overlay.mountopt=nodev` by its name."""
    return {name: value for name, _, value in (option.partition("=") for option in options)}


def _health_checks(engine: Engine) -> dict[str, Any]:
    """`delay99`: seconds between due and started that 99 of 100 of the last checks have kept to."""
    schedule = engine.services.health
    delays = sorted(schedule.delays)
    return {
        "armed": schedule.armed,
        "underWay": schedule.under_way,
        "skipped": schedule.skipped,
        "delay99": round(delays[len(delays) * 99 // 100], 4) if delays else 0.0,
    }


def _size(path: str) -> int | None:
    """In bytes; None: somebody has taken it away."""
    try:
        return os.path.getsize(path)
    except OSError:
        return None


def _supervisor(engine: Engine, facts: Facts) -> dict[str, Any]:
    database = engine.services.database
    return {
        "pid": facts.pid,
        "keeperPid": facts.keeper_pid,
        "socket": facts.socket,
        "database": facts.database,
        "databaseBytes": _size(facts.database),
        "startedAt": rfc3339(facts.started),
        "runningFor": round((time.time_ns() - facts.started) / 1e9, 3),
        "onStop": facts.on_stop,
        "journal": database.journal_id,
        "lastSeq": database.last_seq,
        "containers": len(engine.registry),
        "staticDir": engine.layout.static,
        "tmpDir": engine.layout.tmp,
        "python": sys.version.split()[0],
        "healthChecks": _health_checks(engine),
        "runtimes": sorted(engine.services.runtimes.available),
        "configFiles": list(engine.settings.files),
        "warnings": [*engine.settings.warnings, *_few_ids(engine)],
    }
