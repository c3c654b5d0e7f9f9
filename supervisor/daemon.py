"""The daemon: everything that lives as long as the supervisor does, in one tree of tasks.

It is started by the keeper and dies with it; what comes before the loop is in `daemon_start`. `main` is the tree;
what stands further in ends first: connections, then the engine, then signals and the keeper's messages.

SIGTERM and SIGINT end it (exit status 0), SIGHUP reads the configuration again. Once it is ready it waits
for descriptors alone; a timer runs once, until it settles, and for a watchdog that the service manager has asked
for.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.api import Access
from pyman.api.system import ReloadReply
from pyman.errors import PymanError
from supervisor import instance
from supervisor.channel import ChannelClosed
from supervisor.kernel.process import ProcessRef
from supervisor.logging import log
from supervisor.notify import Notifier, watchdog_interval
from supervisor.rpc.handlers import handlers
from supervisor.rpc.server import Listener, serve
from supervisor.runtime.engine import Engine
from supervisor.runtime.views.info import Facts
from supervisor.settings.load import load
from supervisor.settings.model import changed, needs_restart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from supervisor.daemon_start import Start
    from supervisor.rpc.server import Server
    from supervisor.settings.model import Settings

__all__ = ["SETTLING", "Control", "main"]


_ACCESS = {"main": Access.OWNER, "events": Access.EVENTS, "read": Access.READ}
SETTLING = 2.0
"""Seconds from readiness until the collector of cycles, which is off until then, has its first turn."""
_LAST_ANSWER = 0.05
"""Seconds for the answer to the call that asked for the end."""


async def main(start: Start, made: list[Control]) -> None:
    """The tree. Ends when the end is asked for and everything in it has been taken apart."""
    stop_signals = trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with stop_signals as signals:
        async with trio.open_nursery() as tree:
            engine = Engine(start.settings, start.layout, start.probes)
            control = Control(start, engine, tree.cancel_scope)
            made.append(control)
            tree.start_soon(control.obey, signals)
            tree.start_soon(control.hear)
            await tree.start(engine.run)
            async with trio.open_nursery() as calls:
                answering = partial(serve, _listeners(start.listeners), handlers(engine, control))
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

    def has_failed(self, failure: PymanError) -> None:
        log.error("the daemon failed", error=str(failure), exc_info=failure)

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
            sockets = {name: socket.socket(fileno=descriptors.pop(0)) for name in message["listeners"]}
            if self.server is not None:
                self.server.replace(_listeners(sockets))
            else:
                self._start.listeners = sockets
            if self.is_ready and not os.path.lexists(self._engine.layout.tmp):
                # After a logout. What belongs there is made anew by a daemon that comes up, which finds what lives.
                log.warning("the run directory is gone: beginning anew", directory=self._engine.layout.tmp)
                os.kill(self.facts.pid, signal.SIGKILL)
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


def _listeners(sockets: Mapping[str, socket.socket]) -> list[Listener]:
    return [Listener(one, _ACCESS[name]) for name, one in sockets.items()]


def _keeping(old: Settings, new: Settings, names: Sequence[str]) -> Settings:
    """The new settings with the old values of those named (by their dotted names)."""
    for name in names:
        section, field = name.split(".")
        value = getattr(getattr(old, section), field)
        part: msgspec.Struct = msgspec.structs.replace(getattr(new, section), **{field: value})
        new = msgspec.structs.replace(new, **{section: part})
    return new
