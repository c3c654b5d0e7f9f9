"""Ports of the host that lead into containers of the sandbox: what the forwarder is told, and the next one once more.

A port of the host is a socket that the container's monitor holds. The forwarder has the same one; the next forwarder gets it
from there, and connections that come meanwhile wait in it. As with root's containers nothing is led into one that is on no
bridge.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from pyman.errors import NetworkFailed, PortInUse, PymanError
from supervisor.kernel import files
from supervisor.logging import log
from supervisor.network import sandbox
from supervisor.network.kernel.place import in_place
from supervisor.network.plans import first_addresses
from supervisor.network.relay import forwarding
from supervisor.runtime.networks.programs.helper_program import Helper, Program
from supervisor.runtime.networks.wired.holding import holders

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Attachment, Port
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Observed
    from supervisor.runtime.services import Services

__all__ = ["FORWARDER", "Ports"]

T = TypeVar("T")

FORWARDER = "sandbox-forwarder"
"""In the book of helpers."""
_PAUSES = (0.02, 0.1, 0.5)
"""Seconds after which one that has not answered is known to have ended, or another one is tried."""


class _Published(NamedTuple):
    """What leads into a container."""

    ports: Sequence[Port]
    attachments: Sequence[Attachment]


class _Forwarder(Helper):
    key = FORWARDER
    name = "forwarder"

    def __init__(self, owner: Ports) -> None:
        self._owner = owner

    async def program(self, stack: ExitStack) -> Program:
        return await self._owner.forwarder(stack)

    async def begun(self, ref: ProcessRef) -> None:
        await self._owner.lead_all(ref)


class Ports:
    """Of all containers in a sandbox."""

    def __init__(
        self, services: Services, control: str, netns: Callable[[], int], limiter: trio.CapacityLimiter
    ) -> None:
        """`control`: where the forwarder is told. `netns`: a descriptor of the sandbox, as of now. `limiter`: of threads."""
        self._services = services
        self._control = control
        self._netns = netns
        self._limiter = limiter
        self._forwarder = _Forwarder(self)
        self._published: dict[str, _Published] = {}
        self._led: dict[str, tuple[ProcessRef, _Published]] = {}
        """What a forwarder was told of a container's ports."""
        self._listening: socket.socket | None = None
        """What the forwarder is begun with."""
        self._warned = False
        """The log says that containers do not see who their clients are."""
        self._telling = trio.Lock()
        """So that what the forwarder is told last is what is so."""

    async def publish(self, container: str, observed: Observed, given: Iterable[socket.socket] = ()) -> None:
        """Lead its ports into a container; what is led there is not led twice. `given`: sockets that hold the ports, until its
        monitor does. NetworkFailed, PortInUse; then none is led."""
        if not _leads(observed):
            await self.unpublish(container)
            return
        self._published[container] = _Published(observed.ports, observed.attachments)
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
                if ref is not None and self._services.helpers.process_of(FORWARDER) == ref:
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
                if self._services.helpers.signal(FORWARDER, signal.SIGKILL):
                    log.warning(
                        "cannot close the ports of a container", container=container, error=str(error)
                    )

    async def adopt(self, container: Container) -> None:
        """Of one that runs, of an earlier supervisor's: what was led is, or will be as soon as that can be. NetworkFailed,
        PortInUse."""
        helpers, observed = self._services.helpers, container.observed
        if not _leads(observed):
            return
        published = self._published[container.id] = _Published(observed.ports, observed.attachments)
        await helpers.insist(self._forwarder)
        ref = helpers.process_of(FORWARDER)
        if ref is not None:  # the next one is told all that is published
            async with self._telling:
                if await self._in_thread(partial(_is_led, self._control, container.id, published)):
                    self._led[container.id] = ref, published
            await self._lead(container.id, ref)

    async def heal(self, container: Container) -> None:
        """What others have removed of the ways in, or an attempt to lead ports elsewhere. NetworkFailed, PortInUse."""
        observed = container.observed
        if _leads(observed):
            self._published[container.id] = _Published(observed.ports, observed.attachments)
            await self._lead_surely(container.id)
        if self._published:
            await self._lead_back()

    # ------------------------------------------------------------------ the forwarder

    async def forwarder(self, stack: ExitStack) -> Program:
        """How it is begun."""
        try:
            control = stack.enter_context(await self._in_thread(partial(forwarding.listen, self._control)))
            self._listening = control
            transparent = await self._lead_back()
        except OSError as error:
            raise files.storage_error(error, "listen at", self._control) from error
        argv = forwarding.command(self._control, control.fileno(), transparent=transparent)
        return Program(argv, descriptors=(control.fileno(),), network=self._netns())

    async def _lead_back(self) -> bool:
        """Have containers answer to their clients' own addresses. False: this kernel cannot do that."""
        try:
            await self._in_thread(partial(in_place, self._netns(), sandbox.lead_back))
        except PymanError as error:
            if not self._warned:
                self._warned = True
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


def _leads(observed: Observed) -> bool:
    """Something is to lead into it."""
    return bool(observed.ports) and any(each.driver == "bridge" for each in observed.attachments)


def _targets(published: _Published) -> list[tuple[list[str], int]]:
    """For each port a container's addresses. NetworkFailed: it has none."""
    firsts = first_addresses(published.attachments)
    if not firsts:
        port = published.ports[0].host_port
        raise NetworkFailed(f"cannot publish port {port}: the container has no address on a bridge")
    addresses = [firsts[ipv6] for ipv6 in sorted(firsts)]
    return [(addresses, port.container_port) for port in published.ports]
