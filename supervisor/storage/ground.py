"""The directories of a store, and those beside it in which this engine prepares what goes into it.

Into the store and out of it everything goes by rename. The directory `overlay` is mounted on itself whenever a
process of Podman's runs, and a rename does not cross mounts: so it is done in a view of the graph root without them.

What a killed supervisor leaves is known by its intent: a file that is written before a name appears in the store, and
removed when it is used there. Whoever finds it next looks whether it is.

    pyman/store/ENGINE/staging   what is being made
    pyman/store/ENGINE/trash     what is being removed
    pyman/store/ENGINE/intents   a file for each layer or image on its way into the store
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from pyman.errors import StorageFailed
from supervisor.kernel import files, mounts
from supervisor.storage.records import new_id

if TYPE_CHECKING:
    from supervisor.settings.layout import Layout

__all__ = ["Ground"]

_PRIVATE = 0o700
_PASSABLE = 0o711
_SHARED = ("overlay", "overlay-layers", "overlay-images", "overlay-containers")


class Ground:
    """One for an engine. Paths are relative to the graph root, or absolute where that is said."""

    def __init__(self, layout: Layout) -> None:
        self.root = layout.graph_root
        self._own = os.path.relpath(layout.store_own, layout.graph_root)
        self._lock = threading.Lock()
        self._descriptor = -1

    def prepare(self) -> int:
        """Make what is missing, and the descriptor of the graph root. StorageFailed."""
        with self._lock:
            if self._descriptor < 0:
                try:
                    self._make()
                    self._descriptor = self._open()
                except OSError as error:
                    raise files.storage_error(error, "use the image store", self.root) from error
            return self._descriptor

    def _make(self) -> None:
        os.makedirs(self.root, mode=_PASSABLE, exist_ok=True)
        for name in _SHARED:
            with suppress(FileExistsError):
                os.mkdir(f"{self.root}/{name}", _PASSABLE if name == "overlay" else _PRIVATE)
        with suppress(FileExistsError):
            os.mkdir(f"{self.root}/overlay/l", 0o755)
        for name in ("staging", "trash", "intents"):
            os.makedirs(f"{self.root}/{self._own}/{name}", mode=_PRIVATE, exist_ok=True)

    def _open(self) -> int:
        try:
            descriptor = mounts.detached_tree(self.root)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
                raise
            descriptor = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        seen, behind = os.stat(f"{self.root}/overlay"), os.stat("overlay", dir_fd=descriptor)
        if (seen.st_dev, seen.st_ino) != (behind.st_dev, behind.st_ino):
            os.close(descriptor)
            raise StorageFailed(
                f"cannot use the image store '{self.root}': '{self.root}/overlay' is on another file system",
                subject=self.root,
                hint="let all of the graph root be on one file system",
            )
        return descriptor

    def close(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def leave(self) -> None:
        """Take away what is this engine's own here, as far as it is empty."""
        with self._lock:
            for name in ("/staging", "/trash", "/intents", ""):
                with suppress(OSError):
                    os.rmdir(f"{self.root}/{self._own}{name}")

    # -- moving ---------------------------------------------------------------------------------

    def stage(self) -> str:
        """A new empty directory of one's own, as an absolute path. StorageFailed, DiskFull."""
        self.prepare()
        path = f"{self.root}/{self._own}/staging/{new_id()[:32]}"
        try:
            os.mkdir(path, _PRIVATE)
        except OSError as error:
            raise files.storage_error(error, "make", path) from error
        return path

    def move(self, source: str, target: str) -> None:
        """`source` is an absolute path below the graph root. StorageFailed."""
        descriptor = self.prepare()
        try:
            os.rename(
                os.path.relpath(source, self.root), target, src_dir_fd=descriptor, dst_dir_fd=descriptor
            )
        except OSError as error:
            raise files.storage_error(error, "move into the image store", f"{self.root}/{target}") from error

    def discard(self, path: str) -> None:
        """Take something out of the store, or out of staging. Not there: nothing is done. StorageFailed."""
        descriptor = self.prepare()
        source = os.path.relpath(path, self.root) if os.path.isabs(path) else path
        with suppress(OSError):
            os.rmdir(source, dir_fd=descriptor)
            return
        try:
            with suppress(FileNotFoundError):
                os.rename(
                    source, f"{self._own}/trash/{new_id()[:32]}", src_dir_fd=descriptor, dst_dir_fd=descriptor
                )
        except OSError as error:
            raise files.storage_error(error, "remove", f"{self.root}/{source}") from error

    def trash(self) -> list[str]:
        """What waits for its removal, as absolute paths."""
        return self._listed("trash")

    def staged(self) -> list[str]:
        """What is being made, or was left by a supervisor that was killed, as absolute paths."""
        return self._listed("staging")

    def _listed(self, name: str) -> list[str]:
        directory = f"{self.root}/{self._own}/{name}"
        try:
            return [f"{directory}/{entry}" for entry in os.listdir(directory)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise files.storage_error(error, "read", directory) from error

    # -- intents --------------------------------------------------------------------------------

    def intend(self, kind: str, id: str) -> None:
        """Before it appears in the store: a `layer` or an `image`. StorageFailed, DiskFull."""
        path = self._intent(kind, id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            os.close(os.open(path, flags, 0o600))
        except OSError as error:
            raise files.storage_error(error, "write", path) from error

    def done(self, kind: str, id: str) -> None:
        """It is used there, or is not there any more."""
        with suppress(OSError):
            os.unlink(self._intent(kind, id))

    def intents(self) -> list[tuple[str, str]]:
        """What was begun and is not known to have ended: kind and id."""
        found = (os.path.basename(path).partition("-") for path in self._listed("intents"))
        return [(kind, id) for kind, _, id in found]

    def _intent(self, kind: str, id: str) -> str:
        return f"{self.root}/{self._own}/intents/{kind}-{id}"
