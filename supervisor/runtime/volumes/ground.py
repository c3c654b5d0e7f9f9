"""The directories of volumes, which lie where Podman has its own: `NAME/_data` below the volume path.

Each has a file beside its data that says whose it is. What has none, or another engine's, is never touched: neither
the database of a Podman nor that of another engine can be asked here. A directory comes and goes as a whole, by a
rename from or to a directory of this engine's own beside the others, whose name no volume can have.

    VOLUMES/NAME/_data              what containers see
    VOLUMES/NAME/owner              the engine it belongs to, by the directory of its state
    VOLUMES/.pyman-ENGINE/new-*     what is being made
    VOLUMES/.pyman-ENGINE/gone-*    what is being removed
    VOLUMES/.pyman-ENGINE/copy-*    what an image has for a volume, complete, on its way into it

Everything here blocks.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from pyman.errors import NameInUse
from supervisor.kernel import files, mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.settings.layout import Layout

__all__ = ["Ground"]

_PRIVATE = 0o700
_PASSABLE = 0o711
_DATA = 0o755
_OWNER = "owner"


class Ground:
    """One for an engine."""

    def __init__(self, layout: Layout) -> None:
        self.root = layout.volumes
        self._own = layout.volumes_own
        self._static = layout.static

    def data(self, name: str) -> str:
        """Where the data of a volume of that name is, or would be."""
        return f"{self.root}/{name}/_data"

    # -- coming and going -----------------------------------------------------------------------

    def refuse_taken(self, name: str) -> None:
        """NameInUse: there is something in the place of such a volume."""
        path = f"{self.root}/{name}"
        if os.path.lexists(path):
            raise NameInUse(
                f"cannot make volume '{name}': '{path}' is there, and not this engine's",
                subject=name,
                hint="a Podman or another engine that uses the same volume path has it: choose another name",
            )

    def make(self, name: str, uid: int, gid: int) -> None:
        """The directories of a volume; all of it, or nothing. NameInUse, StorageFailed, DiskFull."""
        staged = self.stage("new")
        try:
            os.chmod(staged, _PASSABLE)
            data = f"{staged}/_data"
            os.mkdir(data)
            os.chmod(data, _DATA)
            if (uid, gid) != (os.geteuid(), os.getegid()):
                os.chown(data, uid, gid)
            with open(f"{staged}/{_OWNER}", "x", encoding="utf-8", errors="surrogateescape") as file:
                file.write(self._static)
            files.rename_new(staged, f"{self.root}/{name}")
        except FileExistsError:
            _discard(staged)
            self.refuse_taken(name)
            raise
        except OSError as error:
            _discard(staged)
            raise files.storage_error(error, "make volume", name) from error
        except BaseException:
            _discard(staged)
            raise

    def take_away(self, name: str) -> str:
        """Out of its place; where it waits now to be deleted, or an empty string: it was not there, or is not this
        engine's. StorageFailed."""
        if not self.is_own(name):
            return ""
        path = f"{self.root}/{name}"
        try:
            for mounted in mounts.mounts_below(path):
                mounts.unmount(mounted, lazy=True)
            target = self._new_path("gone")
            os.rename(path, target)
            with suppress(FileNotFoundError):
                os.rename(self.copied(name), self._new_path("gone"))
        except OSError as error:
            raise files.storage_error(error, "remove volume", name) from error
        return target

    def is_own(self, name: str) -> bool:
        """There is a directory of a volume of that name, and it is this engine's."""
        path = f"{self.root}/{name}/{_OWNER}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
                return file.read(1 << 13) == self._static
        except OSError:
            return False

    def own(self) -> Iterator[str]:
        """The names of all that are this engine's."""
        with suppress(FileNotFoundError):
            yield from (name for name in sorted(os.listdir(self.root)) if self.is_own(name))

    # -- what is under way ----------------------------------------------------------------------

    def stage(self, kind: str) -> str:
        """A new empty directory on the same file system. StorageFailed, DiskFull."""
        path = self._new_path(kind)
        try:
            self._prepare()
            os.mkdir(path, _PRIVATE)
        except OSError as error:
            raise files.storage_error(error, "make", path) from error
        return path

    def copied(self, name: str) -> str:
        """A directory whose contents belong into the volume, if it is there."""
        return f"{self._own}/copy-{name}"

    def drop(self, path: str) -> None:
        """Have one of these deleted: at once if it is empty, else it waits in the trash. StorageFailed."""
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            pass
        try:
            os.rename(path, self._new_path("gone"))
        except OSError as error:
            raise files.storage_error(error, "remove", path) from error

    def left(self, known: frozenset[str]) -> list[str]:
        """What a supervisor that was killed has left, to be deleted: absolute paths. `known`: the volumes there are."""
        found = []
        for name in self._entries():
            kind, _, rest = name.partition("-")
            if kind in ("new", "gone") or (kind == "copy" and rest not in known):
                found.append(f"{self._own}/{name}")
        return found

    def trash(self) -> list[str]:
        """What waits to be deleted, as absolute paths."""
        return [f"{self._own}/{name}" for name in self._entries() if name.startswith("gone-")]

    def tidy(self) -> None:
        """Take this engine's own directory away if nothing is in it."""
        with suppress(OSError):
            os.rmdir(self._own)

    def _entries(self) -> list[str]:
        try:
            return os.listdir(self._own)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise files.storage_error(error, "read", self._own) from error

    def _new_path(self, kind: str) -> str:
        return f"{self._own}/{kind}-{secrets.token_hex(16)}"

    def _prepare(self) -> None:
        os.makedirs(self.root, mode=_PASSABLE, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self._own, _PRIVATE)


def _discard(staged: str) -> None:
    with suppress(OSError):
        shutil.rmtree(staged)
