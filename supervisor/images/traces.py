"""What shows that an image was sent, saved or built, when nobody remembers whether it was.

A registry is asked for the manifest that the name has, files are looked at where they were to be, and of a build there
is the file with the id of what Buildah has made. Passwords are never part of a trace: a registry that wants one which
is kept nowhere is one that cannot be asked.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from pyman.api.pull import RegistryAccess
from pyman.errors import PymanError, RegistryDenied, RegistryFailed, UnknownInRegistry
from supervisor.images.events import Proof
from supervisor.kernel import files, process
from supervisor.kernel.files import storage_error
from supervisor.logging import log
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.registry.client import Registries
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["Built", "Placed", "Question", "Seen", "Sent", "Stored", "Trace", "Traces", "id_in"]

LOOK = 10.0
"""Seconds that one look may take."""
PAUSES = (2.0, 4.0, 8.0, 16.0)
"""Seconds between the looks, where a registry cannot be asked."""
STORE = 60.0
"""Seconds that other engines may hold the image store."""
ENDING = 30.0
"""Seconds that the programs of a build get to end, which they do on their own when their supervisor has."""
_ID_LIMIT = 200


class Sent(msgspec.Struct, frozen=True, omit_defaults=True, tag="sent"):
    """A registry has a manifest under a name."""

    name: str
    """Full, with the tag or the digest under which it is put."""
    digest: str
    auth_file: str = ""
    cert_dir: str = ""
    tls_verify: bool | None = None

    @property
    def place(self) -> str:
        return f"docker://{self.name}"


class Placed(msgspec.Struct, frozen=True, omit_defaults=True, tag="placed"):
    """A file or a directory has come to its place by rename, by which it stays the same: known by its number, whatever
    there was before."""

    place: str
    """The path that was asked for."""
    path: str
    """Of what appears last there: the place itself, or a file in it."""
    inode: int
    """0: not known yet, and so not there."""
    staged: str = ""
    """Where it is until then, which has to be gone afterwards;"""
    staged_inode: int = 0


class Built(msgspec.Struct, frozen=True, tag="built"):
    """Buildah has written down the id of an image, and the store has that."""

    directory: str
    """Of the build alone, with the id file in it."""

    @property
    def place(self) -> str:
        return self.directory

    @property
    def id_file(self) -> str:
        return f"{self.directory}/id"


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """The store of another graph root has an image."""

    place: str
    """The graph root."""
    proof: Proof


Trace = Sent | Placed | Built | Stored


class Seen(NamedTuple):
    done: bool
    id: str = ""
    """Of the image, where only the trace knows it."""


_NO = Seen(done=False)


class Question:
    """Something that is to be found out."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.looked = trio.Event()
        """At least once."""
        self.hurried = trio.Event()
        """Somebody waits for the answer: one look more, and no pause."""
        self.ended = trio.Event()


class Traces:
    """One for an engine."""

    registries: Registries
    images_in: Callable[[str], list[Image]]
    """Both are set before anything is asked."""

    def __init__(self, store: Store, limiter: trio.CapacityLimiter) -> None:
        self._store = store
        self._limiter = limiter
        """For what may wait for the locks of other engines."""
        self._threads = trio.CapacityLimiter(4)
        """A file system that does not answer holds nobody else up."""

    async def find_out(self, question: Question) -> Seen:
        """Takes a bounded time. What cannot be found out is logged, and was not done."""
        trace = question.trace
        if isinstance(trace, Sent):
            return await self._sent(trace, question)
        if isinstance(trace, Placed):
            return await self._placed(trace, question)
        if isinstance(trace, Stored):
            return await self._stored(trace, question)
        return await self._built(trace, question)

    # -- registries ---------------------------------------------------------------------------------

    async def _sent(self, trace: Sent, question: Question) -> Seen:
        """A registry may still be at what it was sent last: a no is believed the second time."""
        noes, trouble = 0, ""
        for pause in (*PAUSES, 0.0):
            try:
                there, trouble = await self._ask(trace), ""
            except RegistryDenied as error:
                return _unknown(trace, str(error))
            except PymanError as error:
                there, trouble = False, str(error)
            question.looked.set()
            if there:
                return Seen(done=True)
            noes += not trouble
            if noes == 2 or not pause or question.hurried.is_set():
                break
            with trio.move_on_after(pause):
                await question.hurried.wait()
        return _unknown(trace, trouble) if trouble else _NO

    async def _ask(self, trace: Sent) -> bool:
        access = RegistryAccess(
            auth_file=trace.auth_file, cert_dir=trace.cert_dir, tls_verify=trace.tls_verify, retry=0
        )
        wanted = reference.parse(trace.name)
        with trio.move_on_after(LOOK):
            try:
                return (await self.registries.head(wanted, access, push=True)).digest == trace.digest
            except UnknownInRegistry:
                return False
        raise RegistryFailed(f"cannot ask for '{trace.name}': no answer within {LOOK:g} s")

    # -- files --------------------------------------------------------------------------------------

    async def _placed(self, trace: Placed, question: Question) -> Seen:
        there = await self._is_there(trace.path, trace.inode)
        question.looked.set()
        return _unknown(trace, "its file system does not answer") if there is None else Seen(there)

    async def _is_there(self, path: str, inode: int) -> bool | None:
        """None: it does not answer."""
        look = partial(_is, path, inode)
        with trio.move_on_after(LOOK):
            return await trio.to_thread.run_sync(look, limiter=self._threads, abandon_on_cancel=True)
        return None

    async def _stored(self, trace: Stored, question: Question) -> Seen:
        look = partial(self.images_in, trace.place)
        images: list[Image] | None = None
        try:
            with trio.move_on_after(LOOK):
                images = await trio.to_thread.run_sync(look, limiter=self._threads, abandon_on_cancel=True)
        except PymanError as error:
            return _unknown(trace, str(error))
        finally:
            question.looked.set()
        if images is None:
            return _unknown(trace, "its file system does not answer")
        return Seen(trace.proof.shown_by(images))

    # -- builds -------------------------------------------------------------------------------------

    async def _built(self, trace: Built, question: Question) -> Seen:
        """Buildah may still be at it: a no counts when all of it has ended."""
        seen = await self._built_by_now(trace)
        question.looked.set()
        if seen.done:
            return seen
        programs = await trio.to_thread.run_sync(_programs, trace.id_file, limiter=self._threads)
        with ExitStack() as open_ones, trio.move_on_after(ENDING):
            for program in programs:
                open_ones.enter_context(program)
            for program in programs:
                await program.wait()
        return await self._built_by_now(trace)

    async def _built_by_now(self, trace: Built) -> Seen:
        try:
            id = await trio.to_thread.run_sync(id_in, trace.id_file, limiter=self._threads)
            if not id:
                return _NO
            with trio.fail_after(STORE):
                images = await trio.to_thread.run_sync(
                    self._store.images, limiter=self._limiter, abandon_on_cancel=True
                )
        except PymanError as error:
            return _unknown(trace, str(error))
        except trio.TooSlowError:
            return _unknown(trace, "another engine holds the image store")
        return Seen(any(image.id == id for image in images), id)

    # -- what they leave ----------------------------------------------------------------------------

    async def clear(self, trace: Trace) -> None:
        """Remove what there is of it beside what was wanted, once it is known how it ended. StorageFailed."""
        if isinstance(trace, Built):
            await files.remove_tree(trace.directory)
        elif isinstance(trace, Placed) and await self._is_there(trace.staged, trace.staged_inode):
            await files.remove_tree(trace.staged)


def _unknown(trace: Trace, why: str) -> Seen:
    log.warning("cannot find out what became of an image: it is not told", place=trace.place, error=why)
    return _NO


def _is(path: str, inode: int) -> bool:
    try:
        return os.lstat(path).st_ino == inode
    except OSError:
        return False


def _programs(id_file: str) -> list[process.Pidfd]:
    """Those of a build, known by its file among their arguments."""
    found: list[process.Pidfd] = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and id_file in process.words_of(int(name)):
            ref = process.ref_of(int(name))
            pidfd = process.open_pidfd(ref) if ref is not None else None
            if pidfd is not None:
                found.append(pidfd)
    return found


def id_in(path: str) -> str:
    """The id in the file that Buildah has written; empty: there is none, or not all of it. StorageFailed."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(_ID_LIMIT).strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    except OSError as error:
        raise storage_error(error, "read", path) from error
    digits = text.removeprefix("sha256:")
    return digits if len(digits) == 64 and not digits.strip("0123456789abcdef") else ""
