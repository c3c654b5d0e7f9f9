"""`pyman update`: limits, restart policy, health check and environment of a container that exists."""

from __future__ import annotations

import os

from pyman.cli.attach import one_name
from pyman.cli.healthcheck import HEALTH_OPTIONS, health_settings
from pyman.cli.options import CSV, FLAG, LIST, TEXT
from pyman.cli.resources import LIMIT_OPTIONS, limit_settings
from pyman.cli.values import environment, rlimits
from pyman.errors import InvalidArgument, RuntimeFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["update"]

UPDATE_OPTIONS: tuple[Option, ...] = (
    ("env", "e", LIST, "NAME[=VALUE]", "Set a variable, from the next start on"),
    *HEALTH_OPTIONS,
    ("latest", "l", FLAG, "", "The container that was created last"),
    *LIMIT_OPTIONS,
    ("restart", "", TEXT, "POLICY[:N]", "When to start it again: no, on-failure[:N], always, unless-stopped"),
    ("ulimit", "", CSV, "NAME=SOFT[:HARD]", "Set a resource limit of its processes, from the next start on"),
    ("unsetenv", "", LIST, "NAME", "Leave a variable out, from the next start on"),
)


def update(ctx: Context, args: Parsed) -> int:
    changes: dict[str, Any] = limit_settings(args, change=True) | health_settings(args, change=True)
    if args.restart:
        from pyman.cli.restart import restart_policy

        changes |= restart_policy(args.restart)
    if args.env:
        changes["env"] = environment(args.env, os.environ, "option --env")
    if args.ulimit:
        changes["r_limits"] = rlimits(args.ulimit)
    if args.unsetenv:
        changes["unsetenv"] = args.unsetenv
    if not changes:
        raise InvalidArgument(
            "cannot update a container: nothing to change was given", hint="see 'pyman update --help'"
        )
    try:
        reply = ctx.call("Container.Update", {"name": one_name(ctx, args), **changes})
    except RuntimeFailed as error:  # whose own status tells of a command that cannot be run
        ctx.fail(error)
        return 125
    ctx.out(reply["id"])
    return 0
