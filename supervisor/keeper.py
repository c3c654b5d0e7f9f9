"""The small parent: it holds the listening sockets and brings the daemon back.

It does as little as possible, so that it has no reason to end before its daemon: one loop that waits for
signals, for the daemon's messages and for changes of the socket directory, and for a time only while a
restart is due. What it keeps for the next daemon: the sockets with the clients that wait in their backlog,
the lock of the state directory, and how the orphans of earlier daemons ended (it is a subreaper of last
resort; it waits for each child by its pid).

A daemon that ends is started again: at once, then after 0.1 s doubling to 10 s, from the beginning once it
has run for 10 s. Not after a clean end, and not when it says why it cannot start.
Standard library only; `fork` is safe because there is one thread.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

from pyman.errors import EngineUnavailable
from pyman.wire import runtime_directory_warning
from supervisor.channel import HELD, Channel, ChannelClosed, error_of
from supervisor.child import spawn
from supervisor.kernel.ancestry import become_subreaper
from supervisor.listeners import Listeners, inherited
from supervisor.notify import Notifier
from supervisor.report import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyman.errors import PymanError
    from supervisor.child import Orders, Started
    from supervisor.report import Report

__all__ = ["Backoff", "Keeper"]

FAILURE = 125
"""The keeper's own exit status when there is no sense in going on."""

_WORKING_LONGEST = 1.0
"""Seconds until a daemon that had become ready is started again, however often it ends."""
_ATTEMPTS = 5
"""Daemons that may crash before one has ever been ready."""
_REAPED_BYTES = 1 << 20
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Backoff:
    """How long to wait before the daemon is started again, in seconds."""

    def __init__(
        self, first: float = 0.1, factor: float = 2.0, longest: float = 10.0, reset: float = 10.0
    ) -> None:
        self._first, self._factor, self._longest, self._reset = first, factor, longest, reset
        self._next = 0.0

    def after(self, ran: float) -> float:
        """The wait after a daemon that ran for so many seconds."""
        if ran >= self._reset:
            self._next = 0.0
        wait = self._next
        self._next = min(max(self._first, wait * self._factor), self._longest)
        return wait


class Keeper:
    """`started`: a first daemon that has been given a start already, and waits for our `hello`."""

    def __init__(
        self, orders: Orders, environ: Mapping[str, str], report: Report, started: Started | None = None
    ) -> None:
        self._orders = orders
        self._environ = environ
        self._report = report
        self._waiting = started
        self._notifier = Notifier(environ)
        self._rootless = os.geteuid() != 0
        self._pause = -1
        """Readable when the pause process has ended, if one keeps the user's namespaces."""
        self._listeners = Listeners(orders.socket, inherited(environ, os.getpid()))
        self._poll = select.poll()
        self._backoff = Backoff()
        self._daemon = 0
        self._channel: Channel | None = None
        self._started = 0.0
        self._answered = False
        self._restart_at: float | None = None
        self._attempts = 0
        self._was_ready = False
        self._reload = False
        self._failure: PymanError | None = None
        self._stopping = False
        self._lock = -1
        self._lock_path = ""
        self._reaped_path = ""

    def run(self) -> int:
        become_subreaper()
        signals = self._catch_signals()
        try:
            self._listeners.open()
            if self._rootless:
                self._enter_namespaces()
            status = self._start_daemon()
            if status is None:
                status = (
                    self._reap()
                )  # one that had been given a start may have ended before signals were caught
            if status is not None:
                return status
            self._poll.register(signals, select.POLLIN)
            if self._rootless:
                self._watch_pause()
            watched = self._listeners.watch()
            for descriptor, events in watched:
                self._poll.register(descriptor, events)
            return self._loop(signals, {descriptor for descriptor, _ in watched})
        finally:
            if self._waiting is not None:
                self._waiting.abandon()
            self._drop_channel()
            self._listeners.close()
            if self._lock >= 0:
                os.close(self._lock)

    def _enter_namespaces(self) -> None:
        """An ordinary user's engine lives in namespaces of its own, and as long as it does, they stay."""
        from supervisor.rootless import entering  # root's keeper stays without it

        uid = os.geteuid()
        told = (runtime_directory_warning(self._environ, uid), entering.enter(self._listeners.directory))
        for warning in filter(None, told):
            log(warning)

    def _loop(self, signals: int, watched: set[int]) -> int:
        while True:
            wait = None if self._restart_at is None else max(0.0, self._restart_at - time.monotonic()) * 1000
            ready = {descriptor for descriptor, _ in self._poll.poll(wait)}
            if self._restart_at is not None and time.monotonic() >= self._restart_at:
                status = self._start_daemon()
                if status is not None:
                    return status
            if self._channel is not None and self._channel.fileno() in ready:
                self._read_messages()
            if ready & watched and not self._stopping and self._listeners.renew():
                self._hand_over("listeners")
            if signals in ready:
                status = self._on_signals(os.read(signals, 4096))
                if status is not None:
                    return status
            if self._pause in ready:
                self._tend_namespaces()

    # -- signals --------------------------------------------------------------------------------

    def _catch_signals(self) -> int:
        """A descriptor that is readable after a signal; each byte read from it is the signal's number."""
        readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _nothing)
        return readable

    def _on_signals(self, numbers: bytes) -> int | None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            # A second Ctrl-C is for a daemon that does not end; killing it harms no container.
            how = signal.SIGKILL if self._stopping and signal.SIGINT in numbers else signal.SIGTERM
            self._stop()
            if not self._daemon:
                return 0
            os.kill(self._daemon, how)
        elif signal.SIGHUP in numbers:
            self._reload = True
            self._pass_on_reload()
        return self._reap()

    def _pass_on_reload(self) -> None:
        """Once the daemon is ready: before that the signal would end it."""
        if self._reload and self._answered and self._daemon:
            self._reload = False
            os.kill(self._daemon, signal.SIGHUP)

    def _stop(self) -> None:
        self._stopping = True
        self._restart_at = None
        self._listeners.withdraw()
        self._notifier.stopping("Stopping")

    def _reap(self) -> int | None:
        """Collect every child that has ended; the exit status if that was the end of the supervisor."""
        outcome: int | None = None
        found = True
        while found:
            found = False
            for pid in _children():
                # Looked at before it is collected: its start time is gone afterwards.
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    continue
                found = True
                status = _wait_status(ended)
                if pid != self._daemon:
                    self._note_orphan(pid, status)
                os.waitpid(pid, 0)
                if pid == self._daemon:
                    outcome = self._daemon_ended(status)
        return outcome

    def _watch_pause(self) -> None:
        """Whoever has started it: it need not be a child."""
        from supervisor.rootless import entering

        self._pause = entering.watch(self._listeners.directory)
        if self._pause >= 0:
            self._poll.register(self._pause, select.POLLIN)

    def _tend_namespaces(self) -> None:
        """What has ended is what the next supervisor would have found them by."""
        from supervisor.rootless import entering

        self._poll.unregister(self._pause)
        os.close(self._pause)
        try:
            if warning := entering.tend(self._listeners.directory):
                log(warning)
        except OSError as error:
            log("cannot start another pause process", reason=str(error))
        self._watch_pause()

    def _note_orphan(self, pid: int, status: int) -> None:
        start = _start_time(pid)
        if self._channel is not None:
            self._channel.send({"reaped": [pid, start, status]})
        if not self._reaped_path:
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._reaped_path, flags, 0o600)
        except OSError as error:
            log("cannot write down how an orphan ended", pid=pid, status=status, reason=str(error))
            return
        try:
            if os.fstat(descriptor).st_size < _REAPED_BYTES:
                os.write(descriptor, f"{pid} {start} {status}\n".encode())
        except OSError as error:
            log("cannot write down how an orphan ended", pid=pid, status=status, reason=str(error))
        finally:
            os.close(descriptor)

    # -- the daemon -----------------------------------------------------------------------------

    def _start_daemon(self) -> int | None:
        """An exit status of our own when there is no sense in trying again."""
        self._restart_at = None
        self._started = time.monotonic()
        self._answered = False
        self._failure = None
        waiting, self._waiting = self._waiting, None
        try:
            started = waiting or spawn(self._orders)
        except OSError as error:
            log("cannot start the daemon", reason=str(error))
            return self._again(f"cannot start '{self._orders.command[0]}': {error.strerror}")
        self._daemon = started.pid
        said = started.environ
        self._channel = Channel.of(started.channel)
        self._poll.register(self._channel.fileno(), select.POLLIN)
        if waiting is not None and self._rootless:
            # It was started outside of the namespaces that this process is in by now.
            with open("/proc/self/ns/user", "rb") as user, open("/proc/self/ns/mnt", "rb") as mount:
                self._channel.send({"join": True}, [user.fileno(), mount.fileno()])
        environ = {name: value for name, value in self._orders.environ.items() if said.get(name) != value}
        self._hand_over("hello", environ)
        return None

    def _hand_over(self, word: str, environ: Mapping[str, str] | None = None) -> None:
        if self._channel is None:
            return
        sockets = self._listeners.sockets
        message: dict[str, Any] = {word: list(sockets)}
        descriptors = [one.fileno() for one in sockets.values()]
        if word == "hello":
            message["lock"] = self._lock_path
            message["environ"] = environ or {}
            descriptors += [self._lock] if self._lock >= 0 else []
        self._channel.send(message, descriptors)

    def _read_messages(self) -> None:
        assert self._channel is not None  # noqa: S101 - the caller polled it
        try:
            while (received := self._channel.receive()) is not None:
                self._heard(*received)
        except ChannelClosed:
            self._drop_channel()

    def _heard(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        if "lock" in message and len(descriptors) == 1:
            if self._lock >= 0:
                os.close(self._lock)
            self._lock, self._lock_path = descriptors.pop(), str(message["lock"])
        if "reaped" in message:
            self._reaped_path = str(message["reaped"])
        if "failed" in message:
            self._failure = error_of(message["failed"])
        if "ready" in message:
            self._was_ready = self._answered = True
            self._report.ready()
            self._pass_on_reload()
        if "ending" in message and not self._stopping:
            self._stop()
        for descriptor in descriptors:
            os.close(descriptor)

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self._poll.unregister(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _daemon_ended(self, status: int) -> int | None:
        """What follows from it: an exit status of our own, or None when another daemon is to come."""
        self._daemon = 0
        if self._channel is not None:
            self._read_messages()
        self._drop_channel()
        code = os.waitstatus_to_exitcode(status)
        if code == 0 or (self._stopping and code in (-signal.SIGTERM, -signal.SIGINT)):
            return 0
        if self._stopping:
            log("the daemon did not end in order", status=code)
            return 1
        failure = self._failure
        if failure is not None and (code == HELD or not self._was_ready or failure.fault != "host"):
            self._report.failed(failure)
            return FAILURE
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
        return self._again(f"the daemon {how}{f': {failure}' if failure else ''}")

    def _again(self, reason: str) -> int | None:
        self._attempts += 1
        if not self._was_ready and self._attempts >= _ATTEMPTS:
            self._report.failed(EngineUnavailable(f"cannot start the supervisor: {reason}"))
            return FAILURE
        wait = self._backoff.after(time.monotonic() - self._started)
        if self._answered:
            # It works, and somebody ends it: clients wait in the backlog, so not for long.
            wait = min(wait, _WORKING_LONGEST)
        log("the daemon is started again", reason=reason, delay=wait)
        self._notifier.status(f"Restarting: {reason}")
        self._restart_at = time.monotonic() + wait
        return None


def _nothing(_number: int, _frame: object) -> None:
    """The wake-up descriptor is what tells."""


def _children() -> list[int]:
    """This process has one thread, to which all its children belong."""
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(word) for word in file.read().split()]


def _wait_status(ended: os.waitid_result) -> int:
    """As wait(2) gives it."""
    if ended.si_code == os.CLD_EXITED:
        return ended.si_status << 8
    return ended.si_status | (0x80 if ended.si_code == os.CLD_DUMPED else 0)


def _start_time(pid: int) -> int:
    """Clock ticks since boot."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        text = file.read()
    return int(text[text.rindex(b")") + 2 :].split()[19])


def log(event: str, **fields: object) -> None:
    """A line in the form of the daemon's log."""
    if sys.stderr.isatty():
        say(" ".join([f"keeper: {event}", *(f"{key}={value}" for key, value in fields.items())]))
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = {"event": event, **fields, "level": "warning", "logger": "supervisor.keeper", "timestamp": now}
    say(json.dumps(record))
