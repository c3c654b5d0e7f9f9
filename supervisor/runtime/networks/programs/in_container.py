"""Helper programs that work in a container's network namespace, for as long as that container runs.

The namespace is open while one is begun. What is done there before and after that blocks: a thread does it.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from pyman.errors import NetworkFailed
from supervisor.kernel import inside, process
from supervisor.network.user_mode import duplicates
from supervisor.network.user_mode.programs import TUN
from supervisor.runtime.networks.programs.helper_program import Helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.programs.helper_program import Program

__all__ = ["ContainerHelper", "InterfaceHelper", "Owner"]


class Owner(Protocol):
    """Whoever has one for a container."""

    container: Container

    def key(self, name: str) -> str:
        """Of the helper that is called so: no other container's is the same."""

    async def in_thread(self, work: Callable[[], None]) -> None: ...


class ContainerHelper(Helper):
    """One that works in a container's network namespace, and for as long as that container runs."""

    def __init__(self, owner: Owner, init: ProcessRef, name: str) -> None:
        container = owner.container
        self.key = owner.key(name)
        self.name = name
        self.subject_id = container.id
        self.subject_name = container.name
        self._in_thread = owner.in_thread
        self._init = init
        self._netns = -1

    async def program(self, stack: ExitStack) -> Program:
        try:
            self._netns = inside.of_process(self._init, "network")
            stack.callback(os.close, self._netns)
            await self._in_thread(self._make_ready)
        except OSError as error:
            raise NetworkFailed(
                f"cannot connect container '{self.subject_name}' to its network: {error.strerror or error}",
                subject=self.subject_name,
            ) from error
        return await self._program(stack)

    @abstractmethod
    async def _program(self, stack: ExitStack) -> Program:
        """For the namespace, which is open now."""

    async def begun(self, ref: ProcessRef) -> None:
        del ref
        await self._in_thread(self._finish)

    async def wanted(self) -> bool:
        pidfd = process.open_pidfd(self._init)
        if pidfd is None:
            return False
        with pidfd:
            return not pidfd.exited()

    def _make_ready(self) -> None:
        """Before it begins. Blocks. OSError."""

    def _finish(self) -> None:
        """Once it is ready. Blocks. PymanError: it is of no use."""


class InterfaceHelper(ContainerHelper):
    """One that makes the container's interface."""

    device = TUN
    _search = ""
    """What the namespace's setting was."""

    def _make_ready(self) -> None:
        self._search = self._search or duplicates.search_no_more(self._netns)

    def _finish(self) -> None:
        search, self._search = self._search, ""
        with suppress(OSError):  # the container has ended
            duplicates.search_again(self._netns, search)
