"""An ordinary user's sandbox: the network namespace with the bridges, its way out, and what leads ports into it.

Rules:

- There is one for an engine. The first container on a bridge has it made, with the last one it goes; one change at a time.
- Whose it is follows from the containers' records, so a supervisor that comes up knows it before it looks at anything.
- Its way out is a program, pasta or slirp4netns, and ports are led in by another one, the forwarder: both are in the book of
  helpers. One that dies is back at once, and containers stay what they are.
- A port of the host is a socket that the container's monitor holds. The forwarder has the same one; the next forwarder
  gets it from there, and connections that come meanwhile wait in it.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from pyman.errors import NetworkFailed, PortInUse, PymanError
from supervisor.kernel import files
from supervisor.logging import log
from supervisor.network import sandbox
from supervisor.network.kernel.place import in_place
from supervisor.network.plans import is_ipv6
from supervisor.network.relay import forwarding
from supervisor.runtime.networks.programs.helper_start import Helper, Program
from supervisor.runtime.networks.programs.rest import Rest
from supervisor.runtime.networks.sandboxes.way_out import WayOut
from supervisor.runtime.networks.wired.holding import holders

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Attachment, Port
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["Sandbox"]

T = TypeVar("T")

_THREADS = 4
_PAUSES = (0.02, 0.1, 0.5)
"""Seconds after which one that has not answered is known to have ended, or another one is tried."""


class _Published(NamedTuple):
    """What leads into a container."""

    ports: Sequence[Port]
    attachments: Sequence[Attachment]


class _Forwarder(Helper):
    key = "sandbox-forwarder"
    name = "forwarder"

    def __init__(self, owner: Sandbox) -> None:
        self._owner = owner

    async def program(self, stack: ExitStack) -> Program:
        return await self._owner.forwarder(stack)

    async def begun(self, ref: ProcessRef) -> None:
        await self._owner.lead_all(ref)


class Sandbox:
    """`known_user` for every container that has been on networks when the engine starts; then `place` and the rest."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._directory = services.layout.sandbox
        self._path = f"{self._directory}/netns"
        self._control = f"{self._directory}/control"
        self._way_out = WayOut(lambda: services.settings, self._path)
        self._forwarder = _Forwarder(self)
        self._users: set[str] = set()
        self._published: dict[str, _Published] = {}
        self._led: dict[str, tuple[ProcessRef, _Published]] = {}
        """What a forwarder was told of a container's ports."""
        self._listening: socket.socket | None = None
        """What the forwarder is begun with."""
        self._is_told = False
        """The log says that containers do not see who their clients are."""
        self._telling = trio.Lock()
        """So that what the forwarder is told last is what is so."""
        self._netns = -1
        self._rest = Rest(services.spawn, self.settle, "the network namespace of bridges")
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(_THREADS)

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
        for key in (self._forwarder.key, self._way_out.key):
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
        """As `place`; and containers in it reach what the host reaches. NetworkFailed, DeadlineExceeded."""
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

    async def settle(self) -> None:
        """Every container has said by now whether it needs it. PymanError: it is there still, or some of it."""
        async with self._turn:
            if not self._users:
                with trio.CancelScope(shield=True):
                    await self._remove()

    async def _remove(self) -> None:
        """All of it, past what fails; the first error comes at the end."""
        await self._services.bridges.tidy_all()  # of none it is known any more that it is there
        failures: list[PymanError] = []
        for key in (self._forwarder.key, self._way_out.key):
            try:
                await self._services.helpers.end(key)
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

    # ------------------------------------------------------------------ ports

    async def publish(
        self,
        container: str,
        ports: Sequence[Port],
        attachments: Sequence[Attachment],
        given: Iterable[socket.socket] = (),
    ) -> None:
        """Lead ports into a container; what is led there is not led twice. `given`: sockets that hold the ports, until its
        monitor does. NetworkFailed, PortInUse; then none is led."""
        self._published[container] = _Published(ports, attachments)
        try:
            await self._lead_surely(container, given)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.unpublish(container)
            raise

    async def _lead_surely(self, container: str, given: Iterable[socket.socket] = ()) -> None:
        """Also if the forwarder dies meanwhile: by the next one. NetworkFailed, PortInUse."""
        for pause in (*_PAUSES, None):
            ref = None
            try:
                ref = await self._services.helpers.ensure(self._forwarder)
                await self._lead(container, ref, given)
            except NetworkFailed:
                if pause is None:
                    raise
                await trio.sleep(pause)
                if ref is not None and self._services.helpers.process_of(self._forwarder.key) == ref:
                    raise
            else:
                return

    async def unpublish(self, container: str) -> None:
        """It need not be published, nor by this supervisor. What cannot be told to the forwarder ends with it."""
        self._published.pop(container, None)
        async with self._telling:
            self._led.pop(container, None)
            try:
                await self._in_thread(partial(forwarding.drop, self._control, container))
            except NetworkFailed as error:
                # One that does not answer is of no use to anybody, and the next one does not lead them.
                if self._services.helpers.signal(self._forwarder.key, signal.SIGKILL):
                    log.warning(
                        "cannot close the ports of a container", container=container, error=str(error)
                    )

    async def adopt(self, container: Container) -> None:
        """One that runs, of an earlier supervisor's: it has what it had, or will have it as soon as that can be. PymanError:
        not all of it."""
        helpers = self._services.helpers
        await self.place(container.id)
        try:
            if container.observed.ports:
                await self._adopt_ports(container)
        finally:
            await helpers.insist(self._way_out)
            way_out = helpers.process_of(self._way_out.key)
            await (self._way_out.look() if way_out is None else self._way_out.adopt(way_out))

    async def _adopt_ports(self, container: Container) -> None:
        helpers, observed = self._services.helpers, container.observed
        published = self._published[container.id] = _Published(observed.ports, observed.attachments)
        await helpers.insist(self._forwarder)
        ref = helpers.process_of(self._forwarder.key)
        if ref is not None:  # the next one is told all that is published
            async with self._telling:
                if await self._in_thread(partial(_is_led, self._control, container.id, published)):
                    self._led[container.id] = ref, published
            await self._lead(container.id, ref)

    async def forwarder(self, stack: ExitStack) -> Program:
        """How it is begun."""
        try:
            control = stack.enter_context(await self._in_thread(partial(forwarding.listen, self._control)))
            self._listening = control
            transparent = await self._lead_back()
        except OSError as error:
            raise files.storage_error(error, "listen at", self._control) from error
        argv = forwarding.command(self._control, control.fileno(), transparent=transparent)
        return Program(argv, descriptors=(control.fileno(),), network=self._netns)

    async def heal(self, container: Container) -> None:
        """What others have removed of the ways out and in, or an attempt to lead ports elsewhere. NetworkFailed, PortInUse,
        DeadlineExceeded."""
        await self.ready(container.id)
        observed = container.observed
        if observed.ports and observed.attachments:
            self._published[container.id] = _Published(observed.ports, observed.attachments)
            await self._lead_surely(container.id)
        if self._published:
            await self._lead_back()

    async def _lead_back(self) -> bool:
        """Have containers answer to their clients' own addresses. False: this kernel cannot do that."""
        try:
            await self._in_thread(partial(in_place, self._netns, sandbox.lead_back))
        except PymanError as error:
            if not self._is_told:
                self._is_told = True
                log.warning("containers see the sandbox's address, not their clients'", reason=str(error))
            return False
        return True

    async def lead_all(self, ref: ProcessRef) -> None:
        """Tell a new forwarder everything. A container whose ports cannot be led goes without, and the others do not."""
        if self._listening is not None:
            self._listening.close()  # or nobody would hear that the program has ended
        self._led.clear()
        for container in list(self._published):
            found = self._services.find(container)
            if found is None or found.observed.monitor is None:
                continue  # whoever is about to publish them has the sockets
            try:
                await self._lead(container, ref)
            except PymanError as error:
                log.warning("cannot lead ports into a container", container=container, error=str(error))

    async def _lead(self, container: str, ref: ProcessRef, given: Iterable[socket.socket] = ()) -> None:
        """As it is published when its turn comes."""
        async with self._telling:
            published = self._published.get(container)
            if published is None or self._led.get(container) == (ref, published):
                return
            found = self._services.find(container)
            monitor = found.observed.monitor if found is not None else None
            self._led.pop(container, None)
            await self._lead_back()  # somebody may have flushed that
            await self._in_thread(partial(_lead, self._control, container, published, monitor, list(given)))
            self._led[container] = ref, published

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


def _lead(
    control: str,
    container: str,
    published: _Published,
    monitor: ProcessRef | None,
    given: Sequence[socket.socket],
) -> None:
    with ExitStack() as stack:
        try:
            sockets = holders(published.ports, monitor, given, stack)
        except PortInUse:
            # Where the monitor has ended, nobody but the forwarder has them, if it leads them yet.
            forwarding.drop(control, container)
            sockets = holders(published.ports, monitor, given, stack)
        forwarding.drop(control, container)  # what was left of an attempt
        forwarding.lead(control, container, sockets, _targets(published))


def _is_led(control: str, container: str, published: _Published) -> bool:
    return forwarding.summary(control, container) == forwarding.summary_of(_targets(published))


def _targets(published: _Published) -> list[tuple[list[str], int]]:
    return [(_addresses(published.attachments, port), port.container_port) for port in published.ports]


def _addresses(attachments: Sequence[Attachment], port: Port) -> list[str]:
    """The container's first one of each kind."""
    found = [each.address for attachment in attachments for each in attachment.addresses]
    firsts = [next((each for each in found if is_ipv6(each) == ipv6), "") for ipv6 in (False, True)]
    if not any(firsts):
        raise NetworkFailed(f"cannot publish port {port.host_port}: the container has no address")
    return [each for each in firsts if each]
