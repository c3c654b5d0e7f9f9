"""Beginning a helper program, and what is left of one: its log, its mark, its cgroup.

A program waits at its gate (`kernel/gated.py`) in a session of its own, with no descriptor but those that it was given.
What it prints goes to a file in the run directory, whose length is limited.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed
from supervisor.kernel import cgroups, files, gated, marked, process
from supervisor.kernel.begun import CLEAN_ENVIRONMENT
from supervisor.kernel.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.kernel.gated import Gated
    from supervisor.kernel.process import Pidfd, ProcessRef
    from supervisor.runtime.networks.programs.helper_program import Helper, Program
    from supervisor.runtime.services import Reaped
    from supervisor.settings.layout import Layout

__all__ = [
    "cgroup_of",
    "clear",
    "end_all",
    "ended",
    "failed",
    "kill_all",
    "last_words",
    "launched",
    "ready",
    "status_of",
]

_MARK, _ENGINE = "PYMAN_HELPER", "PYMAN_HELPER_OF"
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_SUFFIX = ".log"
_SAID = 1 << 14
"""Bytes at the end of what it printed that are looked at for its last words: an explanation of pasta's options fits in."""
_NOISE = ("failed to connect to syslog", "Failed to send ")
"""How lines begin that programs print where nobody listens to their log."""
_WARNING = "WARNING: Support for "
"""What slirp4netns says whatever becomes of it, also behind a reason that has no end of line."""
_USAGE = "usage:"
"""Explains the options, after what is wrong with those that were given."""


async def launched(layout: Layout, helper: Helper, program: Program, ours: ExitStack) -> tuple[Gated, int]:
    """At its gate, and where it will say that it is ready; -1: nowhere. Both are the stack's. NetworkFailed, StorageFailed,
    DiskFull."""
    path, readable = _log(layout, helper.key), -1
    argv, passed = list(program.argv), list(program.descriptors)
    with ExitStack() as theirs:
        try:
            if program.pid_file:
                with suppress(FileNotFoundError):
                    os.unlink(program.pid_file)  # an earlier one's
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            output = os.open(path, _LOG_FLAGS, 0o600)
        except OSError as error:
            raise files.storage_error(error, "open", path) from error
        theirs.callback(os.close, output)
        if program.ready:
            readable, writable = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, readable)
            theirs.callback(os.close, writable)
            argv[1:1] = [program.ready, str(writable)]
            passed.append(writable)
        environment = {
            **CLEAN_ENVIRONMENT,
            **program.environment,
            _MARK: _mark(layout, helper.key),
            _ENGINE: _mark(layout),
        }
        try:
            waiting = await gated.launch(
                argv,
                output=output,
                env=environment,
                cwd=program.cwd,
                pass_fds=passed,
                network=program.network,
            )
        except OSError as error:
            raise NetworkFailed(f"cannot start '{argv[0]}': {error.strerror}", subject=argv[0]) from error
    return ours.enter_context(waiting), readable


async def ready(
    layout: Layout, helper: Helper, program: Program, first: ProcessRef, readable: int, reaped: Reaped
) -> ProcessRef:
    """Wait until one that was let go is; the process that it is by then. NetworkFailed: it has ended instead."""
    if not program.ready and not program.pid_file:
        return first
    pidfd = process.open_pidfd(first)
    if pidfd is None:
        status = reaped.status_of(first)
    else:
        with pidfd:
            if program.ready:
                with Readiness() as either:
                    either.add(pidfd.fd)
                    either.add(readable)
                    await either.wait()
                os.set_blocking(readable, False)
                with suppress(BlockingIOError):
                    if os.read(readable, 1):
                        return first
            await pidfd.wait()
            status = status_of(pidfd, reaped)
    if program.pid_file and status == 0:
        ref = process.ref_of_file(program.pid_file)
        if ref is not None:
            return ref
    raise failed(layout, helper, status)


def status_of(pidfd: Pidfd, reaped: Reaped) -> int | None:
    """The wait status of one that has ended, if anybody knows it."""
    status = pidfd.exit_status()
    return reaped.status_of(pidfd.ref) if status is None else status


def failed(layout: Layout, helper: Helper, status: int | None) -> NetworkFailed:
    """The error that one that has ended instead of becoming ready is, with what it said last. `status`: its wait status;
    None: nobody knows it. Blocks."""
    hint = _hint(helper.device) if helper.device else ""
    message = f"cannot start {helper.name}: {ended(layout, helper, status)}"
    return NetworkFailed(message, subject=helper.name, hint=hint)


def _hint(device: str) -> str:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return f"it needs {device}, which cannot be opened here ({reason})"
    return ""


def ended(layout: Layout, helper: Helper, status: int | None) -> str:
    """How, and what it said last."""
    if status is not None and os.WIFSIGNALED(status):
        return f"it was killed by signal {os.WTERMSIG(status)}"
    how = "it has ended" if status is None else f"it ended with exit status {os.WEXITSTATUS(status)}"
    words = last_words(layout, helper.key)
    return f"{how}: {words}" if words else how


def last_words(layout: Layout, key: str) -> str:
    """What one has printed last that tells something; empty: nothing. Blocks."""
    try:
        with open(_log(layout, key), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _SAID))
            lines = file.read(_SAID).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = [line.partition(_WARNING)[0].strip() for line in lines]
    usage = next((at for at, line in enumerate(said) if at and line.lower().startswith(_USAGE)), len(said))
    return next((line for line in reversed(said[:usage]) if line and not line.startswith(_NOISE)), "")


def _log(layout: Layout, key: str) -> str:
    return f"{layout.helpers}/{key}{_SUFFIX}"


def _mark(layout: Layout, key: str = "") -> str:
    return hashlib.sha256(os.fsencode(f"{layout.static}\0{key}")).hexdigest()


def cgroup_of(layout: Layout, key: str) -> str:
    """A helper's own, as `kernel/cgroups.py` names them; no other engine's helper has it."""
    return f"/pyman/helper-{_mark(layout, key)}"


def clear(layout: Layout, key: str) -> bool:
    """Nothing of one that has ended is left, nor of what it has started. Blocks."""
    with suppress(FileNotFoundError):
        os.unlink(_log(layout, key))
    return _empty(cgroup_of(layout, key))


def _empty(cgroup: str) -> bool:
    if cgroups.remove(cgroup):
        return True
    for pid in cgroups.pids(cgroup):
        ref = process.ref_of(pid)
        if ref is not None and pid in cgroups.pids(cgroup):
            process.kill(ref)
    return cgroups.remove(cgroup)


def kill_all(layout: Layout, key: str, known: Iterable[ProcessRef]) -> bool:
    """One of which nobody knows how far it has come. Blocks. False: it, or something of it, is left."""
    return marked.kill_all([f"{_MARK}={_mark(layout, key)}"], known)


def end_all(layout: Layout) -> bool:
    """Every helper of an engine without a supervisor, whatever is recorded of it. Blocks. False: some are left."""
    gone = marked.kill_all([f"{_ENGINE}={_mark(layout)}"])
    with suppress(FileNotFoundError):
        for name in os.listdir(layout.helpers):
            clear(layout, name.removesuffix(_SUFFIX))
    return gone
