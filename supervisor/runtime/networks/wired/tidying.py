"""What is taken away after the last container of a network, or after any, without anybody waiting for it.

The kernel takes a container's interfaces away itself, a moment after the network namespace has ended, and to remove a bridge
takes it some ten milliseconds. So both are looked after when nobody has left for a while; a network whose next container
comes earlier keeps its bridge. That there may be a bridge is recorded before it is made, and until it is gone: what a
supervisor that was killed has left is the next one's to take away. One that others need, who have interfaces on it, stays; nobody
tells when they have gone, so it is looked at again on occasions.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from pyman.errors import PymanError, StateDamaged
from supervisor.logging import log
from supervisor.network.plans import NetworkPlan
from supervisor.state.changes import DropIntent, PutIntent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from typing import Any

    from supervisor.network.plans import Attachment
    from supervisor.state.database import Database

__all__ = ["Outcome", "Tidying", "identity", "noted"]

_PREFIX = "bridge-"
"""Of the intents' keys; a network's id follows."""
_REST = 1.0
"""Seconds after the last of those that have left."""
_encode = msgspec.json.Encoder().encode


class Outcome(Enum):
    """Of an attempt to take a bridge away."""

    DONE = "done"
    """It is gone, or somebody else's to take away."""
    NEEDED = "needed"
    """Something is on it: look again when something else on the same bridge is left, or somebody makes or removes a network."""
    LATER = "later"
    """Try again in a while."""


class _Left(NamedTuple):
    network: NetworkPlan
    netns: int | None
    """A descriptor of its own, or None: this process's."""
    attachment: Attachment | None
    """Whose end on the host the kernel may not have taken away yet."""
    at: float

    @property
    def bridge(self) -> tuple[str, int]:
        """Whose it is, and where."""
        return self.network.id, identity(self.netns)


class Tidying:
    """`interfaces_gone` removes the hosts' ends from a namespace, if the kernel has not yet. `bridge_gone` removes the bridge
    of a network that nobody is on."""

    def __init__(
        self,
        database: Database | None,
        spawn: Callable[[Callable[[], Awaitable[Any]]], object],
        interfaces_gone: Callable[[Sequence[Attachment], int | None], Awaitable[None]],
        bridge_gone: Callable[[NetworkPlan, int | None], Awaitable[Outcome]],
    ) -> None:
        """`database`: None: nothing need be recorded."""
        self._database = database
        self._spawn = spawn
        self._interfaces_gone = interfaces_gone
        self._bridge_gone = bridge_gone
        self._expected: set[str] = set()
        """Networks of which it is recorded that there may be a bridge."""
        self._left: list[_Left] = []
        self._needed: dict[str, tuple[NetworkPlan, int]] = {}
        """Networks whose bridges others need, by their ids, and where they are."""
        self._turn = trio.Lock()
        """One at a time looks after what is left, and then it is gone for the next one as well."""
        self._runs = False
        self._hurry = trio.Event()
        self._tidied = trio.Event()

    async def expect(self, network: NetworkPlan) -> None:
        """Its bridge is about to be made."""
        if self._database is not None and network.id not in self._expected:
            await self._database.commit([PutIntent(_PREFIX + network.id, _encode(network))])
            self._expected.add(network.id)

    def recover(self, intents: Mapping[str, bytes]) -> None:
        """Of networks whose bridges may be there. StateDamaged."""
        for network in noted(intents):
            self._expected.add(network.id)
            self.note(network, None)

    def note(self, network: NetworkPlan, netns: int | None, attachment: Attachment | None = None) -> None:
        """Somebody has left it."""
        own = None if netns is None else os.dup(netns)
        self._left.append(_Left(network, own, attachment, trio.current_time()))
        if not self._runs:
            self._runs = True
            self._tidied = trio.Event()
            self._spawn(self._run)

    async def tidy_network(self, id: str) -> None:
        """Now, because the network is about to be removed; what is being taken away already is waited for."""
        async with self._turn:
            some = [each for each in self._left if each.network.id == id]
            self._left = [each for each in self._left if each.network.id != id]
            await self._tidy(some, idle=True)
            if not some:
                await self._look_again(None, lambda network: network.id == id)

    async def tidy_all(self) -> None:
        """Now, and until it is done."""
        await self.look_again(None)
        if self._runs:
            self._hurry.set()
            await self._tidied.wait()

    async def look_again(self, netns: int | None) -> None:
        """Those who need a bridge there may have gone meanwhile."""
        if self._needed:
            async with self._turn:
                await self._look_again(netns, lambda _network: True)

    def begin_anew(self) -> None:
        """What there was is gone, with the network namespace that it was in."""
        self._needed.clear()

    async def _run(self) -> None:
        try:
            while self._left:
                with trio.move_on_after(_REST):
                    await self._hurry.wait()
                async with self._turn:
                    left, self._left = self._left, []
                    await self._tidy(left, idle=self._hurry.is_set())
        finally:
            _close(self._left)
            self._left = []
            self._runs = False
            self._hurry = trio.Event()
            self._tidied.set()

    async def _tidy(self, left: Sequence[_Left], *, idle: bool) -> None:
        """`idle`: though somebody may have left just now."""
        groups: dict[tuple[str, int], list[_Left]] = {}
        for each in left:
            groups.setdefault(each.bridge, []).append(each)
        try:
            for some in groups.values():
                await self._tidy_one(some, idle=idle)
        finally:
            _close(left)

    async def _tidy_one(self, left: Sequence[_Left], *, idle: bool) -> None:
        """Of one network, in one place."""
        last = left[-1]
        try:
            if attachments := [each.attachment for each in left if each.attachment is not None]:
                await self._interfaces_gone(attachments, last.netns)
        except PymanError as error:  # the kernel does it, or whoever looks at the bridge
            log.warning("cannot remove what a network has left", network=last.network.name, error=str(error))
        if trio.current_time() - last.at < _REST and not idle:
            self.note(last.network, last.netns)
            return
        network = last.network
        if await self._attempt(network, last.netns) is Outcome.LATER and not self._hurry.is_set():
            self._needed.pop(network.id, None)
            self.note(network, last.netns)

        def is_beside(other: NetworkPlan) -> bool:
            return other.interface == network.interface and other.id != network.id

        await self._look_again(last.netns, is_beside)

    async def _look_again(self, netns: int | None, which: Callable[[NetworkPlan], bool]) -> None:
        where = identity(netns)
        for network, place in list(self._needed.values()):
            if place == where and which(network):
                await self._attempt(network, netns)

    async def _attempt(self, network: NetworkPlan, netns: int | None) -> Outcome:
        try:
            outcome = await self._bridge_gone(network, netns)
        except PymanError as error:
            log.warning("cannot remove what a network has left", network=network.name, error=str(error))
            outcome = Outcome.NEEDED
        self._needed.pop(network.id, None)
        if outcome is not Outcome.DONE:
            self._needed[network.id] = network, identity(netns)
        return outcome

    async def forget(self, network: NetworkPlan) -> None:
        """Its bridge is gone."""
        if self._database is not None and network.id in self._expected:
            self._expected.discard(network.id)
            await self._database.commit([DropIntent(_PREFIX + network.id)])


def noted(intents: Mapping[str, bytes]) -> Iterator[NetworkPlan]:
    """Networks whose bridges may be there, of what is recorded as intended. StateDamaged."""
    for key, body in intents.items():
        if key.startswith(_PREFIX):
            try:
                yield msgspec.json.decode(body, type=NetworkPlan)
            except msgspec.DecodeError as error:
                raise StateDamaged(f"cannot read what is recorded of a bridge: {error}") from None


def identity(netns: int | None) -> int:
    """Of a network namespace, as long as somebody holds it; None: this process's."""
    return 0 if netns is None else os.fstat(netns).st_ino


def _close(left: Sequence[_Left]) -> None:
    for each in left:
        if each.netns is not None:
            os.close(each.netns)
