"""The daemon: everything that lives as long as the supervisor does, in one tree of tasks.

It is started by the keeper and dies with it. Before the loop: settings, directories, the lock of the state
directory. `main` is the tree; what stands further in ends first: connections, then the engine, then signals
and the keeper's messages. Whatever prevents the start is told to the keeper as a typed error.

SIGTERM and SIGINT end it (exit status 0), SIGHUP reads the configuration again. Once it is ready it waits
for descriptors alone; a timer runs once, until it settles, and for a watchdog that the service manager has asked
for.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

from pyman.api import Access
from pyman.api.system import ReloadReply
from pyman.errors import AlreadyRunning, PymanError
from pyman.wire import owner
from supervisor import instance, logging
from supervisor.arguments import parse
from supervisor.channel import CANNOT_START, HELD, Channel, ChannelClosed, described
from supervisor.kernel import children
from supervisor.kernel.process import ProcessRef
from supervisor.notify import Notifier, watchdog_interval
from supervisor.rpc.handlers import handlers
from supervisor.rpc.server import Listener, serve
from supervisor.runtime.engine import Engine
from supervisor.runtime.info import Facts
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.settings.model import Settings, changed, needs_restart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from supervisor.rpc.server import Server

__all__ = ["Control", "Start", "main", "run"]

log = structlog.get_logger(__name__)

_ACCESS = {"main": Access.OWNER, "events": Access.EVENTS, "read": Access.READ}
SETTLING = 2.0
"""Seconds from readiness until the collector of cycles, which is off until then, has its first turn."""
_LAST_ANSWER = 0.05
"""Seconds for the answer to the call that asked for the end."""


class Start(msgspec.Struct):
    """What is there before the loop runs."""

    settings: Settings
    layout: Layout
    environ: Mapping[str, str]
    keeper: int
    channel: Channel
    listeners: list[Listener]
    lock: int


def run(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Be the daemon; the exit status."""
    options = parse(words, ("keeper", "channel")).options
    keeper, number = int(options.pop("keeper")), int(options.pop("channel"))
    os.set_inheritable(number, False)
    children.die_with_parent(parent=keeper)
    channel = Channel(socket.socket(fileno=number))
    logging.configure()
    sys.excepthook = logging.crash
    control: list[Control] = []
    failure: PymanError | None = None
    try:
        trio.run(main, prepare(options, environ, keeper, channel), control)
    except* PymanError as group:
        failure = _first(group)
        if control and control[0].is_ready:
            log.exception("the daemon failed", error=str(failure))
        else:
            channel.send({"failed": described(failure)})
    if failure is None:
        return 0
    if control and control[0].is_ready:
        return 1
    return HELD if isinstance(failure, AlreadyRunning) else CANNOT_START


def prepare(options: Mapping[str, str], environ: Mapping[str, str], keeper: int, channel: Channel) -> Start:
    """Settings, directories and the lock: what has to be right before anything is touched."""
    received = channel.receive(wait=True)
    hello, descriptors = received or ({"hello": [], "lock": ""}, [])
    listeners = _listeners(hello["hello"], descriptors)
    chosen = msgspec.convert({name.replace("-", "_"): value for name, value in options.items()}, Options)
    settings = load(chosen, environ, owner(environ))
    logging.configure(settings.pyman.log_level)
    layout = Layout.of(settings)
    make_directories(layout)
    lock = _take_lock(layout, keeper, channel, str(hello["lock"]), descriptors)
    channel.send({"reaped": layout.reaped})
    children.become_subreaper()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each container takes two descriptors and each client one, whatever the terminal's limit was.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return Start(settings, layout, environ, keeper, channel, listeners, lock)


async def main(start: Start, made: list[Control]) -> None:
    """The tree. Ends when the end is asked for and everything in it has been taken apart."""
    stop_signals = trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with stop_signals as signals:
        async with trio.open_nursery() as tree:
            engine = Engine(start.settings, start.layout)
            control = Control(start, engine, tree.cancel_scope)
            made.append(control)
            tree.start_soon(control.obey, signals)
            tree.start_soon(control.hear)
            await tree.start(engine.run)
            async with trio.open_nursery() as calls:
                answering = partial(serve, start.listeners, handlers(engine, control))
                control.server = await calls.start(answering)
                calls.start_soon(control.watchdog)
                calls.start_soon(control.settle)
                control.ready()
                await control.end.wait()
                await control.take_leave()
                calls.cancel_scope.cancel()
            tree.cancel_scope.cancel()


class Control:
    """What signals, the keeper and calls do to the daemon itself."""

    def __init__(self, start: Start, engine: Engine, everything: trio.CancelScope) -> None:
        self._start = start
        self._engine = engine
        self._everything = everything
        self._notifier = Notifier(start.environ)
        self._containers = ""
        self.server: Server | None = None
        self.end = trio.Event()
        self.is_ready = False
        self.facts = Facts(
            pid=os.getpid(),
            keeper_pid=start.keeper,
            socket=start.layout.socket,
            database=start.layout.database,
            started=time.time_ns(),
            on_stop=start.settings.pyman.on_stop,
        )

    def ready(self) -> None:
        """Tell everybody."""
        self.is_ready = True
        self._start.channel.send({"ready": True})
        self._say_ready()
        log.info("ready", socket=self.facts.socket, keeper=self.facts.keeper_pid)

    async def settle(self) -> None:
        """What is in memory now stays there. Not at once: it holds the loop for as long as a whole answer takes,
        and whoever has started the supervisor waits for a first one."""
        await trio.sleep(SETTLING)
        gc.collect()
        gc.freeze()
        gc.enable()
        ctypes.CDLL(None).malloc_trim(0)

    def reload(self) -> ReloadReply:
        """Read the configuration again; what cannot change while running keeps its value.

        Raises InvalidConfig, and everything is as it was.
        """
        old = self._engine.settings
        new = load(old.options, self._start.environ, old.uid)
        names = changed(old, new)
        later = needs_restart(names)
        self._engine.reload(_keeping(old, new, later))
        for warning in new.warnings:
            log.warning(warning)
        log.info("configuration read", changed=names, after_restart=later)
        return ReloadReply(changed=[name for name in names if name not in later], after_restart=later)

    def request_shutdown(self, containers: str = "") -> None:
        """End the daemon and with it the supervisor. Empty: what the settings say of containers."""
        self._containers = containers or self._engine.settings.pyman.on_stop
        self._start.channel.send({"ending": True})
        instance.note(self._start.lock, [self._start.keeper, os.getpid()], ending=True)
        if self.is_ready or self._containers == "stop":
            self.end.set()  # what is to be stopped has to be known first
        else:
            self._everything.cancel()

    async def take_leave(self) -> None:
        """In this order: no new clients, the engine's own end, a moment for the last answers."""
        log.info("ending", containers=self._containers)
        assert self.server is not None  # noqa: S101 - the end begins after the start
        self.server.replace([])
        await self._engine.shutdown(self._containers)
        await trio.sleep(_LAST_ANSWER)

    async def obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload_by_signal()
            else:
                self.request_shutdown()

    def _reload_by_signal(self) -> None:
        if not self.is_ready:
            return
        self._notifier.reloading()
        try:
            self.reload()
        except PymanError as error:
            log.warning("configuration not read", error=str(error))
        self._say_ready()

    def _say_ready(self) -> None:
        self._notifier.ready(self.facts.keeper_pid, f"Ready, daemon {self.facts.pid}")

    async def hear(self) -> None:
        """The keeper's messages; it outlives this process, so their end needs no answer."""
        channel = self._start.channel
        with contextlib.suppress(ChannelClosed):
            while True:
                await trio.lowlevel.wait_readable(channel.fileno())
                while (received := channel.receive()) is not None:
                    self._heard(*received)

    def _heard(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        if "listeners" in message:
            log.info("sockets were made again")
            listeners = _listeners(message["listeners"], descriptors)
            if self.server is not None:
                self.server.replace(listeners)
            else:
                self._start.listeners[:] = listeners
        if "reaped" in message:
            pid, start_time, status = message["reaped"]
            self._engine.reaped.note(ProcessRef(pid, start_time), status)

    async def watchdog(self) -> None:
        """Signs of life as often as the service manager has asked for; none if it has not."""
        interval = watchdog_interval(self._start.environ, self._start.keeper)
        if interval is None:
            return
        while True:
            self._notifier.alive()
            await trio.sleep(interval)


def _listeners(names: Sequence[str], descriptors: list[int]) -> list[Listener]:
    """Takes as many descriptors from the front as there are names."""
    return [Listener(socket.socket(fileno=descriptors.pop(0)), _ACCESS[name]) for name in names]


def _take_lock(layout: Layout, keeper: int, channel: Channel, path: str, descriptors: list[int]) -> int:
    """The lock of the state directory: the one that the keeper has kept, or a new one, for it to keep."""
    pids = [keeper, os.getpid()]
    kept = descriptors.pop() if descriptors else -1
    if kept >= 0 and path == layout.supervisor_lock and instance.is_lock_of(kept, path):
        instance.note(kept, pids)
        return kept
    if kept >= 0:
        os.close(kept)
    taken = instance.hold(layout.supervisor_lock, pids, f"the state in '{layout.static}'")
    channel.send({"lock": layout.supervisor_lock}, [taken])
    return taken


def _keeping(old: Settings, new: Settings, names: Sequence[str]) -> Settings:
    """The new settings with the old values of those named (by their dotted names)."""
    for name in names:
        section, field = name.split(".")
        value = getattr(getattr(old, section), field)
        part: msgspec.Struct = msgspec.structs.replace(getattr(new, section), **{field: value})
        new = msgspec.structs.replace(new, **{section: part})
    return new


def _first(group: BaseExceptionGroup[PymanError]) -> PymanError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PymanError)  # noqa: S101 - except* lets nothing else through
    return error
