"""`build`, by Buildah on this engine's store.

Buildah runs under a guard (`kernel/guard.py`): its streams are the caller's, its processes are its own, and with it,
or with whoever gives it up, all of them end. What Buildah says and how it ends is passed on as it is.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple

import trio

from pyman.errors import InvalidArgument, NotSupported, StorageFailed
from supervisor.images.traces import id_in
from supervisor.images.transports.folder import limiter
from supervisor.kernel import children, guard
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.images.deeds import Deeds
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.state.changes import EventDraft

__all__ = ["Result", "build", "find_buildah"]

PROGRAM = "buildah"
GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL."""
_MARKS = "_CONTAINERS_"
_OWN = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PATH", "LANG", "TMPDIR")
_ID_OPTION = "--iidfile"
_ARGUMENT_LIMIT = 1 << 20


class Result(NamedTuple):
    exit_code: int
    """Buildah's."""
    id: str
    """Of the image; empty: there is none, or Buildah does not say."""


def find_buildah(settings: Settings) -> str:
    """Its path. NotSupported: there is none."""
    path = children.CLEAN_ENVIRONMENT["PATH"]
    places = os.pathsep.join([path, *settings.engine.helper_binaries_dir])
    found = shutil.which(PROGRAM, path=places)
    if found is None:
        raise NotSupported(
            "cannot build an image: Buildah is nowhere to be found",
            subject=PROGRAM,
            hint="install the package buildah",
        )
    return found


async def build(
    settings: Settings,
    layout: Layout,
    arguments: Sequence[str],
    *,
    runtime: str,
    cwd: str,
    environment: Mapping[str, str],
    streams: Sequence[int],
    deeds: Deeds,
    told: EventDraft,
) -> Result:
    """Run `buildah build` with these arguments. `runtime`: path of the OCI runtime; `streams`: stdin, stdout, stderr.
    `told`: the event of it, without the id of the image.

    Cancellation ends it and all that it has started. NotSupported: there is no Buildah. InvalidArgument,
    StorageFailed.
    """
    program = find_buildah(settings)
    directory = cwd or "/"
    if not os.path.isabs(directory):
        raise InvalidArgument(f"cannot build in '{directory}': it is not an absolute path")
    if sum(map(len, arguments)) > _ARGUMENT_LIMIT:
        raise InvalidArgument(f"cannot build: the arguments have more than {_ARGUMENT_LIMIT} characters")
    theirs, rest = _taken_out(arguments, _ID_OPTION)
    async with deeds.deed(told) as deed:
        trace = deeds.new_build()
        await deed.intend(trace)
        await trio.to_thread.run_sync(_make, trace.directory, limiter=limiter)
        argv = [
            program,
            *_store(settings, layout),
            "build",
            *_runtime(arguments, runtime),
            _ID_OPTION,
            trace.id_file,
            *rest,
        ]
        copy = (trace.id_file, theirs) if theirs else ()
        code = await _guarded(argv, directory, _environment(environment), streams, copy)
        id = await trio.to_thread.run_sync(id_in, trace.id_file, limiter=limiter) if code == 0 else ""
        if id:
            deed.made(id)
    return Result(code, id)


def _make(directory: str) -> None:
    try:
        os.makedirs(directory, 0o700)
    except OSError as error:
        raise storage_error(error, "make", directory) from error


def _store(settings: Settings, layout: Layout) -> list[str]:
    options = ["--root", layout.graph_root, "--runroot", layout.run_root, "--storage-driver", "overlay"]
    for option in settings.storage.options:
        options += ["--storage-opt", option]
    return options


def _runtime(arguments: Sequence[str], runtime: str) -> list[str]:
    return ["--runtime", runtime] if runtime and not _value_of(arguments, "--runtime") else []


def _value_of(arguments: Sequence[str], option: str) -> str:
    """What an option is given among the arguments; empty: it is not."""
    for number, argument in enumerate(arguments):
        if argument == "--":
            return ""
        if argument == option:
            return arguments[number + 1] if number + 1 < len(arguments) else ""
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return ""


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the caller has, and what tells Buildah that it is in the user's namespaces already."""
    own = {key: os.environ[key] for key in _OWN if key in os.environ}
    marks = {key: value for key, value in os.environ.items() if key.startswith(_MARKS)}
    theirs = {key: value for key, value in environment.items() if not key.startswith(_MARKS)}
    return {**children.CLEAN_ENVIRONMENT, **own, **theirs, **marks}


def _taken_out(arguments: Sequence[str], option: str) -> tuple[str, list[str]]:
    """What an option is given at last, and the arguments without it."""
    value, rest = "", []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest.append(word)
            break
        if word == option:
            value = next(words, "")
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return value, [*rest, *words]


async def _guarded(
    argv: list[str], cwd: str, env: dict[str, str], streams: Sequence[int], copy: Sequence[str]
) -> int:
    """`copy`: a file, and where it is copied to when the program has ended well."""
    stdin, stdout, stderr = streams
    copies = ["--copy", *copy] if copy else []
    options = [str(os.getpid()), f"{GRACE:g}", *copies]
    guarded = [sys.executable, "-I", "-S", guard.__file__, *options, *argv]
    try:
        child = await children.spawn(guarded, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr)
    except OSError as error:
        if error.filename == cwd:
            raise InvalidArgument(f"cannot build in '{cwd}': {error.strerror}", subject=cwd) from error
        raise StorageFailed(f"cannot start '{argv[0]}': {error.strerror}", subject=argv[0]) from error
    try:
        return await child.wait()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GRACE + 5.0):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                await child.wait()
        await child.kill()
