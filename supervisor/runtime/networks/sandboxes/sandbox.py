"""An ordinary user's sandbox: the network namespace with the bridges, and the ways out of it and into it.

Rules:

- There is one for an engine. The first container on a bridge has it made, with the last one it goes; one change at a time.
- Whose it is follows from the containers' records, so a supervisor that comes up knows it before it looks at anything.
- Its way out is a program, pasta or slirp4netns (`way_out`), and ports are led in by another one, the forwarder (`ports`): both
  are in the book of helpers. One that dies is back at once, and containers stay what they are.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from pyman.errors import NetworkFailed, PymanError
from supervisor.kernel import files
from supervisor.logging import log
from supervisor.network import sandbox
from supervisor.runtime.networks.programs.rest import Rest
from supervisor.runtime.networks.sandboxes.ports import FORWARDER, Ports
from supervisor.runtime.networks.sandboxes.way_out import WayOut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["Sandbox"]

T = TypeVar("T")

_THREADS = 4


class Sandbox:
    """`known_user` for every container that has been on networks when the engine starts; then `place` and the rest."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._directory = services.layout.sandbox
        self._path = f"{self._directory}/netns"
        self._control = f"{self._directory}/control"
        self._way_out = WayOut(lambda: services.settings, self._path)
        self._users: set[str] = set()
        self._netns = -1
        self._rest = Rest(services.spawn, self.end_unused, "the network namespace of bridges")
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(_THREADS)
        self.ports = Ports(services, self._control, lambda: self._netns, self._limiter)

    def known_user(self, container: str) -> None:
        """What a record says."""
        self._users.add(container)

    # ------------------------------------------------------------------ the namespace

    async def place(self, container: str) -> int:
        """A descriptor of it, for as long as the container has not `left`. NetworkFailed."""
        async with self._turn:
            self._users.add(container)
            if self._netns < 0:
                found = await self._in_thread(partial(sandbox.find, self._path))
                self._netns = self._way_out.netns = found if found is not None else await self._made()
            return self._netns

    async def _made(self) -> int:
        """A new one. What there may be yet of an earlier one's programs is in that."""
        for key in (FORWARDER, self._way_out.key):
            await self._services.helpers.end(key)
        try:
            made = await self._in_thread(self._make)
        except OSError as error:
            raise NetworkFailed(
                f"cannot make the network namespace of bridges: {(error.strerror or str(error)).lower()}",
                subject=self._path,
            ) from error
        self._services.bridges.begin_anew()
        return made

    def _make(self) -> int:
        os.makedirs(self._directory, 0o700, exist_ok=True)
        return sandbox.make(self._path)

    async def ready(self, container: str) -> int:
        """As `place`; and containers in it reach what the host reaches. NetworkFailed, NotSupported, DeadlineExceeded."""
        netns = await self.place(container)
        await self._way_out.adopt(await self._services.helpers.ensure(self._way_out))
        return netns

    async def look(self) -> None:
        """Find out what `servers` and `host` are. NotSupported."""
        await self._way_out.look()

    @property
    def servers(self) -> Sequence[str]:
        """Who answers queries there, for those whom the host asks."""
        return self._way_out.servers

    @property
    def host(self) -> str | None:
        """An address by which containers reach the host; None: there is none."""
        return self._way_out.host

    def left(self, container: str) -> None:
        """A container needs it no more. Some time after the last one it goes."""
        self._users.discard(container)
        if not self._users and self._netns >= 0:
            self._rest.begin()

    async def end_unused(self) -> None:
        """Every container has said by now whether it needs it. PymanError: it is there still, or some of it."""
        async with self._turn:
            if not self._users:
                with trio.CancelScope(shield=True):
                    await self._remove()

    async def _remove(self) -> None:
        """All of it, past what fails; the first error comes at the end."""
        await self._services.bridges.tidy_all()  # of none it is known any more that it is there
        failures: list[PymanError] = []
        helpers = self._services.helpers
        ends: list[Callable[[], Awaitable[None]]] = [
            self._services.naming.end_unused,  # which rests as well: it would be begun anew in no namespace
            partial(helpers.end, FORWARDER),
            partial(helpers.end, self._way_out.key),
        ]
        for end in ends:
            try:
                await end()
            except PymanError as error:
                failures.append(error)
        netns, self._netns = self._netns, -1
        self._way_out.forget()
        if netns >= 0:
            os.close(netns)
        try:
            await self._in_thread(self._clear)
        except OSError as error:
            failures.append(files.storage_error(error, "remove", self._path))
        for later in failures[1:]:
            log.warning("cannot remove the network namespace of bridges", error=str(later))
        if failures:
            raise failures[0]

    def _clear(self) -> None:
        sandbox.remove(self._path)
        for name in (self._control, self._way_out.pid_file):
            with suppress(FileNotFoundError):
                os.unlink(name)
        with suppress(OSError):
            os.rmdir(self._directory)

    # ------------------------------------------------------------------ containers in it

    async def adopt(self, container: Container) -> None:
        """One that runs, of an earlier supervisor's: it has what it had, or will have it as soon as that can be. PymanError:
        not all of it."""
        helpers = self._services.helpers
        await self.place(container.id)
        try:
            await self.ports.adopt(container)
        finally:
            await helpers.insist(self._way_out)
            way_out = helpers.process_of(self._way_out.key)
            await (self._way_out.look() if way_out is None else self._way_out.adopt(way_out))

    async def heal(self, container: Container) -> None:
        """What others have removed of the ways out and in. NetworkFailed, PortInUse, DeadlineExceeded."""
        await self.ready(container.id)
        await self.ports.heal(container)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
