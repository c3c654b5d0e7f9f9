"""How containers are started, and what is done with several: a part of `io.pyman.Container`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.container import HealthCheckReply, Result, ResultsReply
from pyman.errors import NotSupported
from pyman.names import State
from supervisor.rpc.rootfs import actor_of
from supervisor.rpc.watching import WatchingHandlers
from supervisor.runtime.life import requests as rq
from supervisor.runtime.many import Order

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyman.api import container as api
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.container import Container
    from supervisor.runtime.registry import Entry

__all__ = ["RUNNING", "StartHandlers", "refuse_passthrough", "timeout_of"]

RUNNING = (State.RUNNING, State.STOPPING, State.PAUSED)


class StartHandlers(WatchingHandlers):
    """The base of the handlers of containers, with what starts them."""

    async def init(self, request: api.SelectionRequest, call: Call) -> ResultsReply:
        async def first(entry: Entry) -> None:
            await self._needs(entry, call, recursive=request.recursive)

        return await self._change(
            call,
            request.selection,
            lambda: rq.Init(actor=actor_of(call)),
            first=first,
            order=Order.NEEDED_FIRST,
        )

    async def _needs(self, entry: Entry, call: Call, *, recursive: bool = True) -> None:
        """What a container depends on is there, or is started and waited for. WrongState."""
        dependencies = self._engine.services.dependencies
        if recursive:
            await dependencies.ready(entry.container, actor_of(call))
        else:
            dependencies.check(entry.container)

    async def start(self, request: api.SelectionRequest, call: Call) -> ResultsReply:
        async def work(entry: Entry) -> Result:
            refuse_passthrough(entry.container)
            if entry.container.state not in RUNNING:
                await self._needs(entry, call, recursive=request.recursive)
            wish = rq.Start(actor=actor_of(call), caller=request.caller)
            started: rq.Started = await entry.worker.ask(wish)
            return Result(
                name="",
                id=entry.container.id,
                changed=started.changed,
                notify=started.notify,
                awaits_health=entry.container.definition.spec.sdnotify_mode == "healthy",
            )

        keep = None if not request.selection.all else lambda c: c.state not in RUNNING
        results = await self._engine.each(
            self._view(call), request.selection, work, keep=keep, order=Order.NEEDED_FIRST
        )
        return ResultsReply(results)

    async def restart(self, request: api.RestartRequest, call: Call) -> ResultsReply:
        timeout = timeout_of(request.timeout)

        async def work(entry: Entry) -> Result:
            if request.running and entry.container.state not in RUNNING:
                return Result(name="", id=entry.container.id, changed=False)
            refuse_passthrough(entry.container, again=True)
            await self._needs(entry, call)
            await entry.worker.ask(rq.Restart(actor=actor_of(call), timeout=timeout))
            return Result(name="", id=entry.container.id)

        keep = (lambda c: c.state in RUNNING) if request.running else None
        results = await self._engine.each(
            self._view(call), request.selection, work, keep=keep, order=Order.NEEDED_FIRST
        )
        return ResultsReply(results)

    async def health_check(self, request: api.NameRequest, call: Call) -> HealthCheckReply:
        entry = self._view(call).find(request.name)
        return HealthCheckReply(entry.container.id, await entry.worker.checking.run())

    async def _change(
        self,
        call: Call,
        selection: api.Selection,
        make: object,
        *,
        ignore: bool = False,
        keep: object = None,
        first: Callable[[Entry], Awaitable[None]] | None = None,
        order: Order = Order.ANY,
    ) -> ResultsReply:
        """One request to each worker; `make` gives a fresh one. `first`: what has to be done before."""

        async def work(entry: Entry) -> Result:
            if first is not None:
                await first(entry)
            changed = await entry.worker.ask(make())  # type: ignore[operator]
            return Result(name="", id=entry.container.id, changed=bool(changed))

        def missing(name: str) -> Result:
            return Result(name=name, changed=False)

        results = await self._engine.each(
            self._view(call),
            selection,
            work,
            missing=missing if ignore else None,
            keep=keep,  # type: ignore[arg-type]
            order=order,
        )
        return ResultsReply(results)


def refuse_passthrough(container: Container, *, again: bool = False) -> None:
    """What only `run` can start: the caller's own streams and descriptors belong to it. `again`: also one that runs."""
    if container.definition.spec.preserve_fd and (again or container.state not in RUNNING):
        raise NotSupported(
            f"cannot start container '{container.name}': with --preserve-fd and --preserve-fds only run can",
            subject=container.name,
            hint="its descriptors would be nobody's",
        )
    if container.definition.log_driver == "passthrough" and container.state not in RUNNING:
        raise NotSupported(
            f"cannot start container '{container.name}': with the log driver passthrough only run can",
            subject=container.name,
            hint="its streams would be nobody's",
        )


def timeout_of(seconds: float | None) -> float | None:
    """Podman's -1 means: wait for ever."""
    if seconds is None:
        return None
    if seconds < 0:
        return 10.0 * 365 * 86400
    return seconds
