"""A container's part in networks: what of it a run has, by the mode of its network namespace.

`plan` comes before the run is recorded, `ground` beside its root filesystem, `connect` between the OCI runtime's create and
start, `take_down` after its end or a start that failed. Each can be repeated, and each but the first acts on what the
record says: so the next supervisor finishes, or takes away, what a killed one began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.oci.request import Networking
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["NOT_WIRED", "WIRED", "Unwired", "Wiring", "wiring_of"]

WIRED = frozenset({"bridge", "pasta", "slirp4netns"})
"""Modes in which a container takes something of the host."""
NOT_WIRED: dict[str, Any] = {"attachments": [], "networks": [], "ports": [], "rewiring": ""}
"""What the record says of a container without a run."""


class Wiring(Protocol):
    """One for each container."""

    async def plan(self) -> dict[str, Any]:
        """What the record of the coming run says: addresses and ports that are its own from now on. What is recorded
        already is kept. InvalidArgument, AddressInUse, PortInUse, NoSuchNetwork, NetworkFailed."""

    def stays(self) -> bool:
        """What is recorded is what the coming run is to have. Else that is taken down, before it is planned."""

    def drop(self) -> None:
        """What was planned and not recorded is nobody's again; a run that is recorded keeps what it has."""

    def held(self) -> Sequence[int]:
        """Descriptors that conmon has to hold as long as the container lives."""

    async def ground(self) -> None:
        """What is needed outside of the container. NetworkFailed, NotSupported."""

    def told(self) -> Networking | None:
        """What its hosts and resolv.conf say. None: nothing of networks."""

    async def connect(self, init: ProcessRef) -> dict[str, Any]:
        """The network namespace of a container whose command does not run yet; what the record says besides from then on.
        NetworkFailed, NotSupported, StorageFailed, DiskFull, DeadlineExceeded."""

    async def hold(self, *, alone: bool) -> None:
        """What a container that runs has is nobody else's: for a supervisor that has found it, and when its monitor, which
        held that, has ended before it. `alone`: it has."""

    async def adopt(self, init: ProcessRef) -> None:
        """A container that runs, and was connected by an earlier supervisor."""

    async def turn_over(self) -> None:
        """What is of a run alone, where another one follows at once. NetworkFailed: something is left."""

    async def take_down(self) -> None:
        """All of it, at the end of a run. NetworkFailed: something is left."""

    def close(self) -> None:
        """The supervisor ends; its descriptors do."""


class Unwired:
    """No network but what the kernel, the host or another container brings."""

    async def plan(self) -> dict[str, Any]:
        return {}

    def stays(self) -> bool:
        return True

    def drop(self) -> None:
        pass

    def held(self) -> Sequence[int]:
        return ()

    async def ground(self) -> None:
        pass

    def told(self) -> Networking | None:
        return None

    async def connect(self, init: ProcessRef) -> dict[str, Any]:
        del init
        return {}

    async def hold(self, *, alone: bool) -> None:
        pass

    async def adopt(self, init: ProcessRef) -> None:
        pass

    async def turn_over(self) -> None:
        pass

    async def take_down(self) -> None:
        pass

    def close(self) -> None:
        pass


def wiring_of(services: Services, container: Container) -> Wiring:
    """By the mode of its network namespace."""
    match container.definition.spec.netns.nsmode:
        case "bridge":
            # Only now: not every engine has one.
            if services.settings.rootless:
                from supervisor.runtime.networks.sandboxes.sandboxed import Sandboxed

                return Sandboxed(services, container)
            from supervisor.runtime.networks.wired.bridged import Bridged

            return Bridged(services, container)
        case "pasta":
            from supervisor.runtime.networks.wired.by_pasta import ByPasta

            return ByPasta(services, container)
        case "slirp4netns":
            from supervisor.runtime.networks.wired.by_slirp4netns import BySlirp4netns

            return BySlirp4netns(services, container)
    return Unwired()
