"""Copy-on-write views of directories: by the kernel's overlay, or by fuse-overlayfs where that refuses.

Which of the two is found out once for an engine, when it first matters: the kernel is asked for an overlay whose
upper directory is where those of containers are, without a place in the tree, and whether it can do there what
containers do. storage.conf's `mount_program` is asked nothing. What an ordinary user's engine mounts lies in the
user's mount namespace, and its marks are in `user.` attributes.

Everything here but `Overlays.version` blocks: it is called in a thread of the event loop's.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import trio

from pyman.errors import InternalError, OverlayUnavailable, StorageFailed
from supervisor.kernel import files, mounts
from supervisor.logging import log
from supervisor.settings.overlay import BOTH, FUSE_ALONE, KERNEL_ALONE, overlay_options
from supervisor.storage import fuse

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from supervisor.kernel.idmaps import IdRange
    from supervisor.kernel.process import ProcessRef
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings

__all__ = ["LayerForm", "Overlays", "Way"]

_REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EINVAL,
        errno.EIO,
        errno.ENODEV,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EXDEV,
    }
)
"""What the kernel says that will not do it tomorrow either."""
_NOT_FOR_USERS = frozenset({"metacopy", "nfs_export", "redirect_dir", "verity"})
"""Options of the kernel's that do not go with marks in `user.` attributes."""
_SERVER_PATIENCE = 2.0
"""Seconds for a server to end whose mount is gone: until the last process of the container has ended, and no
longer."""
_VERSION_PATIENCE = 1.0
"""Seconds for a program to say its version, for which `info` waits."""


class Way(msgspec.Struct, frozen=True):
    """How overlays are mounted: by the kernel, or by a program."""

    program: str = ""
    """Empty: the kernel does it."""
    refusal: str = ""
    """Why the kernel does not, where nobody has asked for the program."""

    @property
    def native(self) -> bool:
        return not self.program


class LayerForm(NamedTuple):
    """How the files of a layer are made, so that whatever mounts it here finds in them what the archive says."""

    whiteouts: Literal["overlay", "none"]
    """The kernel's, or the archive's own `.wh.` files, which fuse-overlayfs reads."""
    user_xattrs: bool
    """Marks are attributes that a user may set."""
    ignore_chown_errors: bool


class Overlays:
    """One for an engine. `mount` and `unmount` may be called in several threads at once."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self._options = overlay_options(settings.storage.options)
        self._deadline = settings.pyman.call_deadline
        self._rootless = settings.rootless
        self._layout = layout
        self._lock = threading.Lock()
        self._refusal: str | None = None
        """Why the kernel refuses; empty: it does not; None: it was not asked yet."""
        self._told = False
        self._versions: dict[str, str] = {}
        self._servers: dict[str, ProcessRef] = {}
        """By mount point; also those that an earlier supervisor has left."""

    # -- the decision ---------------------------------------------------------------------------

    def way(self) -> Way:
        """Found out once. Raises OverlayUnavailable, and what is missing is looked for anew the next time."""
        with self._lock:
            configured = self._options.mount_program
            if not configured and self._refusal is None:
                self._refusal = self._ask_kernel()
            if not configured and not self._refusal:
                return self._decided(Way())
            program = configured or fuse.find()
            refusal = self._refusal or ""
            said = f"the kernel refuses overlays on '{self._layout.static}' ({refusal})" if refusal else ""
            if not program:
                raise OverlayUnavailable(
                    f"cannot make a copy-on-write view: {said}, and {fuse.PROGRAM} is not installed",
                    subject=self._layout.static,
                    hint=f"install {fuse.PROGRAM}, or keep the storage on a file system that takes overlays",
                )
            if problem := fuse.unusable(program):
                raise OverlayUnavailable(
                    f"cannot make a copy-on-write view: {f'{said}, and ' if said else ''}{problem}",
                    subject=program,
                    hint="see 'mount_program' in storage.conf" if configured else f"see {fuse.DEVICE}",
                )
            return self._decided(Way(program, refusal))

    def layer_form(self) -> LayerForm:
        """Where neither mounts, the kernel's: it may some day."""
        try:
            native = self.way().native
        except OverlayUnavailable:
            native = True
        return LayerForm(
            whiteouts="overlay" if native else "none",
            user_xattrs=self._rootless,
            ignore_chown_errors=self._options.ignore_chown_errors,
        )

    def _decided(self, way: Way) -> Way:
        if self._told:
            return way
        self._told = True
        if way.refusal:
            log.warning("the kernel refuses overlays here", using=way.program, reason=way.refusal)
        others = (
            KERNEL_ALONE if way.program else FUSE_ALONE | (_NOT_FOR_USERS if self._rootless else frozenset())
        )
        for word in self._options.mountopt:
            if _name(word) in others:
                log.warning(
                    "an option has no effect here", mountopt=word, mounted_by=way.program or "the kernel"
                )
        return way

    def _ask_kernel(self) -> str:
        """Why it refuses, or an empty string. What is made for it lies beside what containers have."""
        place = f"{self._layout.static}/probe"
        lower, upper, work = (f"{place}/{name}" for name in ("lower", "upper", "work"))
        shutil.rmtree(place, ignore_errors=True)  # of one that was killed at it
        try:
            for path in (f"{lower}/directory/inside", upper, work):
                os.makedirs(path, mode=0o700)
            return _refusal_of(partial(self._try, lower, upper, work))
        except OSError as error:
            raise files.storage_error(error, "try an overlay in", place) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _try(self, lower: str, upper: str, work: str) -> None:
        descriptor = mounts.detached_overlay(lower, upper, work, self._marks())
        try:
            # Both need a mark in the upper directory: a white-out, and a directory that hides the one below.
            os.rmdir("directory/inside", dir_fd=descriptor)
            os.rmdir("directory", dir_fd=descriptor)
            os.mkdir("directory", 0o700, dir_fd=descriptor)
        finally:
            os.close(descriptor)

    def _marks(self) -> list[str]:
        return ["userxattr"] if self._rootless else []

    # -- mounting -------------------------------------------------------------------------------

    def ready(self, target: str) -> bool:
        """Whether something is mounted there already and works. What has lost its server is unmounted. OSError."""
        if not mounts.mounted(target):
            return False
        if not mounts.is_dead(target):
            return True
        log.warning("what is mounted has no server any more: mounting anew", target=target)
        self.unmount(target)
        return False

    def mount(
        self,
        target: str,
        lower: Sequence[str],
        upper: str,
        work: str,
        *,
        uids: Sequence[IdRange] = (),
        gids: Sequence[IdRange] = (),
    ) -> None:
        """A view of `lower` (topmost first) at `target`, with what is written in `upper`.

        `uids`, `gids`: the maps of a container that is to see the owners that files have on the disk. fuse-overlayfs
        does that; for the kernel the lower directories are id-mapped mounts, which is the caller's to see to.
        Raises OSError (the kernel refuses this view), StorageFailed, DiskFull and OverlayUnavailable.
        """
        way = self.way()
        program = way.program
        if way.native and (uids or gids):
            program = self.mapper()
            if not program:
                raise InternalError(f"cannot mount '{target}': the kernel's overlay takes no maps of ids")
        if program:
            self._mount_fuse(program, target, lower, upper, work, uids, gids)
        else:
            self._mount_native(target, lower, upper, work)

    def mapper(self) -> str:
        """The program that shows files with other ids where mounts cannot; an empty string: there is none."""
        program = self._options.mount_program or fuse.find()
        return program if program and not fuse.unusable(program) else ""

    def mount_readonly(self, target: str, lower: Sequence[str]) -> None:
        """A view of two directories or more (topmost first) that nobody writes to. As `mount`."""
        way = self.way()
        if way.native:
            self._mount_native(target, lower, "", "")
        else:
            self._mount_fuse(way.program, target, lower, "", "", (), ())

    def _mount_native(self, target: str, lower: Sequence[str], upper: str, work: str) -> None:
        excluded = _NOT_FOR_USERS if self._rootless else frozenset()
        words = [*self._marks(), *self._chosen(KERNEL_ALONE - excluded)]
        try:
            mounts.overlay(target, lower, upper, work, ",".join(words), self._chosen(BOTH))
        except OSError as error:
            if error.errno == errno.EINVAL and self._rootless:
                for path in lower:
                    _refuse_mounts_below(path)
            raise

    def _mount_fuse(
        self,
        program: str,
        target: str,
        lower: Sequence[str],
        upper: str,
        work: str,
        uids: Sequence[IdRange],
        gids: Sequence[IdRange],
    ) -> None:
        place = os.path.realpath(target)
        for path in lower:
            # It would ask itself, and wait for its own answer for ever.
            if os.path.commonpath([os.path.realpath(path), place]) == os.path.realpath(path):
                raise StorageFailed(
                    f"cannot mount a view of '{path}' with '{program}': its mount point lies in it",
                    subject=path,
                    hint="give a directory without the run directory in it",
                )
        if work:
            # Where there is no room for it, the program says something else.
            os.makedirs(f"{work}/work", mode=0o700, exist_ok=True)
        options = self._chosen(BOTH | FUSE_ALONE)
        if self._options.force_mask and "xattr_permissions" not in map(_name, options):
            options.append("xattr_permissions=2")
        call = partial(
            fuse.mount,
            program,
            target,
            lower,
            upper,
            work,
            options=options,
            uids=uids,
            gids=gids,
            deadline=self._deadline,
        )
        trio.from_thread.run(call)
        server = fuse.server_of(target)
        if server is not None:
            self._servers[target] = server

    def _chosen(self, known: Collection[str]) -> list[str]:
        return [word for word in self._options.mountopt if _name(word) in known]

    # -- servers --------------------------------------------------------------------------------

    def unmount(self, target: str) -> None:
        """Undo `mount`, and have its server ended, if there is one. Nothing is mounted there: nothing is done.
        OSError."""
        server = self._servers.pop(target, None)
        mounts.unmount(target, lazy=True)
        if server is None:
            return
        fuse.end(server, _SERVER_PATIENCE)
        if mounts.mounted(target):
            # It was mounting still, for a supervisor that was killed meanwhile.
            server = fuse.server_of(target)
            mounts.unmount(target, lazy=True)
            if server is not None:
                fuse.end(server, _SERVER_PATIENCE)

    def server_of(self, target: str) -> ProcessRef | None:
        """The process that serves what is mounted there; None: the kernel does."""
        return self._servers.get(target)

    def adopt(self, servers: dict[str, ProcessRef]) -> None:
        """What an earlier supervisor has left, before anything is mounted."""
        self._servers.update(servers)

    # -- telling --------------------------------------------------------------------------------

    async def version(self, program: str) -> str:
        """What the program says of itself; asked once."""
        if program not in self._versions:
            self._versions[program] = await fuse.version(program, _VERSION_PATIENCE)
        return self._versions[program]


def _name(word: str) -> str:
    return word.partition("=")[0]


def _refusal_of(attempt: partial[None]) -> str:
    try:
        attempt()
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return (error.strerror or str(error)).lower()
    return ""


def _refuse_mounts_below(path: str) -> None:
    """What is mounted in it was there before the user's namespace: the kernel does not let the user look behind."""
    top = os.path.realpath(path)
    for point in mounts.mounts_below(top):
        if point != top:
            raise StorageFailed(
                f"cannot mount a view of '{path}': '{point}' is mounted in it, which a user may not look behind",
                subject=path,
                hint="give a directory in which nothing is mounted",
            )
