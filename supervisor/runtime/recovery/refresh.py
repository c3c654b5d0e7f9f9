"""The records as they are read at start, and what a reboot makes of them.

Only a differing boot id is a reboot: no process, mount or network of a container is left then, whatever
the run directories say. A container that ran has died without telling its exit code, unless the exit
file in its static directory survived. What the restart policy makes of that is decided here, in the same
transaction.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pyman.errors import StateDamaged
from pyman.names import STATES_WITH_PROCESS, EventStatus, EventType, State
from supervisor.conmon import exit
from supervisor.runtime.container import Container
from supervisor.runtime.life.policy import policy_of
from supervisor.runtime.life.restart import Asked, End, History, decide
from supervisor.runtime.life.states import Fact, after
from supervisor.runtime.networks.wiring import NOT_WIRED
from supervisor.runtime.records import (
    Definition,
    ExecDefinition,
    ExecObserved,
    Observed,
    Wanted,
    decode,
    encode,
)
from supervisor.state.database import DeleteRecord, EventDraft, PutMeta, PutState

if TYPE_CHECKING:
    from supervisor.runtime.services import Services
    from supervisor.state.database import Change, Loaded, Record

__all__ = ["after_boot", "exec_record", "in_foreign_container", "records"]


Pair = tuple[Definition, Observed]
_D = TypeVar("_D", bound=msgspec.Struct)
_O = TypeVar("_O", bound=msgspec.Struct)


def in_foreign_container(path: str = "/run/.containerenv") -> bool:
    """This supervisor runs in a container into which another engine has mounted its store. What was running may still
    be, on a host that cannot be seen from here: nothing is taken for the end of it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "graphRootMounted=1" in file.read(1 << 16).splitlines()
    except OSError:
        return False


def records(loaded: Loaded) -> list[Pair]:
    """Every container that is recorded. One that cannot be read is named and the start refused: going on
    without it would mean forgetting what it owns."""
    return [_read(record, Definition, Observed) for record in loaded.records if record.kind == "container"]


def exec_record(record: Record) -> tuple[ExecDefinition, ExecObserved]:
    """An exec session that is recorded. Raises StateDamaged like `records`."""
    return _read(record, ExecDefinition, ExecObserved)


def _read(record: Record, definition: type[_D], observed: type[_O]) -> tuple[_D, _O]:
    try:
        return decode(record.definition, definition), decode(record.state, observed)
    except msgspec.DecodeError as error:
        what = f"container '{record.name}'" if record.kind == "container" else f"{record.kind} {record.id}"
        raise StateDamaged(
            f"cannot read the record of {what}: {error}",
            subject=record.name or record.id,
            hint="pyman system check tells more",
        ) from None


async def after_boot(services: Services, pairs: list[Pair], boot: str, *, rebooted: bool) -> list[Pair]:
    """Refresh everything and record the present boot. `rebooted` False: this is the first start ever."""
    changes: list[Change] = [PutMeta("boot_id", boot)]
    events: list[EventDraft] = []
    refreshed: list[Pair] = []
    if rebooted:
        for definition, observed in pairs:
            new, told = _refreshed(services, definition, observed)
            refreshed.append((definition, new))
            changes.append(PutState("container", definition.id, encode(new)))
            events.extend(told)
        changes.extend(
            DeleteRecord(r.kind, r.id)
            for r in services.database.load().records
            if r.kind in ("exec", "helper")
        )
        events.append(EventDraft(type=EventType.SYSTEM.value, status=EventStatus.REFRESH.value))
    await services.database.commit(changes, events, durable=True)
    return refreshed if rebooted else pairs


def _refreshed(
    services: Services, definition: Definition, observed: Observed
) -> tuple[Observed, list[EventDraft]]:
    container = Container(definition, observed)
    events: list[EventDraft] = []
    now = time.time_ns()
    changes: dict[str, Any] = {
        "state": after(observed.state, Fact.REBOOTED, subject=definition.name),
        "monitor": None,
        "init": None,
        "monitor_state": "",
        "stop_deadline": 0,
        "freezing": False,
        "mounts": 0,
        "restart_at": 0,
        **NOT_WIRED,
    }
    ran = observed.state in STATES_WITH_PROCESS and observed.state is not State.INITIALIZED
    code = observed.exit_code
    if ran:
        persisted = exit.read_exit(
            services.layout.exits, services.layout.container_persist(definition.id), definition.id
        )
        code = None if persisted is None else persisted.code
        finished = now if persisted is None else persisted.time_ns
        changes.update(exit_code=code, exit_known=persisted is not None, finished_at=finished)
        attributes: dict[str, Any] = {
            "containerExitCode": str(-1 if code is None else code),
            "reason": "reboot",
        }
        events.append(container.event(EventStatus.DIED, **attributes))
    removed = observed.wanted is Wanted.REMOVED or observed.leaving
    if removed or (definition.spec.remove and observed.started_at):
        return msgspec.structs.replace(observed, **changes, wanted=Wanted.REMOVED), events

    started_once = observed.started_at > 0 or observed.wanted is Wanted.RUNNING
    end = End(code=code, asked=observed.asked, rebooted=True)
    decision = decide(policy_of(definition.spec, services.settings), end, History(), 0.0)
    if observed.asked is Asked.RESTART or (started_once and decision.restart):
        changes.update(wanted=Wanted.RUNNING, restart_at=now, restart_delay=0.0, next_trigger="boot")
        changes.update(restart_reason=decision.reason, history=History(), asked=Asked.NOTHING)
        changes.update(again=True, asked_by=None)
        events.append(container.event(EventStatus.RESTART_SCHEDULED, reason=decision.reason, delay="0.000"))
    else:
        changes.update(wanted=Wanted.STOPPED)
        if ran:
            changes.update(restart_reason=decision.reason)
            if definition.spec.restart_policy not in ("", "no"):
                events.append(container.event(EventStatus.RESTART_DECLINED, reason=decision.reason))
    return msgspec.structs.replace(observed, **changes), events
