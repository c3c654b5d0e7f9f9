"""`build`, by Buildah on this engine's store.

Buildah runs under a guard (`kernel/guard.py`): its streams are the caller's, its processes are its own, and with it,
or with whoever gives it up, all of them end. What Buildah says and how it ends is passed on as it is.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument, NotSupported, StorageFailed
from supervisor.images.folder import limiter
from supervisor.kernel import children, guard
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings

__all__ = ["Built", "build", "find_buildah"]

PROGRAM = "buildah"
GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL."""
_MARKS = "_CONTAINERS_"
_OWN = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PATH", "LANG", "TMPDIR")
_ID_OPTION = "--iidfile"
_ARGUMENT_LIMIT = 1 << 20


class Built:
    """`exit_code`: Buildah's. `id`: of the image; empty: there is none, or Buildah does not say."""

    def __init__(self, exit_code: int, id: str) -> None:
        self.exit_code = exit_code
        self.id = id


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
) -> Built:
    """Run `buildah build` with these arguments. `runtime`: path of the OCI runtime; `streams`: stdin, stdout, stderr.

    Cancellation ends it and all that it has started. NotSupported: there is no Buildah. InvalidArgument,
    StorageFailed.
    """
    program = find_buildah(settings)
    directory = cwd or "/"
    if not os.path.isabs(directory):
        raise InvalidArgument(f"cannot build in '{directory}': it is not an absolute path")
    if sum(map(len, arguments)) > _ARGUMENT_LIMIT:
        raise InvalidArgument(f"cannot build: the arguments have more than {_ARGUMENT_LIMIT} characters")
    told = _value_of(arguments, _ID_OPTION)
    with tempfile.TemporaryDirectory(prefix="build-", dir=layout.tmp) as own:
        id_file = os.path.join(directory, told) if told else f"{own}/id"
        options = [] if told else [_ID_OPTION, id_file]
        argv = [
            program,
            *_store(settings, layout),
            "build",
            *_runtime(arguments, runtime),
            *options,
            *arguments,
        ]
        code = await _guarded(argv, directory, _environment(environment), streams)
        id = await trio.to_thread.run_sync(_read_id, id_file, limiter=limiter) if code == 0 else ""
    return Built(code, id)


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


async def _guarded(argv: list[str], cwd: str, env: dict[str, str], streams: Sequence[int]) -> int:
    stdin, stdout, stderr = streams
    guarded = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), f"{GRACE:g}", *argv]
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


def _read_id(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(200).strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, OSError) else OSError(0, "it is no text")
        raise storage_error(reason, "read", path) from error
    digits = text.removeprefix("sha256:")
    return digits if len(digits) == 64 and not digits.strip("0123456789abcdef") else ""
