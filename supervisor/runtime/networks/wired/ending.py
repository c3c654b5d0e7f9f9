"""What an engine has on its host's networks, taken away from the records alone: no supervisor can do it any more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, links
from supervisor.runtime.networks.wired.bridges import take_away
from supervisor.runtime.networks.wired.claims import Claims
from supervisor.runtime.networks.wired.tidying import noted
from supervisor.runtime.recovery.refresh import records
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.network.plans import Attachment, NetworkPlan
    from supervisor.runtime.records import Observed

__all__ = ["end_all"]


def end_all(database: str, sockets: str) -> None:
    """After the containers have ended. `sockets`: the directory of the engines' sockets, where claims are. Blocks.
    StateDamaged, StorageFailed: the records cannot be read. NetworkFailed: what failed first; everything else is gone all
    the same, since nobody has the records afterwards."""
    with Database.open(database) as state:
        loaded = state.load()
    networks: dict[str, NetworkPlan] = {each.id: each for each in noted(loaded.intents)}
    attachments: list[Attachment] = []
    works: list[Callable[[], object]] = []
    for _, observed in records(loaded):
        networks |= {each.id: each for each in observed.networks if each.driver == "bridge"}
        attachments += observed.attachments
        if observed.ports:
            works.append(partial(_unpublish, observed, sockets))
    works.append(partial(links.ensure_gone, attachments))
    claims = partial(Claims, sockets)
    works += [partial(take_away, network, loaded.journal_id, [], claims) for network in networks.values()]
    failures: list[NetworkFailed] = []
    for work in works:
        try:
            work()
        except NetworkFailed as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


def _unpublish(observed: Observed, sockets: str) -> None:
    with Claims(sockets) as claims:
        firewall.unpublish(observed.ports, observed.attachments, claims.keep(observed))
