"""A running container whose DHCP server gives it another address, or none any more: the record follows.

The interface has changed already, by the client. Its hosts and resolv.conf, and where published ports lead, change first,
and then the record, with the event: a supervisor that is killed in between finds that they differ, and does it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.names import STATES_WITH_PROCESS, EventStatus, EventType
from supervisor.runtime.networks.wired.bridged import Bridged
from supervisor.runtime.records import replaced
from supervisor.state.database import EventDraft

if TYPE_CHECKING:
    from supervisor.network.plans import Attachment
    from supervisor.runtime.life.worker import Worker

__all__ = ["follow"]


async def follow(worker: Worker) -> None:
    """NetworkFailed, NotSupported, StorageFailed, DiskFull."""
    wiring, former = worker.body.wiring, worker.observed
    if not isinstance(wiring, Bridged) or former.state not in STATES_WITH_PROCESS or not former.leased:
        return
    attachments = await wiring.leasing.found(former)
    if attachments == former.attachments:
        return
    await wiring.follow(former, replaced(former, attachments=attachments))
    events = [
        _event(worker, now)
        for was, now in zip(former.attachments, attachments, strict=True)
        if was.addresses != now.addresses
    ]
    await worker.note(attachments=attachments, events=events)


def _event(worker: Worker, attachment: Attachment) -> EventDraft:
    status = EventStatus.LEASE_CHANGED if attachment.addresses else EventStatus.LEASE_LOST
    attributes = {"network": attachment.network}
    if attachment.addresses:
        attributes["address"] = attachment.addresses[0].text
    return EventDraft(
        type=EventType.NETWORK.value,
        status=status.value,
        id=worker.container.id,
        name=worker.container.name,
        attributes=attributes,
    )
