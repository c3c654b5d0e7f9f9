"""Every path that the supervisor uses on disk, in one place.

Four trees, by how long they last and who may enter:

- `static`: definitions, state and logs; outlives a reboot; the owner alone.
- `tmp`: what belongs to running containers; ends with the boot. Others may pass through it but not list it.
- `sockets`: where clients find the supervisor; the owner alone, which is why it is not in `tmp`.
- `graph_root` and `run_root`: the image store, shared with other engines.

What containers in user namespaces have to reach lies elsewhere: see `storage.reach`.

All paths are absolute strings without a trailing slash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument, PermissionDenied, StorageFailed

if TYPE_CHECKING:
    from supervisor.settings.model import Settings

__all__ = ["Layout", "make_directories"]

_PRIVATE = 0o700
_PASSABLE = 0o711
_HOSTS_NETWORKS = "/etc/containers/networks"
_HOSTS_NETWORK_LOCK = "/run/lock/netavark.lock"
"""Of Podman from version 5 on."""


def selection_hash(selection: str) -> str:
    """Names the supervisor of a selection such as `root:/srv/store` in paths; empty for the default one."""
    return hashlib.sha256(os.fsencode(selection)).hexdigest()[:16] if selection else ""


class Layout(msgspec.Struct, frozen=True):
    """Made by `Layout.of(settings)`; the rest follows from these."""

    uid: int
    graph_root: str
    run_root: str
    static: str
    tmp: str
    sockets: str
    socket: str
    events_socket: str
    read_socket: str
    lock_file: str
    volumes: str
    networks: str
    """Where Podman has the definitions of its networks, too: root's are the host's, whatever the graph root."""
    roots_name: str
    """This engine's directory where containers reach their root filesystems (`storage.reach`)."""

    @classmethod
    def of(cls, settings: Settings) -> Layout:
        key = selection_hash(settings.selection)
        base = "/run" if settings.uid == 0 else settings.xdg.runtime_dir
        sockets = f"{base}/pyman"
        tmp = _tmp(settings, base, key)
        stem = f"{sockets}/{key or 'pyman'}"
        engine, store = settings.engine, settings.storage
        return cls(
            uid=settings.uid,
            graph_root=store.graphroot,
            run_root=store.runroot,
            static=f"{engine.static_dir or store.graphroot}/pyman",
            tmp=tmp,
            sockets=sockets,
            socket=f"{stem}.sock",
            events_socket=f"{stem}-events.sock",
            read_socket=f"{stem}-read.sock",
            lock_file=_lock_file(settings, tmp, key),
            volumes=engine.volume_path or f"{store.graphroot}/volumes",
            networks=_networks(settings),
            roots_name=key or "default",
        )

    @property
    def database(self) -> str:
        return f"{self.static}/state.db"

    @property
    def supervisor_lock(self) -> str:
        """Locked by the one supervisor of this state."""
        return f"{self.static}/supervisor.lock"

    @property
    def trash(self) -> str:
        """Directories go here by rename and are deleted afterwards."""
        return f"{self.static}/trash"

    @property
    def store_own(self) -> str:
        """What this engine needs to change the image store: on its file system, beside what all engines share."""
        return f"{self.graph_root}/pyman/store/{selection_hash(self.static)}"

    @property
    def volumes_own(self) -> str:
        """What this engine needs to make and remove volumes: on their file system, beside those of all engines."""
        return f"{self.volumes}/.pyman-{selection_hash(self.static)}"

    @property
    def secrets(self) -> str:
        """Where Podman has its secrets on this graph root, too."""
        return f"{self.graph_root}/secrets"

    @property
    def network_locks(self) -> tuple[str, ...]:
        """What protects `networks`, in the order in which it is taken: an engine takes one of them at least."""
        own = f"{self.networks}/netavark.lock"
        return (own,) if self.uid else (_HOSTS_NETWORK_LOCK, own)

    @property
    def partials(self) -> str:
        """What has come so far of blobs on their way here."""
        return f"{self.static}/partials"

    @property
    def builds(self) -> str:
        """What is known of builds that have not been told yet, a directory each."""
        return f"{self.static}/builds"

    @property
    def containers(self) -> str:
        return f"{self.static}/containers"

    @property
    def owner(self) -> str:
        """Says whose `tmp` it is: the `static` of the engine."""
        return f"{self.tmp}/owner"

    @property
    def alive(self) -> str:
        return f"{self.tmp}/alive"

    @property
    def exits(self) -> str:
        """conmon's --exit-dir."""
        return f"{self.tmp}/exits"

    @property
    def helpers(self) -> str:
        """What the helper programs of networks have printed, a file each."""
        return f"{self.tmp}/helpers"

    @property
    def names(self) -> str:
        """What the name server of containers reads."""
        return f"{self.tmp}/names"

    @property
    def probes(self) -> str:
        """Where OCI runtimes are tried when a supervisor starts."""
        return f"{self.tmp}/probes"

    @property
    def reaped(self) -> str:
        """How orphans ended that the keeper reaped: a line `pid start-time wait-status` each."""
        return f"{self.tmp}/reaped"

    @property
    def socket_dir(self) -> str:
        """conmon's --socket-dir-path: attach sockets."""
        return f"{self.tmp}/socket"

    @property
    def sandbox(self) -> str:
        """What there is of the network namespace with an ordinary user's bridges."""
        return f"{self.tmp}/sandbox"

    @property
    def containers_run(self) -> str:
        return f"{self.tmp}/containers"

    @property
    def image_mounts(self) -> str:
        """Where images are mounted, each by the id of its top layer."""
        return f"{self.tmp}/images"

    def container_static(self, container_id: str) -> str:
        return f"{self.static}/containers/{container_id}"

    def container_log(self, container_id: str) -> str:
        return f"{self.static}/containers/{container_id}/ctr.log"

    def container_persist(self, container_id: str) -> str:
        """conmon's --persist-dir: the exit file that outlives the directory for temporary files."""
        return f"{self.static}/containers/{container_id}/persist"

    def container_upper(self, container_id: str) -> str:
        """The writable layer of an overlay root filesystem."""
        return f"{self.static}/containers/{container_id}/upper"

    def container_work(self, container_id: str) -> str:
        return f"{self.static}/containers/{container_id}/work"

    def container_volumes(self, container_id: str) -> str:
        """What its image wants volumes for: a directory each, by their numbers."""
        return f"{self.static}/containers/{container_id}/volumes"

    def container_secrets(self, container_id: str) -> str:
        """What is in the secrets that it was created with: a file each, by their numbers."""
        return f"{self.static}/containers/{container_id}/secrets"

    def container_overlays(self, container_id: str) -> str:
        """What is written to copy-on-write views of what is mounted in it; a directory each, by their numbers."""
        return f"{self.static}/containers/{container_id}/overlays"

    def container_mounts(self, container_id: str) -> str:
        """Where what is mounted in it is made ready, by number."""
        return f"{self.tmp}/containers/{container_id}/mounts"

    def container_run(self, container_id: str) -> str:
        return f"{self.tmp}/containers/{container_id}"

    def container_bundle(self, container_id: str) -> str:
        """The OCI bundle: config.json, FIFOs, conmon's `ctl` and `winsz`."""
        return f"{self.tmp}/containers/{container_id}"

    def container_rootfs(self, container_id: str) -> str:
        """Where an overlay root filesystem is mounted."""
        return f"{self.tmp}/containers/{container_id}/rootfs"

    def container_lower(self, container_id: str) -> str:
        """Where the lower directory of an overlay appears with other ids while the overlay is mounted."""
        return f"{self.tmp}/containers/{container_id}/lower"

    def container_pidfile(self, container_id: str) -> str:
        return f"{self.tmp}/containers/{container_id}/pidfile"

    def container_conmon_pidfile(self, container_id: str) -> str:
        return f"{self.tmp}/containers/{container_id}/conmon.pid"

    def container_file(self, container_id: str, name: str) -> str:
        """A file that is mounted into the container."""
        return f"{self.tmp}/containers/{container_id}/files/{name}"

    def exec_run(self, container_id: str, exec_id: str) -> str:
        return f"{self.tmp}/containers/{container_id}/exec/{exec_id}"


def _tmp(settings: Settings, base: str, key: str) -> str:
    if settings.options.tmpdir:
        return os.path.abspath(settings.options.tmpdir)
    if settings.engine.tmp_dir:
        return f"{settings.engine.tmp_dir}/pyman{f'-{key}' if key else ''}"
    return f"{base}/pyman-tmp/{key}" if key else f"{base}/pyman-tmp/default"


def _networks(settings: Settings) -> str:
    own = f"{settings.storage.graphroot}/networks" if settings.rootless else _HOSTS_NETWORKS
    return settings.network.network_config_dir or own


def _lock_file(settings: Settings, tmp: str, key: str) -> str:
    if settings.engine.lock_type == "file":
        return f"{tmp}/locks"
    user = f"_{settings.uid}" if settings.uid else ""
    return f"/dev/shm/pyman_lock{user}{f'_{key}' if key else ''}"  # noqa: S108 - POSIX shared memory


def make_directories(layout: Layout) -> None:
    """Make what is missing, with the right modes; correct the modes of what is there.

    Idempotent: also brings back what a tmp cleaner or a logout took. A directory that another user owns,
    or that is not a directory, is PermissionDenied: whoever owns it could replace what we put there.
    A directory for what runs that another engine uses is InvalidArgument.
    """
    if layout.uid != 0:
        # The fallback for $XDG_RUNTIME_DIR lies in /tmp, where anyone could have made it first.
        _make(os.path.dirname(layout.sockets), _PRIVATE)
    for path in (layout.static, layout.trash, layout.containers, layout.sockets):
        _make(path, _PRIVATE)
    for path in (layout.tmp, layout.containers_run):
        _make(path, _PASSABLE)
    for path in (layout.exits, layout.socket_dir):
        _make(path, _PRIVATE)
    _claim(layout)


def _claim(layout: Layout) -> None:
    """Two engines in one directory for what runs would each clear the other's containers away as leftovers.

    InvalidArgument: another one has it, whether its supervisor runs or not.
    """
    owner = ""
    with contextlib.suppress(OSError), open(layout.owner, encoding="utf-8", errors="surrogateescape") as file:
        owner = file.read()
    if owner == layout.static:
        return
    if owner and os.path.exists(f"{owner}/{os.path.basename(layout.database)}"):
        try:
            same = os.path.samefile(owner, layout.static)
        except OSError:
            same = False
        if not same:
            raise InvalidArgument(
                f"cannot use the directory '{layout.tmp}': the engine with its state in '{owner}' does",
                subject=layout.tmp,
                hint="give another --tmpdir",
            )
    # On a full disk it is not claimed, and all the same used.
    with (
        contextlib.suppress(OSError),
        open(layout.owner, "w", encoding="utf-8", errors="surrogateescape", opener=_private) as new,
    ):
        new.write(layout.static)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _make(path: str, mode: int) -> None:
    # Not the layout's uid: in a user namespace the owner is shown with the id it has there.
    uid = os.geteuid()
    try:
        _make_parents(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)
        # lstat first: opening a FIFO or a device that somebody left here must not block or act.
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise PermissionDenied(f"cannot use '{path}': it is not a directory", subject=path)
        if status.st_uid != uid:
            message = f"cannot use the directory '{path}': it belongs to user {status.st_uid}, not {uid}"
            raise PermissionDenied(message, subject=path, hint="remove it or choose another directory")
        if stat.S_IMODE(status.st_mode) != mode:
            os.chmod(path, mode)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PermissionDenied(
                f"cannot make the directory '{path}': {error.strerror}", subject=path
            ) from error
        raise StorageFailed(f"cannot make the directory '{path}': {error.strerror}", subject=path) from error


def _make_parents(path: str) -> None:
    """Directories above ours may be shared with other engines: passable, as theirs are."""
    missing: list[str] = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, _PASSABLE)
            os.chmod(directory, _PASSABLE)
        except FileExistsError:
            pass
