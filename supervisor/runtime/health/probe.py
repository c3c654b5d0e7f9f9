"""Running a check once: a further process in the container, by the OCI runtime and without a conmon.

The file that describes the process is there for as long as it runs. A supervisor that comes after a `kill -9` finds by
it what is still under way, and ends that; nothing else of the container is touched.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import DeadlineExceeded
from supervisor.kernel import children, files, marked
from supervisor.logging import log
from supervisor.oci import build
from supervisor.runtime.health.state import Answered
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.specs import build_exec, build_request, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services
    from supervisor.settings.layout import Layout

__all__ = ["clear", "probe"]

MARK = "PYMAN_HEALTHCHECK"
"""The variable by which the processes of a check are found."""
_BEGIN, _END = "health-", ".json"


async def probe(
    services: Services,
    container: Container,
    command: list[str],
    timeout: float,
    most: int,
    on_start: Callable[[], None],
) -> Answered:
    """What came of it. `timeout`: seconds, after which everything that the check has begun is ended; `most`: bytes of
    its output that are kept. PymanError: it could not be tried."""
    mark = secrets.token_hex(8)
    path = f"{services.layout.container_run(container.id)}/{_BEGIN}{mark}{_END}"
    root = root_of(services, container.definition)
    runtime = services.runtimes.pick(container.definition.runtime)
    wish = build.ExecBuildRequest(
        container=build_request(services, container.definition, root), command=command, env={MARK: mark}
    )
    begun: list[ProcessRef] = []
    start = time.time_ns()
    described = await look_into(root, partial(build_exec, wish), services.settings.pyman.call_deadline)
    argv = [runtime.path, *runtime.arguments, "exec", "--process", path, container.id]
    over = False
    try:
        # Waited for to its end, whatever happens: nothing appears in a directory that is being removed.
        await trio.to_thread.run_sync(partial(_write, path, described), limiter=services.disk)
        on_start()
        with _nothing() as stdin:
            done = await children.run(
                argv,
                deadline=timeout,
                env=runtime.environ,
                stdin=stdin,
                max_output=most,
                on_kill=lambda pid: begun.extend(marked.below(pid)),
            )
        over = True
    except DeadlineExceeded:
        text = f"the check took longer than {timeout:g} s"
        return Answered(start, time.time_ns(), -1, text[:most])
    except OSError as error:
        raise files.storage_error(error, "execute", runtime.path) from error
    finally:
        with trio.CancelScope(shield=True):
            end = partial(_forget, path) if over else partial(_end, path, [mark], begun, container.id)
            await trio.to_thread.run_sync(end, limiter=services.disk)
    output = (done.stdout + done.stderr)[:most].decode(errors="replace")
    return Answered(start, time.time_ns(), 0 if done.returncode == 0 else 1, output)


@contextmanager
def _nothing() -> Iterator[int]:
    """A standard input at its end: the host's /dev/null would be the check's user's, with crun."""
    ours, end = os.pipe2(os.O_CLOEXEC)
    os.close(end)
    try:
        yield ours
    finally:
        os.close(ours)


def _write(path: str, described: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(described)
    except OSError as error:
        raise files.storage_error(error, "write", path) from error


def _forget(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _end(path: str, marks: list[str], begun: list[ProcessRef], id: str) -> None:
    if not marked.kill_all([f"{MARK}={mark}" for mark in marks], begun):
        log.warning("cannot end a health check yet", container=id)
    _forget(path)


async def clear(services: Services, id: str) -> None:
    """End the checks of a container that an earlier supervisor had begun."""
    await trio.to_thread.run_sync(partial(_clear, services.layout, id), limiter=services.disk)


def _clear(layout: Layout, id: str) -> None:
    run = layout.container_run(id)
    with suppress(FileNotFoundError):
        for name in os.listdir(run):
            if name.startswith(_BEGIN) and name.endswith(_END):
                _end(f"{run}/{name}", [name[len(_BEGIN) : -len(_END)]], [], id)
