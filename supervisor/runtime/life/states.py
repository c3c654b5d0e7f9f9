"""The states of a container and the only ways from one to another.

A *fact* is something that was observed; a request never changes a state by itself. `after` is the one
place where a new state comes from: a pair that is not in the table raises `WrongState` and nothing has
changed. The diagram in `docs/states.md` is generated from this table (`scripts/diagram`).
"""

from __future__ import annotations

from enum import Enum

from pyman.errors import WrongState
from pyman.names import State

__all__ = ["TRANSITIONS", "Fact", "after", "diagram"]


class Fact(Enum):
    """What was observed of a container."""

    INITIALIZED = "the OCI runtime created it"
    UNDONE = "it could not be started and what was made is gone"
    STARTED = "its command runs"
    PAUSED = "its processes are frozen"
    UNPAUSED = "its processes are thawed"
    STOP_SENT = "the stop signal was sent"
    ENDED = "its process has ended"
    CLEANED = "what it used is given back"
    REMOVAL_BEGUN = "its removal has begun"
    REBOOTED = "the host was booted since"


_S = State

TRANSITIONS: dict[tuple[State, Fact], State] = {
    (_S.CREATED, Fact.INITIALIZED): _S.INITIALIZED,
    (_S.EXITED, Fact.INITIALIZED): _S.INITIALIZED,
    (_S.CREATED, Fact.UNDONE): _S.CREATED,
    (_S.EXITED, Fact.UNDONE): _S.EXITED,
    (_S.INITIALIZED, Fact.UNDONE): _S.CREATED,
    (_S.INITIALIZED, Fact.STARTED): _S.RUNNING,
    (_S.RUNNING, Fact.PAUSED): _S.PAUSED,
    (_S.PAUSED, Fact.UNPAUSED): _S.RUNNING,
    (_S.INITIALIZED, Fact.STOP_SENT): _S.STOPPING,
    (_S.RUNNING, Fact.STOP_SENT): _S.STOPPING,
    (_S.PAUSED, Fact.STOP_SENT): _S.STOPPING,
    (_S.STOPPING, Fact.STOP_SENT): _S.STOPPING,
    (_S.INITIALIZED, Fact.ENDED): _S.STOPPED,
    (_S.RUNNING, Fact.ENDED): _S.STOPPED,
    (_S.PAUSED, Fact.ENDED): _S.STOPPED,
    (_S.STOPPING, Fact.ENDED): _S.STOPPED,
    (_S.STOPPED, Fact.CLEANED): _S.EXITED,
    (_S.CREATED, Fact.REMOVAL_BEGUN): _S.REMOVING,
    (_S.STOPPED, Fact.REMOVAL_BEGUN): _S.REMOVING,
    (_S.EXITED, Fact.REMOVAL_BEGUN): _S.REMOVING,
    (_S.REMOVING, Fact.REMOVAL_BEGUN): _S.REMOVING,
    (_S.CREATED, Fact.REBOOTED): _S.CREATED,
    (_S.INITIALIZED, Fact.REBOOTED): _S.CREATED,
    (_S.RUNNING, Fact.REBOOTED): _S.EXITED,
    (_S.PAUSED, Fact.REBOOTED): _S.EXITED,
    (_S.STOPPING, Fact.REBOOTED): _S.EXITED,
    (_S.STOPPED, Fact.REBOOTED): _S.EXITED,
    (_S.EXITED, Fact.REBOOTED): _S.EXITED,
    (_S.REMOVING, Fact.REBOOTED): _S.REMOVING,
}


def after(state: State, fact: Fact, *, subject: str = "") -> State:
    """The state that a fact leads to. Raises WrongState where the table has no such pair."""
    try:
        return TRANSITIONS[state, fact]
    except KeyError:
        message = f"cannot note of container '{subject}', which is {state}, that {fact.value}"
        raise WrongState(message, subject=subject) from None


def diagram() -> str:
    """The table as a Mermaid state diagram; facts that change nothing are left out."""
    lines = ["stateDiagram-v2", "    [*] --> created"]
    for (before, fact), then in TRANSITIONS.items():
        if before is not then:
            lines.append(f"    {before} --> {then}: {fact.value}")
    return "\n".join([*lines, "    removing --> [*]"]) + "\n"
