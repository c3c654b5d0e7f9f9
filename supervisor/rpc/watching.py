"""What containers use and what runs in them, and the removal of those that do not run: a part of `io.pyman.Container`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.api.usage import PruneContainersReply
from pyman.api.watching import StatsReply
from pyman.errors import InvalidArgument
from pyman.names import State
from supervisor.rpc.rootfs import RootfsHandlers, actor_of

if TYPE_CHECKING:
    from pyman.api import watching as api
    from pyman.api.usage import PruneContainersRequest
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.container import Container

__all__ = ["WatchingHandlers"]

SHORTEST, LONGEST = 0.1, 1e6
"""Seconds between two looks."""
RUN = (State.RUNNING, State.STOPPING)
"""Whose statistics are shown unless others are asked for, as `ps` shows them."""


class WatchingHandlers(RootfsHandlers):
    """A base of the handlers of containers."""

    async def top(self, request: api.TopRequest, call: Call) -> api.TopReply:
        from supervisor.runtime.views.top import top

        if bool(request.name) == request.latest:
            raise InvalidArgument("cannot tell which container is meant", hint="give a name or an id")
        view = self._view(call)
        entry = view.latest() if request.latest else view.find(request.name)
        return await top(entry.container, request.descriptors)

    async def stats(self, request: api.StatsRequest, call: Call) -> StatsReply:
        from supervisor.runtime.views.stats import Watch

        if bool(request.names) + request.all + request.latest > 1:
            raise InvalidArgument("cannot combine names, --all and --latest")
        if not SHORTEST <= request.interval <= LONGEST:
            raise InvalidArgument(
                f"cannot look every {request.interval:g} s",
                hint=f"the interval is {SHORTEST:g} s at least, and {LONGEST:g} s at most",
            )
        watch = Watch()
        due = trio.current_time()
        while True:
            reply = StatsReply(await watch.look(self._watched(request, call)))
            if not request.stream:
                return reply
            await call.send(reply)
            due = max(due + request.interval, trio.current_time())
            await trio.sleep_until(due)

    async def prune(self, request: PruneContainersRequest, call: Call) -> PruneContainersReply:
        from supervisor.runtime.pruning import prune_containers

        work = partial(prune_containers, self._engine, self._view(call), request.filters, actor_of(call))
        return PruneContainersReply(await self._engine.background(work).get())

    def _watched(self, request: api.StatsRequest, call: Call) -> list[Container]:
        """Asked anew each time: containers come and go. NoSuchContainer: one that was named has gone."""
        view = self._view(call)
        if request.latest:
            return [view.latest().container]
        if request.names:
            found = [view.find(name).container for name in request.names]
            return list({container.id: container for container in found}.values())
        chosen = [one for one in view.containers if request.all or one.state in RUN]
        return sorted(chosen, key=lambda container: container.definition.created)
