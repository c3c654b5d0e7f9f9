"""The file systems of a container, in the order in which they are mounted.

The kernel's own come first, then what is mounted below them; `sort` keeps parents before children.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import NotSupported, StorageFailed
from supervisor.kernel.idmaps import has_inside
from supervisor.oci.accounts import account_files
from supervisor.oci.devices import device_mounts
from supervisor.oci.etc_files import destinations
from supervisor.oci.given import given_mounts
from supervisor.oci.host import this_host
from supervisor.oci.security import proc_options
from supervisor.oci.spec import Mount
from supervisor.oci.user_mounts import superseded, user_mounts
from supervisor.oci.users import look_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.oci.request import BuildRequest

__all__ = [
    "INIT_DESTINATION",
    "NOTIFY_DESTINATION",
    "containerenv",
    "covers",
    "file_in",
    "init_program",
    "mounted_file",
    "mounts",
    "shared_shm",
    "volume_directory",
]

INIT_DESTINATION = "/run/podman-init"
NOTIFY_DESTINATION = "/run/notify"
"""A directory, with conmon's socket notify.sock."""

_NOTIFY = ["bind", "rprivate", "nosuid", "nodev", "noexec", "ro"]
_TTY = 5
"""The group of terminals."""
_PROC = Mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"])
_HOST_PROC = Mount("/proc", "bind", "/proc", ["rbind", "rprivate", "nosuid", "noexec", "nodev"])
"""Only the owner of a process namespace may mount a proc, which shows it."""
_DEV = Mount("/dev", "tmpfs", "tmpfs", ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"])
_PTS = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
_OWN_MQUEUE = Mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"])
_HOST_MQUEUE = Mount("/dev/mqueue", "bind", "/dev/mqueue", ["bind", "nosuid", "noexec", "nodev"])
_HOST_SHM = Mount("/dev/shm", "bind", "/dev/shm", ["bind", "rprivate", "nosuid", "noexec", "nodev"])  # noqa: S108
_SHARED_SHM = ["bind", "rprivate", "nosuid", "noexec", "nodev"]
_SYS = {
    word: Mount("/sys", "sysfs", "sysfs", ["rprivate", "nosuid", "noexec", "nodev", word])
    for word in ("ro", "rw")
}
_HOST_SYS = {
    word: Mount("/sys", "bind", "/sys", ["rbind", "rprivate", "nosuid", "noexec", "nodev", word])
    for word in ("ro", "rw")
}
"""Only the owner of a network namespace may mount a sysfs, which shows it."""
_CGROUP = {
    word: Mount(
        "/sys/fs/cgroup", "cgroup", "cgroup", ["rprivate", "nosuid", "noexec", "nodev", "relatime", word]
    )
    for word in ("ro", "rw")
}
_WRITABLE = tuple(
    Mount(path, "tmpfs", "tmpfs", ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"])
    for path in ("/run", "/tmp", "/var/tmp")  # noqa: S108
)


_VOLUME = ["rw", "rprivate", "nodev", "exec"]


def mounts(request: BuildRequest, chosen: dict[str, str]) -> list[Mount]:
    """`chosen`: the modes of the namespaces. NotSupported: `--init` without an init program."""
    spec = request.spec
    access = "rw" if request.privileged else "ro"
    pts = Mount(
        "/dev/pts", "devpts", "devpts", [*_PTS, *([f"gid={_TTY}"] if _has_terminals(request) else [])]
    )
    rigid = request.read_only and not spec.read_write_tmpfs
    dev = msgspec.structs.replace(_DEV, options=[*_DEV.options, "ro"]) if rigid else _DEV
    found = [_proc(request, chosen), dev, pts]
    if request.restricted and (chosen["network"] == "host" or "network" in request.foreign):
        found.append(_HOST_SYS[access])
    else:
        found += [_SYS[access], _CGROUP[access]]
    found += _of_ipc(request, chosen["ipc"], rigid=rigid)
    if request.read_only and spec.read_write_tmpfs:
        found.extend(_WRITABLE)
    found.append(
        Mount(
            "/run/.containerenv",
            "bind",
            containerenv(request),
            # As $XDG_RUNTIME_DIR is mounted: who is not root there may not drop these, which runc would try.
            ["bind", "rprivate", "nosuid", "nodev", "noexec", *([] if access == "rw" else ["ro"])],
        )
    )
    for destination in account_files(request):
        found.append(Mount(destination, "bind", mounted_file(request, destination), ["bind", "rprivate"]))
    guarded = ["ro", "nosuid", "noexec", "nodev"] if request.read_only else []
    for file, destination in destinations(request, chosen["network"]):
        options = ["bind", "rprivate", *guarded]
        source = (request.network_files or {}).get(file) or mounted_file(request, file)
        found.append(Mount(destination, "bind", source, options))
    found += _engines(request)
    found += device_mounts(request)
    found += given_mounts(request)
    own = {mount.destination for mount in found}
    found += [mount for mount in _volumes(request) if mount.destination not in own]
    if request.systemd:
        from supervisor.oci.systemd_mounts import systemd_mounts

        found = systemd_mounts(request, chosen, found)
    if request.mounted:
        found = superseded(found, user_mounts(request, _owner(request)))
    return sorted(found, key=lambda mount: mount.destination.count("/"))


def _engines(request: BuildRequest) -> Iterator[Mount]:
    """What the engine has its say by in the container."""
    if request.notify_directory:
        yield Mount(NOTIFY_DESTINATION, "bind", request.notify_directory, _NOTIFY)
    if request.init:
        yield Mount(INIT_DESTINATION, "bind", init_program(request), ["bind", "rprivate", "ro"])


def _of_ipc(request: BuildRequest, mode: str, *, rigid: bool) -> list[Mount]:
    """What shows the IPC namespace, and the shared memory that belongs to it."""
    if mode == "host":
        if os.path.isdir("/dev/mqueue"):
            return [_HOST_MQUEUE, _HOST_SHM]
        # Only the owner of an IPC namespace may mount one.
        return [_HOST_SHM] if request.restricted else [_OWN_MQUEUE, _HOST_SHM]
    found = [] if "ipc" in request.foreign else [_OWN_MQUEUE]
    if mode == "container":
        shm = [*_SHARED_SHM, *(["ro"] if rigid else [])]
        found.append(Mount("/dev/shm", "bind", shared_shm(request.run_directory), shm))  # noqa: S108
    elif mode != "none":
        found.append(_shm(request.shm_size, rigid))
    return found


def shared_shm(run_directory: str) -> str:
    """Where the /dev/shm of the container is whose IPC namespace is joined: among what is staged for the container."""
    return f"{run_directory}/mounts/shm"


def _owner(request: BuildRequest) -> tuple[int, int]:
    """uid and gid in the container of its command, where a tmpfs is to be its own."""
    if not request.rootfs or not any(each.kind == "tmpfs" and each.has("U") for each in request.mounted):
        return 0, 0
    found = look_up(request.rootfs, request.spec.user, (), account_files(request))
    return found.uid, found.gid


def _proc(request: BuildRequest, chosen: dict[str, str]) -> Mount:
    options = proc_options(request.spec)
    if not request.restricted or chosen["pid"] != "host":
        return Mount("/proc", "proc", "proc", options) if options else _PROC
    if options:
        raise NotSupported(
            "cannot use --security-opt proc-opts together with --pid host: it is the host's /proc that is shown",
            subject="proc-opts",
        )
    return _HOST_PROC


def _volumes(request: BuildRequest) -> list[Mount]:
    """Of the image. What the engine itself mounts there goes before."""
    image = request.image
    if not image.volume_mode:
        return []
    if image.volume_mode == "tmpfs":
        return [Mount(path, "tmpfs", "tmpfs", [*_VOLUME, "tmpcopyup"]) for path in image.volumes]
    return [
        Mount(path, "bind", volume_directory(request.volumes_directory, number), ["rbind", *_VOLUME])
        for number, path in enumerate(image.volumes)
    ]


def covers(mounted: Iterable[Mount], path: str) -> bool:
    """The path lies on one of these, and not on the root filesystem."""
    return any(f"{path}/".startswith(f"{mount.destination}/") for mount in mounted)


def volume_directory(directory: str, number: int) -> str:
    """Of one of the volumes that the image of a container wants."""
    return f"{directory}/{number}"


def _has_terminals(request: BuildRequest) -> bool:
    """The group of terminals exists in the container."""
    maps = this_host().id_maps if request.userns is None else request.userns.maps
    return has_inside(_TTY, maps.gids)


def _shm(size: int, rigid: bool) -> Mount:
    """`size` in bytes; 0: no limit. `rigid`: nobody writes to it."""
    options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={size}", *(["ro"] if rigid else [])]
    return Mount("/dev/shm", "tmpfs", "shm", options)  # noqa: S108


def containerenv(request: BuildRequest) -> str:
    """The file that is /run/.containerenv in the container; `build.write_files` writes it."""
    return mounted_file(request, "/run/containerenv")


def mounted_file(request: BuildRequest, destination: str) -> str:
    """The file that is `destination` in the container."""
    return file_in(request.run_directory, destination)


def file_in(run_directory: str, destination: str) -> str:
    """The same of a container with that run directory."""
    return f"{run_directory}/files/{destination.rpartition('/')[2]}"


def init_program(request: BuildRequest) -> str:
    """The init to run as the container's first process. It is configured, or catatonit is looked for."""
    configured = request.spec.init_path or request.settings.containers.init_path
    if configured:
        if _executable(configured):
            return configured
        raise StorageFailed(
            f"cannot use the init '{configured}': it is not an executable file", subject=configured
        )
    for directory in (*request.settings.engine.helper_binaries_dir, "/usr/bin", "/usr/local/bin"):
        if _executable(f"{directory}/catatonit"):
            return f"{directory}/catatonit"
    raise NotSupported(
        "cannot use --init: this host has no catatonit", hint="install it or set containers.init_path"
    )


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
