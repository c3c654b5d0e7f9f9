"""Starts whose client may vanish at any instant.

What was begun is finished without the client; but nobody would read from the attach connection then,
and conmon would wait for its reader. Whoever comes last — the start, or the client's leaving — closes it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import outcome
import trio

from pyman.errors import PymanError
from supervisor.conmon.spawn import Passed
from supervisor.kernel.background import background
from supervisor.logging import log
from supervisor.runtime.answers import Answer
from supervisor.runtime.life import requests as rq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyman.api.container import RunRequest
    from pyman.api.event import Actor
    from supervisor.runtime.creation.imaged import Chosen
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.registry import Entry

__all__ = ["Launch", "StartAttached"]


class StartAttached:
    """A start with an attach connection, as one piece of work for the background."""

    def __init__(self, entry: Entry, wish: rq.Start) -> None:
        self._entry = entry
        self._wish = wish
        self._abandoned = False
        self._undo: Callable[[], None] | None = None

    @contextmanager
    def abandoned_if_cancelled(self) -> Iterator[None]:
        """Around the client's wait."""
        try:
            yield
        except trio.Cancelled:
            self._abandoned = True
            self._close_if_abandoned()
            raise

    async def run(self) -> rq.Started:
        return await self._start(self._entry, self._wish)

    async def _start(self, entry: Entry, wish: rq.Start) -> rq.Started:
        started: rq.Started = await entry.worker.ask(wish)

        def close() -> None:
            started.close()
            entry.container.attachments.drop(started.attach_handle)

        self._undo = close
        self._close_if_abandoned()
        return started

    def _close_if_abandoned(self) -> None:
        """By whoever comes last; it may be the very same step of the loop."""
        if self._abandoned and self._undo is not None:
            self._undo()


class Launch(StartAttached):
    """`run`: create and start as one. `descriptors`: those for the log driver passthrough, then
    those that are preserved; closed at the end."""

    def __init__(
        self,
        engine: Engine,
        request: RunRequest,
        actor: Actor,
        descriptors: list[int],
        image: Chosen | None = None,
    ) -> None:
        self._engine = engine
        self._image = image
        self._request = request
        self._actor = actor
        self._descriptors = descriptors
        self._abandoned = False
        self._undo = None
        self.created: Answer[Entry] = Answer()

    async def run(self) -> rq.Started:
        try:
            with background.ahead():
                entry = await self._create()
                return await self._begin(entry)
        finally:
            for descriptor in self._descriptors:
                os.close(descriptor)
            self._descriptors.clear()

    async def _create(self) -> Entry:
        request = self._request
        create = partial(
            self._engine.create,
            request.spec,
            request.caller,
            self._actor,
            replace=request.replace,
            image=self._image,
        )
        done = await outcome.acapture(create)
        if isinstance(done, outcome.Value):
            self.created.give(done.value)
        elif isinstance(done.error, Exception):
            self.created.fail(done.error)  # also a bug: the client waits for an answer
        return done.unwrap()

    async def _begin(self, entry: Entry) -> rq.Started:
        request = self._request
        wish = rq.Start(
            actor=self._actor,
            caller=request.caller,
            stays=not request.detach,
            attach=request.attach,
            rows=request.rows,
            columns=request.columns,
            passed=self._passed(),
        )
        layer = entry.container.layer
        try:
            # The worker goes on with a start that was begun, also at the supervisor's end: what it passes on
            # has to stay open for so long.
            await self._engine.services.dependencies.ready(entry.container, self._actor)
            with trio.CancelScope(shield=bool(self._descriptors)):
                started = await self._start(entry, wish)
        except PymanError:
            if request.spec.remove or (layer is not None and layer.recorded.failed):
                await self._remove(entry)
            raise
        return started

    def _passed(self) -> Passed:
        spec, given = self._request.spec, iter(self._descriptors)
        stdio = None
        if spec.log_configuration.driver == "passthrough":
            stdio = next(given), next(given), next(given)
        return Passed(stdio, tuple(zip(spec.preserve_fd, given, strict=True)))

    async def _remove(self, entry: Entry) -> None:
        """What could not be started. Why it could not is what the client is told."""
        try:
            await entry.worker.ask(rq.Remove(force=True, actor=self._actor))
        except PymanError as error:
            log.warning("cannot remove", container=entry.container.id, error=str(error))
