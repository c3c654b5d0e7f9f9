"""The writer: a thread of its own through which every change of a running supervisor goes.

It sleeps in a blocking queue until there is a request, takes all that are waiting (group commit), makes
one transaction of them and announces the results in the Trio loop, in the order of the commits, by one
callback for the whole group. Between requests, never on its own account, it removes events that
retention has passed and copies the write-ahead log into the database.
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import TYPE_CHECKING

import outcome
import trio

from supervisor.logging import log
from supervisor.state.transactions import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyman.api.event import Event
    from supervisor.state.changes import Retention
    from supervisor.state.transactions import Result, Store

__all__ = ["Pending", "Writer"]

GROUP = 256
"""Requests in one transaction at most."""
CHECKPOINT_AFTER = 256
"""Transactions between two checkpoints: three to five pages each, so about 4 MiB of log."""
TRIM_SLACK = 64
"""Events above the limit that are left until the writer has nothing else to do…"""
TRIM_PRESSING = 2048
"""…and those above it that are removed even then."""
TRIM_CHUNK = 256
"""Events removed in one transaction (about 1 ms)."""

SWITCH_INTERVAL = 0.0001
"""Seconds until a thread that wants the interpreter asks for it. A busy Trio loop gives the interpreter
up and takes it back at every poll; within Python's 5 ms the writer then never gets to ask: commits were
seen to wait for 5 s behind a loop that was busy with short steps, 20 ms with this."""


class Pending(Request, frozen=True, eq=False):
    """A request whose task waits, in the loop of `token`, for its result."""

    apply: Callable[[tuple[Event, ...]], None] | None
    task: trio.lowlevel.Task
    token: trio.lowlevel.TrioToken


class Writer:
    """`announce(pairs)` is called in the loop of the requests' tasks."""

    def __init__(
        self,
        store: Store,
        retention: Retention,
        announce: Callable[[Sequence[tuple[Pending, Result]]], None],
    ) -> None:
        self.retention = retention
        self._store = store
        self._announce = announce
        self._queue: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._transactions = 0
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=False)
        self._thread.start()

    def put(self, request: Pending) -> None:
        # Not bounded by itself: each request is a task that waits for it.
        self._queue.put(request)

    def stop(self) -> None:
        """Finish what was put before, and end. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            group = self._take()
            ended = group[-1] is None
            requests = [request for request in group if request is not None]
            if requests:
                self._serve(requests)
                added = sum(len(request.events) for request in requests)
                self._report("trim", outcome.capture(self._trim, added))
                self._report("checkpoint", outcome.capture(self._checkpoint))

    def _take(self) -> list[Pending | None]:
        """All requests there are, at least one; the mark of the end is the last."""
        group = [self._queue.get()]
        while group[-1] is not None and len(group) < GROUP:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group

    def _serve(self, requests: list[Pending]) -> None:
        results = self._store.run(requests)
        self._transactions += 1
        try:
            requests[0].token.run_sync_soon(self._announce, list(zip(requests, results, strict=True)))
        except trio.RunFinishedError:
            # Only a loop that crashed ends while its tasks wait: nobody is left to be told.
            log.warning("state committed for a loop that has ended", requests=len(requests))

    def _trim(self, added: int) -> None:
        """All that is too much while nobody waits; if too much is pressing, more than was `added`."""
        budget = TRIM_CHUNK + 2 * added
        while (excess := self._store.excess(self.retention)) > TRIM_SLACK:
            if not self._queue.empty() and (excess <= TRIM_PRESSING or budget <= 0):
                return
            self._store.trim(min(excess, TRIM_CHUNK))
            budget -= TRIM_CHUNK

    def _checkpoint(self) -> None:
        if self._transactions >= CHECKPOINT_AFTER and self._queue.empty():
            self._transactions = 0
            self._store.checkpoint()

    @staticmethod
    def _report(what: str, attempt: outcome.Value[None] | outcome.Error) -> None:
        """Housekeeping that fails (a full disk) fails no request; it is tried again after the next one."""
        if isinstance(attempt, outcome.Error):
            log.warning("cannot keep house in the state database", step=what, error=str(attempt.error))
