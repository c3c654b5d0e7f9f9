"""What a container's worker can be asked, and what it is told by watchers and timers.

A request carries the answer that its asker waits for; a notice carries the run it is about, so that
one that comes late is recognised and dropped.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import Generic, TypeVar

import msgspec

from pyman.api.event import Actor
from pyman.api.spec import Caller, NetworkWish
from pyman.api.update import UpdateRequest
from supervisor.conmon.spawn import Passed
from supervisor.runtime.answers import Answer
from supervisor.runtime.health.state import Answered
from supervisor.runtime.life.restart import Asked

__all__ = [
    "Checked",
    "Connect",
    "Disconnect",
    "Init",
    "Kill",
    "Mount",
    "Notice",
    "NoticeKind",
    "Pause",
    "ReloadNetworks",
    "Remove",
    "Rename",
    "Request",
    "Restart",
    "Start",
    "Started",
    "Stop",
    "Unmount",
    "Unpause",
    "Update",
]

T = TypeVar("T")


class Request(msgspec.Struct, Generic[T], kw_only=True):
    """Base of all requests. `actor`: whose wish it is; none: the engine's own."""

    answer: Answer[T] = msgspec.field(default_factory=Answer)
    actor: Actor | None = None


class Started(msgspec.Struct):
    """`attach`: conmon's attach socket, connected before the command ran; the asker owns it.
    `run`: the number of the run, to wait for its end."""

    changed: bool
    run: int
    notify: list[str] = []
    """What the asker is to tell its service manager."""
    attach: int | None = None
    attach_handle: int = 0

    def close(self) -> None:
        """Give up the descriptor, where nobody took it."""
        if self.attach is not None:
            os.close(self.attach)
            self.attach = None


class Init(Request[bool], kw_only=True):
    pass


class Start(Request[Started], kw_only=True):
    caller: Caller = Caller()
    """To whom it reports, unless it does to whom it was created for."""
    stays: bool = False
    """The asker is there until the container has ended."""
    attach: bool = False
    rows: int = 0
    columns: int = 0
    passed: Passed = Passed()
    """Descriptors that become the container's; the worker does not close them."""
    trigger: str = "user"
    """What the start is due to: user, or dependency."""


class Stop(Request[bool], kw_only=True):
    """Answered when the container has ended; False: there was nothing to stop."""

    timeout: float | None = None
    signal: int | None = None
    asked: Asked = Asked.STOP
    """Or SHUTDOWN, which no policy takes for a user's wish."""


class Restart(Request[bool], kw_only=True):
    """Stop if it runs, then start; answered when it runs again."""

    timeout: float | None = None


class Kill(Request[bool], kw_only=True):
    signal: int = 9


class Pause(Request[bool], kw_only=True):
    pass


class Unpause(Request[bool], kw_only=True):
    pass


class Remove(Request[bool], kw_only=True):
    force: bool = False
    timeout: float | None = None
    volumes: bool = False
    """Its anonymous volumes go with it."""


class Rename(Request[str], kw_only=True):
    """Answered with the former name."""

    name: str


class Update(Request[None], kw_only=True):
    change: UpdateRequest


class Connect(Request[bool], kw_only=True):
    """False: it is on it already, and does not run."""

    network: str
    """Its name or id, or the beginning of that."""
    wish: NetworkWish


class Disconnect(Request[None], kw_only=True):
    network: str
    force: bool = False
    """There need not be such a network any more."""


class ReloadNetworks(Request[None], kw_only=True):
    """Make anew what is missing of what it has on networks."""


class Checked(Request[str], kw_only=True):
    """What came of a health check of the run of that number. Answered with healthy, starting, unhealthy or stopped."""

    run: int
    answered: Answered
    skipped: int = 0
    """Checks that were skipped since the last answer."""


class Mount(Request[str], kw_only=True):
    """Answered with where the root filesystem is. `lasting`: for people, and recorded; else the asker undoes it."""

    lasting: bool


class Unmount(Request[bool], kw_only=True):
    """Undo one Mount. False: it is not mounted. `force`: all the lasting ones."""

    lasting: bool
    force: bool = False


class NoticeKind(Enum):
    MONITOR_GONE = "conmon has ended"
    INIT_GONE = "the container's first process has ended"
    MONITOR_LATE = "conmon has not followed its container"
    STOP_LATE = "the stop signal did not help in time"
    KILL_LATE = "SIGKILL did not help in time"
    RESTART_DUE = "the time of the policy's restart has come"
    LEASE_CHANGED = "a DHCP server may have given it another address"
    NEEDS_READY = "what it depends on is ready, or cannot be"
    TAKE_UP = "something failed in the middle and is to be taken up again"


class Notice(msgspec.Struct, frozen=True):
    kind: NoticeKind
    run: int
