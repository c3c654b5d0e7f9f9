"""A container's config.json, and the process description of an exec, composed from the topics.

`build` decides and checks everything but touches nothing: what it refuses is refused before anything of the
container exists. `write_files` writes the few files that the configuration mounts. Both take well under a
millisecond and may block on the disk only for a look into the root filesystem.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import CommandNotExecutable, InvalidArgument, StorageFailed
from supervisor.kernel import files
from supervisor.kernel.idmaps import has_inside, outside
from supervisor.oci import (
    accounts,
    capabilities,
    confinement,
    devices,
    etc_files,
    limits,
    ports,
    resources,
    security,
)
from supervisor.oci.accounts import account_files
from supervisor.oci.environment import environment, exec_environment
from supervisor.oci.host import this_host
from supervisor.oci.mountpoints import make_directory, make_files, make_mount_points, missing_files
from supervisor.oci.mounts import INIT_DESTINATION, containerenv, covers, mounted_file, mounts
from supervisor.oci.namespaces import check_init, id_mappings, is_shared, modes, namespaces
from supervisor.oci.request import BuildRequest, ExecBuildRequest
from supervisor.oci.spec import OCI_VERSION, Box, IntelRdt, Linux, Personality, Process, Root, Spec, User
from supervisor.oci.sysctls import sysctls
from supervisor.oci.user_mounts import root_propagation
from supervisor.oci.users import Identity, look_up
from supervisor.settings.values import UMASK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyman.api.spec import ContainerSpec
    from supervisor.oci.spec import Mount

__all__ = [
    "KEEP_GROUPS",
    "BuildRequest",
    "ExecBuildRequest",
    "build",
    "build_exec",
    "environment_of",
    "groups_of",
    "owner_of",
    "root_of",
    "write_files",
]

KEEP_GROUPS = "keep-groups"
_KEEPS_GROUPS = "run.oci.keep_original_groups"
"""crun's annotation."""

_encoder = msgspec.json.Encoder()


def build(request: BuildRequest) -> bytes:
    """The contents of config.json. InvalidArgument and NotSupported name the option at fault;
    CommandNotExecutable tells which user, group or directory the root filesystem does not have."""
    spec, chosen = request.spec, modes(request)
    mounted = mounts(request, chosen)
    uid_mappings, gid_mappings = id_mappings(request)
    masked, read_only = security.hidden_paths(request)
    confinement.check(request)
    accounts.check(request.spec)
    etc_files.check(request)
    ports.check(request.spec)
    whole = Spec(
        oci_version=OCI_VERSION,
        process=_process(request, chosen, mounted),
        root=Root(request.rootfs, readonly=request.read_only),
        hostname="" if is_shared(chosen["uts"]) else request.hostname,
        mounts=mounted,
        annotations=_annotations(request),
        linux=Linux(
            namespaces=namespaces(request, chosen),
            uid_mappings=uid_mappings,
            gid_mappings=gid_mappings,
            sysctl=sysctls(request, chosen),
            resources=resources.resources(request),
            cgroups_path=request.placement.path,
            devices=devices.nodes(request),
            seccomp=security.system_calls(request),
            rootfs_propagation=root_propagation(mount.options for mount in mounted)
            if request.mounted
            else "",
            masked_paths=masked,
            readonly_paths=read_only,
            personality=Personality(spec.personality.domain) if spec.personality else None,
            intel_rdt=IntelRdt(spec.intel_rdt.clos_id) if spec.intel_rdt else None,
        ),
    )
    return _encoder.encode(whole)


def build_exec(request: ExecBuildRequest) -> bytes:
    """The process of an exec. Raises as `build` does."""
    container = request.container
    spec = container.spec
    identity = look_up(
        container.rootfs,
        request.user or spec.user,
        () if request.user else groups_of(spec),
        account_files(container),
    )
    process = Process(
        user=_user(container, identity),
        args=_words(request.command, "cannot run a command: none is given"),
        env=_pairs(exec_environment(request, identity.home)),
        cwd=_absolute(request.work_dir or spec.work_dir or "/"),
        terminal=request.terminal,
        console_size=_size(request.rows, request.columns),
        capabilities=capabilities.of_command(
            container,
            identity.uid,
            privileged=request.privileged,
            same_user=request.user in ("", spec.user),
        ),
        rlimits=limits.rlimits(container),
        oom_score_adj=limits.oom_score(container.settings, spec),
        no_new_privileges=spec.no_new_privileges,
        apparmor_profile=confinement.apparmor(container),
    )
    return _encoder.encode(process)


def environment_of(request: BuildRequest, home: str) -> list[str]:
    """`NAME=VALUE` as the container's command gets it; `home` is its user's home directory."""
    return _pairs(environment(request, home))


def write_files(request: BuildRequest) -> None:
    """The files that the configuration mounts, and where the container may not make it, what they are mounted on.
    Repeatable. StorageFailed and DiskFull."""
    _write(containerenv(request), _containerenv(request))
    if request.image.own_work_dir:
        _make_working_directory(request)
    for destination, text in account_files(request).items():
        _write(mounted_file(request, destination), text.encode(errors="replace"), root_of(request))
    chosen = modes(request)
    for file, content in etc_files.contents(request, chosen["network"]).items():
        _write(mounted_file(request, file), content, root_of(request))
    _make_mount_points(request, chosen)


def _make_mount_points(request: BuildRequest, chosen: dict[str, str]) -> None:
    etc_files.prepare(request, chosen["network"], root_of(request))
    own = [place for _, place in etc_files.destinations(request, chosen["network"])]
    missing = missing_files(request.rootfs, own)
    if not missing and request.userns is None:
        return
    mounted = mounts(request, chosen)
    others = [mount for mount in mounted if mount.destination not in own]
    make_files(request.rootfs, [place for place in missing if not covers(others, place)], root_of(request))
    if request.userns is not None:
        make_mount_points(request.rootfs, mounted, request.userns.maps)


def _write(path: str, content: bytes, owner: tuple[int, int] | None = None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
            descriptor = os.open(path, flags, 0o644)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(content)
            if owner is not None:
                os.fchown(descriptor, *owner)
    except OSError as error:
        raise files.storage_error(error, "write", path) from error


def root_of(request: BuildRequest) -> tuple[int, int] | None:
    """The container's root, in the engine's ids; none: the engine's own, or there is none."""
    if request.userns is None:
        return None
    maps = request.userns.maps
    if not all(has_inside(0, lines) for lines in maps):
        return None
    return outside(0, maps.uids), outside(0, maps.gids)


def _containerenv(request: BuildRequest) -> bytes:
    """Podman tells only a privileged container what it runs in; every one, that the engine's store is mounted there."""
    seen = "graphRootMounted=1\n" if _sees_store(request) else ""
    if not request.privileged:
        return seen.encode()
    known = {
        "engine": "pyman",
        "name": request.name,
        "id": request.id,
        "image": request.image.name,
        "imageid": request.image.id,
    }
    told = "".join(f'{key}="{value}"\n' for key, value in known.items())
    return f"{told}rootless={int(request.settings.rootless)}\n{seen}".encode()


def _sees_store(request: BuildRequest) -> bool:
    """The engine's store of images and containers, or a directory in which it lies, is mounted into the container or is
    its root filesystem."""
    store = request.settings.storage.graphroot
    sources = [mount.source for mount in mounts(request, modes(request)) if mount.type == "bind"]
    own_root = request.rootfs == request.spec.rootfs != ""
    return any(is_within(store, source) for source in [*sources, *([request.rootfs] if own_root else [])])


def is_within(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def _process(request: BuildRequest, chosen: Mapping[str, str], mounted: Sequence[Mount]) -> Process:
    spec = request.spec
    identity = _identity(request)
    return Process(
        user=_user(request, identity),
        args=_command(request, chosen),
        env=environment_of(request, identity.home),
        cwd=_working_directory(request, mounted),
        terminal=spec.terminal,
        console_size=_size(request.rows, request.columns) if spec.terminal else None,
        capabilities=capabilities.of_container(request, identity.uid),
        rlimits=limits.rlimits(request),
        oom_score_adj=limits.oom_score(request.settings, spec),
        no_new_privileges=spec.no_new_privileges,
        apparmor_profile=confinement.apparmor(request),
    )


def _identity(request: BuildRequest) -> Identity:
    if not request.rootfs:
        return Identity(uid=0, gid=0, groups=[], home="/")
    return look_up(request.rootfs, request.spec.user, groups_of(request.spec), account_files(request))


def owner_of(request: BuildRequest) -> tuple[int, int]:
    """The uid and gid of the container's user, in the engine's ids. InvalidArgument, CommandNotExecutable."""
    identity = _identity(request)
    if request.userns is None:
        return identity.uid, identity.gid
    _check_ids(request, identity)
    maps = request.userns.maps
    return outside(identity.uid, maps.uids), outside(identity.gid, maps.gids)


def groups_of(spec: ContainerSpec) -> list[str]:
    """The groups to look up. `keep-groups` is none: the OCI runtime leaves the caller's as they are."""
    return [name for name in spec.groups if name != KEEP_GROUPS]


def _user(request: BuildRequest, identity: Identity) -> User:
    _check_ids(request, identity)
    text = request.spec.umask or request.settings.containers.umask
    if not UMASK.fullmatch(text):
        raise InvalidArgument(
            f"cannot use the umask '{text}': it is not an octal mask such as 0022", subject=text
        )
    return User(identity.uid, identity.gid, umask=int(text, 8), additional_gids=identity.groups)


def _check_ids(request: BuildRequest, identity: Identity) -> None:
    """An OCI runtime only says that an argument is invalid."""
    own = request.userns is not None
    if not own and not request.settings.rootless:
        return
    maps = request.userns.maps if request.userns is not None else this_host().id_maps
    for kind, lines, ids in (
        ("uid", maps.uids, [identity.uid]),
        ("gid", maps.gids, [identity.gid, *identity.groups]),
    ):
        for id in ids:
            if not has_inside(id, lines):
                whose = "the container's" if own else "this user's"
                raise InvalidArgument(
                    f"cannot use the {kind} {id}: {whose} user namespace does not have it",
                    subject=str(id),
                    hint="give another --user, or a larger --userns" if own else "give another --user",
                )


def _command(request: BuildRequest, chosen: Mapping[str, str]) -> list[str]:
    spec = request.spec
    what = f"cannot create container '{request.name}': no command is given"
    if request.image.id:
        what += ", and its image has none"
    words = _words([*(spec.entrypoint or []), *spec.command], what)
    if not request.init:
        return words
    check_init(spec, chosen["pid"])
    if any(mount.destination == INIT_DESTINATION for mount in request.mounted):
        raise InvalidArgument(
            f"cannot use --init with a mount at {INIT_DESTINATION}: the init is there",
            subject=INIT_DESTINATION,
        )
    return [INIT_DESTINATION, "--", *words]


def _words(command: list[str], missing: str) -> list[str]:
    if not command:
        raise InvalidArgument(missing)
    if any("\0" in word for word in command):
        raise InvalidArgument("cannot run the command: an argument contains a zero byte")
    return command


def _pairs(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgument(
            f"cannot use the working directory '{path}': it is not an absolute path", subject=path
        )
    return os.path.normpath(path).replace("//", "/")


def _working_directory(request: BuildRequest, mounted: Sequence[Mount]) -> str:
    """An OCI runtime would silently make a directory that is not there: a typing error, most of the time."""
    path = _absolute(request.spec.work_dir or "/")
    if path == "/" or not request.rootfs or covers(mounted, path):
        return path
    try:
        os.close(files.open_in_root(request.rootfs, path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            reason = "it does not exist in the root filesystem"
            if error.errno != errno.ENOENT:
                reason = "it is not a directory in the root filesystem"
            message = f"cannot use the working directory '{path}': {reason}"
            raise CommandNotExecutable(message, subject=path) from error
        message = f"cannot use the working directory '{path}': {(error.strerror or str(error)).lower()}"
        raise StorageFailed(message, subject=path) from error
    return path


def _make_working_directory(request: BuildRequest) -> None:
    """An image need not have the one that it names: it is made, for its user."""
    path = _absolute(request.spec.work_dir)
    if covers(mounts(request, modes(request)), path):
        return
    try:
        make_directory(request.rootfs, path, owner_of(request), root_of(request) or (0, 0))
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
            message = (
                f"cannot use the working directory '{path}': it is not a directory in the root filesystem"
            )
            raise CommandNotExecutable(message, subject=path) from error
        raise files.storage_error(error, "make", f"{request.rootfs}{path}") from error


def _size(rows: int, columns: int) -> Box | None:
    return Box(height=rows, width=columns) if rows > 0 and columns > 0 else None


def _annotations(request: BuildRequest) -> dict[str, str]:
    """The engine's, the configured and the user's, the last strongest."""
    spec, defaults = request.spec, request.settings.containers
    return {
        "io.container.manager": "pyman",
        "io.podman.annotations.autoremove": _truth(spec.remove),
        **({"io.podman.annotations.autoremove-image": "TRUE"} if spec.remove_image else {}),
        "io.podman.annotations.init": _truth(request.init),
        "io.podman.annotations.privileged": _truth(request.privileged),
        "org.opencontainers.image.stopSignal": str(request.stop_signal),
        **(_of_scope(request) if request.placement.systemd else {}),
        **confinement.noted(spec),
        **({_KEEPS_GROUPS: "1"} if KEEP_GROUPS in spec.groups else {}),
        **defaults.annotations,
        **spec.annotations,
    }


def _of_scope(request: BuildRequest) -> dict[str, str]:
    """How systemd ends the container when it ends the user, or the host: as the supervisor would. Else whatever
    ignores SIGTERM holds that up for a minute and a half."""
    return {
        "org.systemd.property.KillSignal": str(request.stop_signal),
        "org.systemd.property.TimeoutStopUSec": f"uint64 {round(request.stop_timeout * 1_000_000)}",
    }


def _truth(value: bool) -> str:
    return "TRUE" if value else "FALSE"
