"""The restart policy of a container: what its definition says, with the configured defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from pyman.names import RestartPolicy
from supervisor.runtime.life.restart import Policy

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.settings.model import Settings

__all__ = ["check_policy", "policy_of"]


def policy_of(spec: ContainerSpec, settings: Settings) -> Policy:
    own, default = spec.restart_backoff, settings.pyman

    def either(value: float | None, configured: float) -> float:
        return configured if value is None else value

    return Policy(
        kind=RestartPolicy(spec.restart_policy or "no"),
        tries=spec.restart_tries or 0,
        delay=either(own.delay, default.restart_delay),
        factor=either(own.factor, default.restart_factor),
        maximum=either(own.maximum, default.restart_maximum),
        reset=either(own.reset, default.restart_reset),
        give_up_after=own.give_up_after or 0,
        window=either(own.window, 60.0),
        stop_codes=tuple(own.stop_codes),
    )


def check_policy(spec: ContainerSpec) -> None:
    """Refuse a policy that cannot be meant, naming the option."""
    kinds = [str(kind) for kind in RestartPolicy]
    if spec.restart_policy and spec.restart_policy not in kinds:
        raise InvalidArgument(
            f"cannot use the restart policy '{spec.restart_policy}'", hint=f"known are {', '.join(kinds)}"
        )
    if spec.restart_tries and spec.restart_policy != RestartPolicy.ON_FAILURE.value:
        raise InvalidArgument("cannot limit restarts: only the restart policy on-failure takes a number")
    if spec.restart_tries is not None and spec.restart_tries < 0:
        raise InvalidArgument(f"cannot restart {spec.restart_tries} times")
    if spec.remove and spec.restart_policy not in ("", RestartPolicy.NO.value):
        raise InvalidArgument("cannot use --rm together with --restart", hint="drop one of them")
    if spec.preserve_fd and (
        spec.restart_policy not in ("", RestartPolicy.NO.value)
        or spec.health_check_on_failure_action == "restart"
    ):
        raise InvalidArgument(
            "cannot restart a container with --preserve-fd or --preserve-fds: the descriptors are there for one run"
        )
    backoff = spec.restart_backoff
    for name, value, least in (
        ("delay", backoff.delay, 0.0),
        ("factor", backoff.factor, 1.0),
        ("maximum", backoff.maximum, 0.0),
        ("reset", backoff.reset, 0.0),
        ("window", backoff.window, 0.001),
        ("give-up", backoff.give_up_after, 0),
    ):
        if value is not None and not least <= value <= 1e9:
            raise InvalidArgument(f"cannot use the restart {name} {value:g}: it must be at least {least:g}")
    for code in backoff.stop_codes:
        if not 0 <= code <= 255:
            raise InvalidArgument(f"cannot use the exit code {code}: exit codes are 0 to 255")
