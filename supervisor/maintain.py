"""`pyman-supervisor maintain`: what must not happen while a supervisor works on the same state.

    renumber                      give every object a new lock number
    migrate [--new-runtime NAME]  write every definition in this version's form, or for another OCI runtime
    check [--repair]              compare the state with itself; a running supervisor is asked instead
    reset                         remove every container and everything that pyman has written

A running supervisor is asked to end first, and its lock is held until the work is done, so that none comes
back meanwhile. Containers are stopped for migrate and reset, by a supervisor if one can be started: it
knows how. Nothing of another engine is touched: of the graph root only pyman's own directory goes.
Results go to standard output, errors are raised.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.errors import (
    DeadlineExceeded,
    EngineUnavailable,
    InvalidArgument,
    PymanError,
    StorageFailed,
)
from pyman.names import STATES_WITH_PROCESS
from pyman.wire import Connection, owner
from pyman.wire import decode as decode_json
from supervisor import instance, logging
from supervisor.arguments import COMMAND, parse, spelled
from supervisor.channel import error_of
from supervisor.demolition import demolish
from supervisor.oci.runtimes import find_runtimes
from supervisor.rootless import entering
from supervisor.runtime.records import Definition, ExecDefinition, Observed, decode, encode, replaced
from supervisor.runtime.volumes.records import Volume, VolumeObserved
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.state import offline
from supervisor.unshare import enter_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyman.api.system import Problem
    from supervisor.settings.model import Settings
    from supervisor.state.changes import Record

__all__ = ["run"]

_VERBS = ("renumber", "migrate", "check", "reset")
_END_PATIENCE = 300.0
"""Seconds for a supervisor to stop its containers and end."""
_START_PATIENCE = 60.0


def run(words: Sequence[str]) -> int:
    """Carry out one verb: `[options] maintain VERB [options]`. The exit status."""
    repair = "--repair" in words
    before = parse([word for word in words if word != "--repair"])
    after = parse(before.words[2:], ("new-runtime",))
    options = {**before.options, **after.options}
    new_runtime = options.pop("new-runtime", "")
    logging.configure("warning")
    verb = before.words[1] if len(before.words) > 1 else ""
    if verb not in _VERBS or after.words:
        wrong = after.words[0] if after.words else verb
        raise InvalidArgument(
            f"cannot maintain '{wrong}'", subject=wrong, hint=f"give one of {', '.join(_VERBS)}"
        )
    if os.geteuid() != 0:
        enter_namespaces()
    work = _Work(options)
    if verb == "renumber":
        return work.renumber()
    if verb == "migrate":
        return work.migrate(new_runtime)
    if verb == "check":
        return work.check(repair=repair)
    return work.reset()


class _Work:
    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options
        chosen = msgspec.convert({name.replace("-", "_"): text for name, text in options.items()}, Options)
        self._settings: Settings = load(chosen, os.environ, owner(os.environ))
        self._layout = Layout.of(self._settings)

    # -- the verbs ------------------------------------------------------------------------------

    def renumber(self) -> int:
        self._end_supervisor("leave")
        with self._locked(), self._state(renumber=True) as state:
            _say(f"{_counted(state.renumber(_relocked), 'lock')} given anew")
        return 0

    def migrate(self, new_runtime: str) -> int:
        runtime = self._runtime(new_runtime) if new_runtime else ""
        self._stop_containers()
        attributes = {"runtime": runtime} if runtime else {}
        with self._locked(), self._state() as state:
            for record in _with_process(state.loaded.records):
                raise DeadlineExceeded(
                    f"cannot migrate: the container {record.name} still runs", subject=record.id
                )
            count = state.migrate(lambda record: _rewritten(record, runtime), attributes)
        _say(f"{_counted(count, 'definition')} rewritten")
        self._abandon_namespaces()
        return 0

    def _runtime(self, name: str) -> str:
        settings = self._settings
        work = partial(find_runtimes, settings.engine, environment=settings.child_environment)
        return trio.run(work).pick(name).name

    def check(self, *, repair: bool) -> int:
        running = self._connect()
        if running is not None:
            with running:
                problems = running.call("System.Check", {"repair": repair})["problems"]
            return _report([(p["subject"], p["text"], bool(p.get("repaired"))) for p in problems])
        with self._locked():
            found: list[Problem]
            if repair:
                with self._state() as state:
                    found = offline.check(self._layout.database, _container_of, state)
            else:
                found = offline.check(self._layout.database, _container_of)
        return _report([(problem.subject, problem.text, problem.repaired) for problem in found])

    def reset(self) -> int:
        try:
            self._stop_containers()
        except PymanError as error:
            # It is to be removed, however broken it is.
            _say(f"no supervisor could stop the containers: {error}")
        with self._locked():
            count = trio.run(demolish, self._settings, self._layout)
        stem = self._layout.socket.removesuffix(".sock")
        for path in (f"{stem}.log", f"{stem}.log.1"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._abandon_namespaces()
        if os.path.exists(self._layout.static):
            raise StorageFailed(
                f"cannot remove everything in '{self._layout.static}': what is left was named above",
                subject=self._layout.static,
            )
        _say(f"everything in {self._layout.static} was removed, with {count} container{'s' * (count != 1)}")
        return 0

    def _abandon_namespaces(self) -> None:
        """What comes next gets new ones, with the ids that the user has then. Another engine of the user that runs
        stays where it is."""
        if self._settings.rootless:
            entering.abandon(self._layout.sockets)

    # -- a running supervisor -------------------------------------------------------------------

    def _connect(self) -> Connection | None:
        try:
            return Connection(self._layout.socket)
        except EngineUnavailable:
            return None

    def _end_supervisor(self, containers: str) -> bool:
        """Ask a running supervisor to end and wait until it has. False: there is none."""
        connection = self._connect()
        if connection is None:
            return False
        with connection:
            keeper = int(connection.call("System.Info")["supervisor"]["keeperPid"])
            pidfd = os.pidfd_open(keeper)
            try:
                connection.call("System.Shutdown", {"containers": containers})
                if not select.select([pidfd], [], [], _END_PATIENCE)[0]:
                    raise DeadlineExceeded(
                        f"cannot go on: the supervisor (pid {keeper}) has not ended in {_END_PATIENCE:g} s",
                        subject=str(keeper),
                    )
            finally:
                os.close(pidfd)
        return True

    def _stop_containers(self) -> None:
        """By the supervisor that runs, else by one that is started for it, if containers run at all."""
        if self._end_supervisor("stop"):
            return
        with self._locked():
            if not os.path.exists(self._layout.database):
                return
            with self._state() as state:
                running = list(_with_process(state.loaded.records))
        if running:
            with self._supervisor():
                self._end_supervisor("stop")

    @contextlib.contextmanager
    def _supervisor(self) -> Iterator[None]:
        """One that was started for this. Raises what it says of why it cannot start."""
        readable, writable = os.pipe2(os.O_CLOEXEC)
        os.set_inheritable(writable, True)
        try:
            started = subprocess.Popen(
                [*COMMAND, *spelled(self._options), f"--report-fd={writable}"],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writable],
            )
        finally:
            os.close(writable)
        try:
            with open(readable, "rb") as pipe:
                waited = select.select([pipe], [], [], _START_PATIENCE)[0]
                line = pipe.readline() if waited else b""
            if line != b"ready\n":
                raise error_of(decode_json(line) if line else {"message": "cannot start a supervisor"})
            yield
        finally:
            started.terminate()
            started.wait()

    # -- the state ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else may work on this state; a supervisor that is about to end is waited for."""
        make_directories(self._layout)
        subject = f"the state in '{self._layout.static}'"
        lock = instance.hold(self._layout.supervisor_lock, [os.getpid()], subject)
        try:
            yield
        finally:
            os.close(lock)

    def _state(self, *, renumber: bool = False) -> contextlib.AbstractContextManager[offline.Maintenance]:
        engine = self._settings.engine
        return offline.exclusive(self._layout.database, self._layout.lock_file, engine, renumber=renumber)


def _with_process(records: Sequence[Record]) -> Iterator[Record]:
    """Containers that were running, by the records of the last supervisor."""
    for record in records:
        if record.kind == "container" and decode(record.state, Observed).state in STATES_WITH_PROCESS:
            yield record


def _relocked(record: Record, number: int) -> bytes:
    if record.kind == "volume":
        return encode(replaced(decode(record.definition, Volume), lock=number))
    if record.kind != "container":
        return record.definition
    return encode(replaced(decode(record.definition, Definition), lock=number))


def _rewritten(record: Record, runtime: str) -> bytes | None:
    """The definition as this version writes it."""
    if record.kind != "container":
        return None
    changes: dict[str, Any] = {"runtime": runtime} if runtime else {}
    return encode(replaced(decode(record.definition, Definition), **changes))


def _container_of(record: Record) -> str:
    """The container that the record belongs to; empty: none. ValueError: it cannot be read."""
    if record.kind == "exec":
        return decode(record.definition, ExecDefinition).container
    if record.kind == "helper":
        return ""
    if record.kind == "volume":
        decode(record.definition, Volume)
        decode(record.state, VolumeObserved)
        return ""
    decode(record.definition, Definition)
    decode(record.state, Observed)
    return ""


def _report(problems: Sequence[tuple[str, str, bool]]) -> int:
    for subject, text, repaired in problems:
        _say(f"{subject}: {text}{' (repaired)' if repaired else ''}")
    if not problems:
        _say("no problem was found")
    return 1 if any(not repaired for _, _, repaired in problems) else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun} was" if number == 1 else f"{number} {noun}s were"
