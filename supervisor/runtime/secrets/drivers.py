"""Where what is in secrets is kept: in a file, encrypted by GnuPG, or by commands of the user's.

A driver knows data by the ids of secrets, and is told everything else by options that are recorded with each secret.
Programs get data through pipes only; what they say about it is never repeated, but for GnuPG's messages, which have
none of it.
"""

from __future__ import annotations

import os
import re
import shutil
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import trio

from pyman.errors import InvalidArgument, NoSuchSecret, NotSupported, StorageFailed
from supervisor.kernel import children, files
from supervisor.runtime.locking import held
from supervisor.runtime.secrets import file
from supervisor.runtime.secrets.records import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from pyman.errors import PymanError
    from supervisor.kernel.children import Completed

__all__ = ["DRIVERS", "Driver", "InFile", "Surroundings", "completed_options", "driver_of"]

T = TypeVar("T")
_ID = re.compile(r"[0-9A-Za-z]+")
_MOST = 256 << 20
"""Bytes of the file driver's file."""
_PASS_OPTIONS = ("gpghomedir", "key", "root")
_SHELL_OPTIONS = ("delete", "list", "lookup", "store")
DRIVERS: Mapping[str, tuple[str, ...]] = {
    "file": ("path",),
    "pass": _PASS_OPTIONS,
    "shell": _SHELL_OPTIONS,
}
"""Their options."""
_PATHS = ("gpghomedir", "path", "root")
_STORES = (".password-store", ".local/share/gopass/stores/root")


class Surroundings(msgspec.Struct, frozen=True):
    """What drivers need of the engine."""

    environment: dict[str, str]
    """Of the programs."""
    home: str
    deadline: float
    """Seconds for one program, or for one lock."""
    disk: trio.CapacityLimiter
    patient: trio.CapacityLimiter
    """Threads that may wait for locks."""


class Driver(Protocol):
    async def lookup(self, id: str) -> bytes:
        """NoSuchSecret: it has nothing of that id. StorageFailed, NotSupported, DeadlineExceeded, as the others."""

    async def store(self, id: str, data: bytes) -> None: ...

    async def delete(self, id: str) -> None:
        """It is not there: nothing is done, as far as that can be told."""


def completed_options(driver: str, options: Mapping[str, str], default_path: str) -> dict[str, str]:
    """Of a secret that is to be made. InvalidArgument: the driver does not know one, or needs one."""
    if driver not in DRIVERS:
        raise InvalidArgument(
            f"cannot use the driver '{driver}' for secrets", hint=f"known are {', '.join(DRIVERS)}"
        )
    for key in options:
        if key not in DRIVERS[driver]:
            raise InvalidArgument(
                f"cannot use the option '{key}' of the driver {driver}",
                subject=key,
                hint=f"it knows {', '.join(DRIVERS[driver])}",
            )
    for key in _PATHS:
        if not options.get(key, "/").startswith("/"):
            raise InvalidArgument(
                f"cannot use the option '{key}' of the driver {driver}: '{options[key]}' is not an absolute path"
            )
    missing = [key for key in _SHELL_OPTIONS if not options.get(key)] if driver == "shell" else []
    if missing:
        raise InvalidArgument(
            f"cannot use the driver shell without the option '{missing[0]}'",
            hint=f"it needs the commands {', '.join(_SHELL_OPTIONS)}",
        )
    if options.get("key", "").startswith("-"):
        raise InvalidArgument(f"cannot use the key '{options['key']}': it looks like an option")
    return {"path": default_path, **options} if driver == "file" else dict(options)


def driver_of(name: str, options: Mapping[str, str], around: Surroundings) -> Driver:
    """NotSupported: another engine knows one that is not known here."""
    if name == "file" and options.get("path", "").startswith("/"):
        return InFile(options["path"], around)
    if name == "pass":
        return _Pass(options, around)
    if name == "shell":
        return _Shell(options, around)
    raise NotSupported(f"cannot use the driver '{name}' for secrets, or not with its options", subject=name)


def _missing(id: str) -> NoSuchSecret:
    return NoSuchSecret(f"cannot find what is in secret '{id}': its driver does not have it", subject=id)


def _checked(id: str) -> str:
    """Programs make paths of it."""
    if not _ID.fullmatch(id):
        raise StorageFailed(f"cannot use a secret with the id '{id}'", subject=id)
    return id


def _too_large(id: str) -> StorageFailed:
    return StorageFailed(f"cannot use secret '{id}': its driver gives more than {LIMIT} bytes", subject=id)


class InFile:
    """`secretsdata.json`, as Podman has it: everything in one file, which only its owner may read."""

    def __init__(self, directory: str, around: Surroundings) -> None:
        self._directory = directory
        self._path = f"{directory}/secretsdata.json"
        self._lock = f"{directory}/secretsdata.lock"
        self._around = around

    async def lookup(self, id: str) -> bytes:
        if not await self._in_thread(partial(os.path.lexists, self._path)):
            raise _missing(id)
        async with self._held(shared=True):
            data = await self._in_thread(partial(self._read, id))
        if data is None:
            raise _missing(id)
        return data

    async def store(self, id: str, data: bytes) -> None:
        await self._in_thread(partial(_make_directory, self._directory))
        async with self._held():
            await self._in_thread(partial(self._change, id, data))

    async def ids(self) -> set[str]:
        """Of all that it has."""
        if not await self._in_thread(partial(os.path.lexists, self._path)):
            return set()
        async with self._held(shared=True):
            return set(await self._in_thread(self._content))

    async def delete(self, id: str) -> None:
        if not await self._in_thread(partial(os.path.lexists, self._path)):
            return
        async with self._held():
            await self._in_thread(partial(self._change, id, None))

    def _held(self, *, shared: bool = False) -> AbstractAsyncContextManager[None]:
        around = self._around
        return held(self._lock, around.patient, around.deadline, what="the secrets", shared=shared)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._around.disk)

    def _content(self) -> dict[str, msgspec.Raw]:
        content = file.read_bounded(self._path, _MOST)
        try:
            return msgspec.json.decode(content, type=dict[str, msgspec.Raw]) if content else {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise file.damaged(self._path) from None

    def _read(self, id: str) -> bytes | None:
        raw = self._content().get(id)
        try:
            return None if raw is None else msgspec.json.decode(raw, type=bytes)
        except msgspec.DecodeError:
            raise file.damaged(self._path) from None

    def _change(self, id: str, data: bytes | None) -> None:
        content = self._content()
        if data is None and id not in content:
            return
        if data is None:
            del content[id]
        else:
            content[id] = msgspec.Raw(msgspec.json.encode(data))
        file.replace(self._path, msgspec.json.format(msgspec.json.encode(content), indent=2))


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise files.storage_error(error, "make", path) from error


async def _run(
    argv: Sequence[str],
    around: Surroundings,
    *,
    data: bytes = b"",
    most: int = LIMIT,
    extra: Mapping[str, str] | None = None,
) -> Completed:
    try:
        return await children.run(
            argv,
            deadline=around.deadline,
            input=data,
            env={**around.environment, **(extra or {})},
            max_output=most,
        )
    except OSError as error:
        raise files.storage_error(error, "execute", argv[0]) from error


class _Pass:
    """A file for each secret, encrypted by GnuPG for a key, in a directory as pass(1) has it."""

    def __init__(self, options: Mapping[str, str], around: Surroundings) -> None:
        self._around = around
        self._root = options.get("root", "") or next(
            (path for path in (f"{around.home}/{name}" for name in _STORES) if os.path.isdir(path)), ""
        )
        self._key = options.get("key", "")
        self._home = options.get("gpghomedir", "")

    async def lookup(self, id: str) -> bytes:
        path = self._path(id)
        if not os.path.lexists(path):
            raise _missing(id)
        done = await self._gpg(["--decrypt", "--", path], most=LIMIT)
        if done.returncode:
            raise _gpg_failed("read", id, done)
        if len(done.stdout) >= LIMIT:
            raise _too_large(id)
        return done.stdout

    async def store(self, id: str, data: bytes) -> None:
        path, key = self._path(id), self._key or self._noted_key()
        if not key:
            raise InvalidArgument(
                "cannot use the driver pass: there is no key",
                hint="give the option key, or a file .gpg-id in its root",
            )
        done = await self._gpg(["--recipient", key, "--encrypt"], data=data, most=2 * LIMIT)
        if done.returncode or not done.stdout:
            raise _gpg_failed("write", id, done)
        work = partial(files.write_atomic, path, done.stdout, durable=True)
        await trio.to_thread.run_sync(work, limiter=self._around.disk)

    async def delete(self, id: str) -> None:
        path = self._path(id)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise files.storage_error(error, "remove", path) from error

    def _path(self, id: str) -> str:
        if not self._root.startswith("/"):
            raise InvalidArgument(
                "cannot use the driver pass: there is no password store",
                hint="give the option root, or make one with 'pass init'",
            )
        return f"{self._root}/{_checked(id)}.gpg"

    def _noted_key(self) -> str:
        """In the root or above it."""
        path = self._root
        while len(path) > 1:
            try:
                with open(f"{path}/.gpg-id", encoding="utf-8") as file:
                    key = file.readline(1000).strip()
            except (OSError, UnicodeDecodeError):
                path = os.path.dirname(path)
                continue
            return "" if key.startswith("-") else key
        return ""

    async def _gpg(self, arguments: Sequence[str], *, data: bytes = b"", most: int) -> Completed:
        program = shutil.which("gpg", path=self._around.environment["PATH"])
        if program is None:
            raise NotSupported("cannot use the driver pass: this host has no gpg", hint="install gnupg")
        home = ["--homedir", self._home] if self._home else []
        # Keys are those that are there: none is looked for elsewhere.
        local = ["--auto-key-locate", "local"]
        argv = [program, "--batch", "--no-tty", "--quiet", *local, *home, *arguments]
        return await _run(argv, self._around, data=data, most=most)


def _gpg_failed(verb: str, id: str, done: Completed) -> PymanError:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    said = lines[-1].removeprefix("gpg: ")[:200] if lines else f"it ended with {done.returncode}"
    return StorageFailed(f"cannot {verb} secret '{id}' with gpg: {said}", subject=id)


class _Shell:
    """Commands of the user's: what is in a secret comes and goes on their standard input and output."""

    def __init__(self, options: Mapping[str, str], around: Surroundings) -> None:
        self._options = options
        self._around = around

    async def lookup(self, id: str) -> bytes:
        data = (await self._command("lookup", id)).stdout
        if len(data) >= LIMIT:
            raise _too_large(id)
        return data

    async def store(self, id: str, data: bytes) -> None:
        await self._command("store", id, data)

    async def delete(self, id: str) -> None:
        await self._command("delete", id)

    async def _command(self, name: str, id: str, data: bytes = b"") -> Completed:
        command = self._options.get(name, "")
        if not command:
            raise InvalidArgument(f"cannot use the driver shell: secret '{id}' has no command '{name}'")
        argv = ["/bin/sh", "-c", command]
        done = await _run(argv, self._around, data=data, most=LIMIT, extra={"SECRET_ID": _checked(id)})
        if done.returncode:
            raise StorageFailed(
                f"cannot use secret '{id}': the command '{name}' of its driver ended with {done.returncode}",
                subject=id,
            )
        return done
