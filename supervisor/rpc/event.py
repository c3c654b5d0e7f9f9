"""`io.pyman.Event`: the journal told to subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.event import Gap, PruneEventsReply, Snapshot, SubscribeReply
from pyman.errors import InvalidArgument
from supervisor.events.filters import compile_filters
from supervisor.runtime.views.containers import list_view

if TYPE_CHECKING:
    from pyman.api import event as api
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.engine import Engine

__all__ = ["EventHandlers"]


class EventHandlers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def subscribe(self, request: api.SubscribeRequest, call: Call) -> SubscribeReply:
        self._engine.check_valid()
        journal = self._engine.services.journal
        matches = compile_filters(request.filters)
        if request.snapshot and (request.since is not None or request.since_seq is not None):
            raise InvalidArgument("cannot begin with a snapshot and with past events: drop one of them")
        cursor = journal.cursor(
            since_seq=journal.last_seq if request.snapshot else request.since_seq,
            since=request.since,
            until=request.until,
            journal=request.journal,
            matches=matches,
            stream=request.stream,
        )
        # No await between the cursor, the number and the snapshot: they are of one moment.
        seq = journal.last_seq
        snapshot = None
        if request.snapshot:
            view = self._engine.view(call.session.get("namespace", ""))
            containers = [list_view(container, self._engine.services.find) for container in view.containers]
            snapshot = Snapshot(containers=containers, seq=seq)
        await call.send(SubscribeReply(journal=journal.id, seq=seq, snapshot=snapshot))
        while items := await cursor.next():
            for item in items:
                if isinstance(item, Gap):
                    await call.send(SubscribeReply(gap=item))
                else:
                    await call.send(SubscribeReply(event=item))
        return SubscribeReply(journal=journal.id, seq=journal.last_seq)

    async def prune(self, request: api.PruneEventsRequest, call: Call) -> PruneEventsReply:
        self._engine.check_valid()
        if request.keep < 0:
            raise InvalidArgument(f"cannot keep {request.keep} events")
        removed = await self._engine.services.journal.prune(keep=request.keep, until=request.until)
        return PruneEventsReply(removed=removed)
