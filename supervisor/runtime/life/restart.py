"""Whether, when and why a container is started again: one pure function and a host-wide budget.

`decide` looks at the policy, at how the container ended and at its history, and at nothing else; the
truth table in `docs/restart.md` is its test. Times are seconds of one clock that the caller chooses.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from pyman.names import RestartPolicy

__all__ = ["Asked", "Budget", "Decision", "End", "History", "Policy", "decide"]


class Policy(msgspec.Struct, frozen=True):
    """The policy with every default filled in. Times in seconds."""

    kind: RestartPolicy = RestartPolicy.NO
    tries: int = 0
    """on-failure: the most restarts after a user's start; 0: no limit."""
    delay: float = 0.1
    factor: float = 2.0
    maximum: float = 60.0
    reset: float = 10.0
    give_up_after: int = 0
    """As many restarts within `window` end it; 0: never."""
    window: float = 60.0
    stop_codes: tuple[int, ...] = ()


class Asked(Enum):
    """What had been asked of the container before it ended: by a user, by its health check, or by a supervisor that
    ends and is not to leave its containers running."""

    NOTHING = "nothing"
    STOP = "stop"
    RESTART = "restart"
    SHUTDOWN = "shutdown"
    HEALTH_RESTART = "health-restart"
    HEALTH_STOP = "health-stop"


class End(msgspec.Struct, frozen=True):
    """How a container ended."""

    code: int | None
    """Exit code, 128 + signal for a signal; none: it could not be learnt."""
    oom: bool = False
    asked: Asked = Asked.NOTHING
    rebooted: bool = False
    """The host went down under it (or was started again since it ended)."""
    ran_for: float = 0.0
    """Seconds."""


class History(msgspec.Struct, frozen=True):
    """What the policy remembers between restarts."""

    count: int = 0
    """Restarts by the policy since a user's start."""
    streak: int = 0
    """Restarts in a row, none of which ran for `Policy.reset`: the exponent of the delay."""
    recent: tuple[float, ...] = ()
    """Times of restarts within the give-up window."""


class Decision(msgspec.Struct, frozen=True):
    restart: bool
    reason: str
    """One sentence for people, also told by `pyman why`."""
    delay: float = 0.0
    failing: bool = False
    """The restart counts against the host-wide budget."""
    history: History = History()


def decide(policy: Policy, end: End, history: History, now: float) -> Decision:
    """Whether a container that ended is started again."""
    if end.asked is Asked.RESTART:
        return Decision(True, "a user asked for a restart", history=History())
    if end.rebooted:
        return _after_boot(policy, end)
    if end.asked is Asked.STOP:
        return Decision(False, "a user stopped it", history=history)
    if end.asked is Asked.SHUTDOWN:
        return _by_kind(policy, "the supervisor stopped it as it ended itself")
    if end.asked is Asked.HEALTH_RESTART:
        after = History(history.count + 1, history.streak, history.recent)
        return Decision(True, "its health check failed, and has it restarted", history=after)
    if end.asked is Asked.HEALTH_STOP:
        return Decision(False, "its health check failed, and had it stopped", history=history)
    refusal = _refusal(policy, end, history, now)
    if refusal:
        return Decision(False, refusal, history=history)

    failing = end.ran_for < policy.reset
    streak = history.streak if failing else 0
    delay = min(policy.maximum, policy.delay * policy.factor ** min(streak, 64))
    recent = tuple(t for t in history.recent if now - t < policy.window) if policy.give_up_after else ()
    return Decision(
        True,
        f"{_how(end)}, and its policy is {_policy_text(policy)}",
        delay=delay,
        failing=failing,
        history=History(
            count=history.count + 1,
            streak=streak + 1,
            recent=(*recent, now) if policy.give_up_after else (),
        ),
    )


def _after_boot(policy: Policy, end: End) -> Decision:
    if policy.kind is RestartPolicy.UNLESS_STOPPED and end.asked is Asked.STOP:
        return Decision(False, "a user stopped it before the host was booted")
    return _by_kind(policy, "the host was booted")


def _by_kind(policy: Policy, what: str) -> Decision:
    """After what was no end of the container's own: policies that want it to be up have it back."""
    up = policy.kind in (RestartPolicy.ALWAYS, RestartPolicy.UNLESS_STOPPED)
    return Decision(up, f"{what}, and its policy is {_policy_text(policy)}")


def _refusal(policy: Policy, end: End, history: History, now: float) -> str:
    """Why there is no restart, or an empty string."""
    if policy.kind is RestartPolicy.NO:
        return f"{_how(end)}, and its policy is no"
    if end.code is not None and end.code in policy.stop_codes:
        return f"{_how(end)}, which its policy takes for the end"
    if policy.kind is RestartPolicy.ON_FAILURE:
        if end.code == 0 and not end.oom:
            return f"{_how(end)}, and its policy is on-failure"
        if policy.tries and history.count >= policy.tries:
            return f"{_how(end)}, and it was restarted {history.count} times, the most its policy permits"
    if policy.give_up_after:
        recent = sum(1 for t in history.recent if now - t < policy.window)
        if recent >= policy.give_up_after:
            return f"{_how(end)}, and it was restarted {recent} times within {policy.window:g} s: given up"
    return ""


def _how(end: End) -> str:
    if end.oom:
        return "it ran out of memory"
    if end.code is None:
        return "it ended with an unknown exit code"
    if end.code > 128:
        return f"it was ended by signal {end.code - 128}" if end.code <= 192 else f"it exited with {end.code}"
    return f"it exited with {end.code}"


def _policy_text(policy: Policy) -> str:
    if policy.kind is RestartPolicy.ON_FAILURE and policy.tries:
        return f"on-failure:{policy.tries}"
    return str(policy.kind)


class Budget:
    """A host-wide limit on policy restarts of failing containers: so many at once, then a steady rate.

    `reserve` gives the earliest time at which a restart wished for a time may happen. Unused room
    grows back with time. A rate of 0 switches it off.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate if rate > 0 else 0.0
        self._tolerance = self._interval * burst
        self._theoretical = 0.0

    def reserve(self, wished: float) -> float:
        if not self._interval:
            return wished
        granted = max(wished, self._theoretical - self._tolerance)
        self._theoretical = max(self._theoretical, granted) + self._interval
        return granted
