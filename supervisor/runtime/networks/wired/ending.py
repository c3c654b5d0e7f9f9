"""What an engine has on its host's networks, taken away from the records alone: no supervisor can do it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.network.kernel import firewall, links
from supervisor.runtime.networks.wired.bridges import take_away
from supervisor.runtime.networks.wired.tidying import noted
from supervisor.runtime.recovery.refresh import records
from supervisor.state.database import Database

if TYPE_CHECKING:
    from supervisor.network.plans import NetworkPlan

__all__ = ["end_all"]


def end_all(database: str) -> None:
    """After the containers have ended. StateDamaged, StorageFailed: the records cannot be read. NetworkFailed."""
    with Database.open(database) as state:
        loaded = state.load()
    networks: dict[str, NetworkPlan] = {each.id: each for each in noted(loaded.intents)}
    interfaces: list[str] = []
    for _, observed in records(loaded):
        networks |= {each.id: each for each in observed.networks if each.driver == "bridge"}
        interfaces += [each.host_interface for each in observed.attachments if each.host_interface]
        if observed.ports:
            firewall.unpublish(observed.ports, observed.attachments)
    links.ensure_gone(interfaces)
    for network in networks.values():
        take_away(network)
