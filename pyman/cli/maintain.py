"""Offline maintenance: `system renumber`, `system migrate`, `system reset`; and `unshare`.

They work on the state without a supervisor, so they are the supervisor's own program: this process becomes
`pyman-supervisor maintain …`, whose output and exit status are the verb's.
"""

from __future__ import annotations

import os
import sys

from pyman.cli.options import FLAG, TEXT
from pyman.errors import EngineUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = [
    "MIGRATE_OPTIONS",
    "RENUMBER_OPTIONS",
    "RESET_OPTIONS",
    "UNSHARE_OPTIONS",
    "migrate",
    "renumber",
    "reset",
    "unshare",
]

RENUMBER_OPTIONS: tuple[Option, ...] = ()
MIGRATE_OPTIONS: tuple[Option, ...] = (
    ("new-runtime", "", TEXT, "NAME", "Give every container another OCI runtime"),
)
UNSHARE_OPTIONS: tuple[Option, ...] = (
    ("rootless-netns", "", FLAG, "", "Also in the network namespace of the user's bridges"),
)
RESET_OPTIONS: tuple[Option, ...] = (("force", "f", FLAG, "", "Do not ask"),)


def renumber(ctx: Context, args: Parsed) -> int:
    return _become(ctx, args.command.rpartition(" ")[2])


def migrate(ctx: Context, args: Parsed) -> int:
    return _become(ctx, "migrate", *(("--new-runtime", args.new_runtime) if args.new_runtime else ()))


def reset(ctx: Context, args: Parsed) -> int:
    if not args.force and not ctx.confirm(
        "This will stop and remove all containers, remove all images that no other engine's container uses,"
        " and remove the engine's whole state."
    ):
        return 0
    return _become(ctx, "reset")


def unshare(ctx: Context, args: Parsed) -> int:
    options = ("--rootless-netns",) if args.rootless_netns else ()
    return _become(ctx, "unshare", *options, "--", *args.arguments)


def _become(ctx: Context, action: str, *words: str) -> NoReturn:
    from pyman.cli.launch import command

    line = [*command(ctx.selection), "maintain", action, *words]
    sys.stdout.flush()
    try:
        os.execv(line[0], line)  # noqa: S606 - this process becomes it
    except OSError as problem:
        raise EngineUnavailable(f"cannot run '{line[0]}': {problem.strerror}", subject=line[0]) from problem
