"""What has to be made ready around a run for what is mounted in the container: copy-on-write views, images, parts of
volumes, views with other owners; and the owners that files are given.

Each has a place of its own in the run directory, by its number among the container's mounts. What is written to a view lies
in the container's static directory and ends with the run. Everything can be repeated, and `undo` asks the directory
alone. All of it blocks and is called in a thread of the event loop's.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import cgroups, files, mounts
from supervisor.oci import build
from supervisor.oci.mountpoints import make_directory
from supervisor.oci.mounts import covers
from supervisor.oci.mounts import mounts as all_mounts
from supervisor.oci.namespaces import modes
from supervisor.oci.user_mounts import place_of
from supervisor.runtime.mounts import chowning, idmapping

if TYPE_CHECKING:
    from supervisor.oci.mounted import Mounted
    from supervisor.oci.request import BuildRequest
    from supervisor.runtime.services import Services
    from supervisor.settings.layout import Layout
    from supervisor.storage.overlay import Overlays

__all__ = ["prepare", "undo"]

_CANNOT_MAP = frozenset({errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
_ESCAPES = frozenset({errno.EXDEV, errno.ELOOP, errno.ENOTDIR, errno.ENOENT})


def prepare(services: Services, request: BuildRequest, deadline: float) -> None:
    """Undone by `undo`. The container's root filesystem is mounted. `deadline`: seconds for the change of the owners of
    one. StorageFailed, DiskFull, InvalidArgument, NotSupported, CommandNotExecutable, DeadlineExceeded."""
    stage = _Stage(services, request, deadline)
    for number, each in enumerate(request.mounted):
        stage.make(number, each)


class _Stage:
    def __init__(self, services: Services, request: BuildRequest, deadline: float) -> None:
        self._services = services
        self._layout = services.layout
        self._request = request
        self._deadline = deadline

    def _owner(self) -> tuple[int, int]:
        """uid and gid of the container's command, in the engine's ids."""
        return build.owner_of(self._request)

    def make(self, number: int, each: Mounted) -> None:
        if each.kind in ("tmpfs", "ramfs", "devpts"):
            return
        if each.is_link:
            self._link(each)
            return
        source = self._source(each)
        if each.has("U"):
            chowning.chown(source, self._owner(), each.destination, self._deadline)
        if not each.staged:
            return
        target = place_of(self._request.run_directory, number)
        if mounts.mounted(target) and not mounts.is_dead(target):
            return
        try:
            with ExitStack() as stack:
                self._stage(stack, number, each, source, target)
        except OSError as error:
            raise files.storage_error(error, f"mount '{each.destination}' of", source or each.name) from error

    def _link(self, each: Mounted) -> None:
        """Make it in the root filesystem, out of which no other link leads."""
        request, where = self._request, each.destination
        if covers(all_mounts(request, modes(request)), where):
            raise InvalidArgument(
                f"cannot make the link '{where}': it would lie on another mount", subject=where
            )
        above, _, name = where.rpartition("/")
        owner = build.root_of(request) or (0, 0)
        try:
            target = os.readlink(each.source)
            make_directory(request.rootfs, above or "/", owner, owner)
            directory = files.open_in_root(request.rootfs, above or "/", os.O_PATH | os.O_DIRECTORY)
            try:
                os.symlink(target, name, dir_fd=directory)
                os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                if not _leads_to(name, directory, target):
                    raise
            finally:
                os.close(directory)
        except OSError as error:
            raise files.storage_error(error, "make the link", where) from error

    def _source(self, each: Mounted) -> str:
        if each.kind == "image":
            return ""
        return self._request.volumes[each.source] if each.kind == "volume" else each.source

    def _stage(self, stack: ExitStack, number: int, each: Mounted, source: str, target: str) -> None:
        os.makedirs(os.path.dirname(target), mode=0o711, exist_ok=True)
        if each.kind == "image":
            source = self._image(number, each, target if not each.sub_path else f"{target}.image")
            if not each.sub_path:
                return
        directory = os.open(source, os.O_PATH | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        if each.sub_path:
            directory = self._part(stack, directory, each)
        if each.kind == "overlay" or each.has("O"):
            if each.sub_path:
                source = f"{target}.part"
                self._bind(stack, each, directory, source)
            self._view(number, each, source, target)
        else:
            self._bind(stack, each, directory, target)

    def _bind(self, stack: ExitStack, each: Mounted, directory: int, target: str) -> None:
        """`directory`: a descriptor of it, or of a file."""
        tree = mounts.clone(directory, recursive=not each.has("bind"))
        stack.callback(os.close, tree)
        if (wish := each.value("idmap")) is not None:
            self._map(stack, tree, each, wish)
        _make_point(target, stat.S_ISDIR(os.fstat(directory).st_mode))
        mounts.attach(tree, target)

    def _part(self, stack: ExitStack, directory: int, each: Mounted) -> int:
        """A part of a volume or image, out of which no link leads."""
        try:
            found = files.open_in_directory(directory, each.sub_path, os.O_PATH)
        except OSError as error:
            if error.errno not in _ESCAPES:
                raise
            what = each.name if each.kind == "image" else each.source
            raise InvalidArgument(
                f"cannot mount '{each.destination}': there is no '{each.sub_path}' in '{what}'",
                subject=each.sub_path,
            ) from error
        stack.callback(os.close, found)
        return found

    def _map(self, stack: ExitStack, tree: int, each: Mounted, wish: str) -> None:
        option = f"idmap={wish}" if wish else "idmap"
        maps = idmapping.maps_for(option, each.destination, self._request.userns)
        namespace = idmapping.namespace_with(maps, each.destination)
        stack.callback(os.close, namespace)
        try:
            mounts.map_ids(tree, namespace, recursive=not each.has("bind"))
        except OSError as error:
            if error.errno in _CANNOT_MAP:
                raise NotSupported(
                    f"cannot mount '{each.destination}' with 'idmap': neither this kernel nor the file system may",
                    subject=each.source,
                ) from error
            raise

    def _view(self, number: int, each: Mounted, lower: str, target: str) -> None:
        """Of a directory: what is written goes to directories that the user names, or that end with the run."""
        upper, work = each.value("upperdir"), each.value("workdir")
        if upper is None or work is None:
            upper, work = self._own_directories(number, lower)
        if each.has("U"):
            chowning.chown(upper, self._owner(), each.destination, self._deadline)
        os.makedirs(target, mode=0o700, exist_ok=True)
        overlays = self._services.overlays
        if not overlays.ready(target):
            overlays.mount(target, [lower], upper, work)
            self._place_server(target)

    def _place_server(self, target: str) -> None:
        """Like conmon: whatever ends the supervisor's service must not take it along."""
        server = self._services.overlays.server_of(target)
        if server is not None and (cgroup := self._request.placement.monitor):
            cgroups.place(server.pid, cgroup)

    def _own_directories(self, number: int, lower: str) -> tuple[str, str]:
        """For what is written. The upper one is what the container sees of the directory itself."""
        own = f"{self._layout.container_overlays(self._request.id)}/{number}"
        gone = f"{self._layout.trash}/{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            os.rename(own, gone)  # of a run that ended with the machine
            trio.from_thread.run_sync(self._services.discard, gone)
        for path in (upper := f"{own}/upper", work := f"{own}/work"):
            os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.stat(lower)
        os.chmod(upper, stat.S_IMODE(status.st_mode))
        with suppress(OSError):  # of nobody's in a user's namespace: it is the engine's then
            os.chown(upper, *(build.root_of(self._request) or (status.st_uid, status.st_gid)))
        return upper, work

    def _image(self, number: int, each: Mounted, target: str) -> str:
        """The files of an image, at `target`."""
        store, overlays = self._services.store, self._services.overlays
        layer = store.image(each.source).top_layer
        if not layer:
            raise InvalidArgument(
                f"cannot mount '{each.destination}': the image '{each.name}' has no layers", subject=each.name
            )
        os.makedirs(target, mode=0o700, exist_ok=True)
        if overlays.ready(target):
            return target
        lower = store.lower_dirs(layer)
        if each.read_write:
            upper, work = self._own_directories(number, lower[0])
            overlays.mount(target, lower, upper, work)
        else:
            empty = f"{self._layout.container_overlays(self._request.id)}/{number}/empty"
            os.makedirs(empty, mode=0o755, exist_ok=True)
            overlays.mount_readonly(target, [*lower, empty])
        self._place_server(target)
        return target


def _leads_to(name: str, directory: int, target: str) -> bool:
    try:
        return os.readlink(name, dir_fd=directory) == target
    except OSError:
        return False


def _make_point(target: str, is_directory: bool) -> None:
    if is_directory:
        os.makedirs(target, mode=0o700, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def undo(layout: Layout, id: str, overlays: Overlays | None = None) -> None:
    """Give back what `prepare` has mounted, in whatever order it came about. Nothing there: nothing is done.
    StorageFailed."""
    around = layout.container_mounts(id)
    try:
        names = os.listdir(around)
    except (FileNotFoundError, NotADirectoryError):
        return
    # A part of an image is a bind of it: the name of the image's own place is the longer one.
    for name in sorted(names, key=len):
        target = f"{around}/{name}"
        try:
            if overlays is None:
                mounts.unmount(target, lazy=True)
            else:
                overlays.unmount(target)
            _remove_point(target)
        except OSError as error:
            raise files.storage_error(error, "unmount", target) from error
    with suppress(FileNotFoundError):
        os.rmdir(around)


def _remove_point(target: str) -> None:
    """Empty, or there is something mounted still: then it fails."""
    try:
        os.rmdir(target)
    except NotADirectoryError:
        os.unlink(target)
    except FileNotFoundError:
        pass
