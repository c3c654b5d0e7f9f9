"""Why a container was, or was not, started again: the events that led there, told as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.container import WhyReply, WhyStep
from pyman.api.event import Event
from pyman.names import STATES_WITH_PROCESS, EventStatus
from supervisor.events.filters import compile_filters
from supervisor.runtime.views.times import rfc3339

if TYPE_CHECKING:
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["explain", "sentence"]

TOLD = frozenset(
    {
        EventStatus.CREATE,
        EventStatus.DIED,
        EventStatus.KILL,
        EventStatus.MONITOR_LOST,
        EventStatus.RESTART_DECLINED,
        EventStatus.RESTART_SCHEDULED,
        EventStatus.START,
        EventStatus.STOP,
        EventStatus.WEDGED,
    }
)
STEPS = 20
"""The chain goes back to the last start by a user, and at most as far as this."""


async def explain(services: Services, container: Container) -> WhyReply:
    """From the journal; what retention has taken cannot be told."""
    matches = compile_filters(
        {"type": ["container"], "container": [container.id], "event": [str(status) for status in TOLD]}
    )
    cursor = services.journal.cursor(since=0, stream=False, matches=matches)
    chain: list[Event] = []
    while items := await cursor.next():
        for item in items:
            if isinstance(item, Event):
                if item.status == EventStatus.START.value and item.attributes.get("trigger") == "user":
                    chain.clear()
                chain.append(item)
                del chain[:-STEPS]
    steps = [WhyStep(time=e.time, seq=e.seq, status=e.status, text=sentence(e)) for e in chain]
    return WhyReply(id=container.id, name=container.name, summary=_summary(container), steps=steps)


def _summary(container: Container) -> str:
    observed = container.observed
    if observed.restart_at:
        return f"will be started again at {rfc3339(observed.restart_at)}: {observed.restart_reason}"
    running = observed.init is not None and observed.state in STATES_WITH_PROCESS
    if running and observed.history.count:
        return f"was started again {observed.history.count} times: {observed.restart_reason}"
    if observed.restart_reason:
        verb = "was started again" if running else "is not started again"
        return f"{verb}: {observed.restart_reason}"
    if not observed.started_at:
        return "was never started"
    return f"is {observed.state}"


def sentence(event: Event) -> str:
    """One event of the chain for people."""
    told = event.attributes
    who = f" (user {event.actor.uid}, process {event.actor.pid})" if event.actor is not None else ""
    match EventStatus(event.status):
        case EventStatus.CREATE:
            return f"created{who}"
        case EventStatus.START:
            by = {
                "policy": "by its restart policy",
                "boot": "after the host was booted",
                "health": "because its health check had failed",
                "dependency": "because another container depends on it",
            }
            return f"started {by.get(told.get('trigger', ''), 'by a user')}{who}"
        case EventStatus.DIED:
            code = told.get("containerExitCode", "-1")
            oom = ", out of memory" if told.get("oomKilled") else ""
            how = "with an unknown exit code" if code == "-1" else f"with exit code {code}"
            return f"ended {how}{oom}"
        case EventStatus.KILL:
            return f"was sent signal {told.get('signal', '?')}{who}"
        case EventStatus.STOP:
            return f"was stopped{' with SIGKILL' if told.get('forced') == 'true' else ''}{who}"
        case EventStatus.MONITOR_LOST:
            return f"lost its monitor: {told.get('reason', '')}"
        case EventStatus.RESTART_SCHEDULED:
            return f"restart in {told.get('delay', '?')} s: {told.get('reason', '')}"
        case EventStatus.RESTART_DECLINED:
            return f"no restart: {told.get('reason', '')}"
        case EventStatus.WEDGED:
            return told.get("error", "does not answer")
        case _:
            return event.status
