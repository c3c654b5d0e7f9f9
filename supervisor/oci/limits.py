"""Resource limits of the process (rlimits), and how readily the kernel ends it when memory is short; the limits of the
cgroup are in `resources`.

A limit above what this host lets a child have makes an OCI runtime fail with a message that names no limit.
So defaults are lowered to what is possible, and a limit that was asked for is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.host import least_oom_score, this_host
from supervisor.oci.spec import PosixRlimit
from supervisor.settings.values import RLIMITS

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec, Rlimit
    from supervisor.oci.request import BuildRequest
    from supervisor.settings.model import Settings

__all__ = ["check", "oom_score", "rlimits"]

_UNLIMITED = (1 << 64) - 1
_DEFAULTS = {"RLIMIT_NOFILE": 1 << 20, "RLIMIT_NPROC": 1 << 20}
"""Podman's, where neither the user nor the configuration names the limit."""


OOM_SCORES = range(-1000, 1001)


def check(settings: Settings, spec: ContainerSpec) -> None:
    """InvalidArgument, NotSupported: `--oom-score-adj` is not possible."""
    oom_score(settings, spec)


def oom_score(settings: Settings, spec: ContainerSpec) -> int | None:
    """What is added to the kernel's own judgement; none: as the supervisor's. Raises as `check` does."""
    asked, default = spec.oom_score_adj, settings.containers.oom_score_adj
    if asked is None:
        return None if default is None else max(default, least_oom_score())
    if asked not in OOM_SCORES:
        raise InvalidArgument(
            f"cannot use --oom-score-adj '{asked}': it must be from {OOM_SCORES[0]} to {OOM_SCORES[-1]}",
            subject="--oom-score-adj",
        )
    if asked < (least := least_oom_score()):
        raise NotSupported(
            f"cannot use --oom-score-adj '{asked}': without CAP_SYS_RESOURCE on the host it cannot be below the "
            f"supervisor's own, {least}",
            subject="--oom-score-adj",
        )
    return asked


def rlimits(request: BuildRequest) -> list[PosixRlimit]:
    """InvalidArgument: an unknown limit, or one above the host's hard limit, that was asked for."""
    hard_limits = this_host().hard_limits
    found: dict[str, PosixRlimit] = {}
    for name, value in _DEFAULTS.items():
        possible = _lower(value, hard_limits[name])
        found[name] = PosixRlimit(name, hard=possible, soft=possible)
    for limit in request.settings.containers.default_ulimits:
        most = hard_limits.get(limit.type, -1)
        hard, soft = _lower(_wire(limit.hard), most), _lower(_wire(limit.soft), most)
        found[limit.type] = PosixRlimit(limit.type, hard=hard, soft=soft)
    for limit in request.spec.r_limits:
        found[limit.type] = _asked_for(limit, hard_limits)
    return [found[name] for name in sorted(found)]


def _asked_for(limit: Rlimit, hard_limits: dict[str, int]) -> PosixRlimit:
    name = limit.type.removeprefix("RLIMIT_").lower()
    if limit.type != f"RLIMIT_{name.upper()}" or name.upper() not in RLIMITS:
        raise InvalidArgument(f"cannot set the limit '{limit.type}': it is not known", subject=limit.type)
    if limit.soft < -1 or limit.hard < -1:
        raise InvalidArgument(f"cannot set --ulimit {name}: a limit is negative", subject=name)
    hard, soft = _wire(limit.hard), _wire(limit.soft)
    most = hard_limits.get(limit.type, -1)
    if soft > hard:
        raise InvalidArgument(
            f"cannot set --ulimit {name}={limit.soft}:{limit.hard}: the soft limit is above the hard limit",
            subject=name,
        )
    if most != -1 and hard > most:
        raise InvalidArgument(
            f"cannot set --ulimit {name}={limit.soft}:{limit.hard}: this host permits no more than {most}",
            subject=name,
        )
    return PosixRlimit(limit.type, hard=hard, soft=soft)


def _wire(value: int) -> int:
    return _UNLIMITED if value == -1 else value


def _lower(value: int, most: int) -> int:
    return value if most == -1 else min(value, most)
