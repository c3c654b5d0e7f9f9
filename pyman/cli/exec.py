"""`pyman exec`: a further command in a running container."""

from __future__ import annotations

import os

from pyman.cli.attach import latest
from pyman.cli.attached import Wish, converse
from pyman.cli.options import CSV, FLAG, LIST, TEXT
from pyman.cli.preserving import PRESERVE_OPTIONS, preserved
from pyman.cli.values import environment, read_pairs
from pyman.errors import CallerError, HostError, InvalidArgument, NoSuchContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["EXEC_OPTIONS", "execute"]

EXEC_OPTIONS: tuple[Option, ...] = (
    ("detach", "d", FLAG, "", "Run it in the background and print the session's id"),
    ("detach-keys", "", TEXT, "KEYS", "Keys that detach from the session (ctrl-p,ctrl-q)"),
    ("env", "e", LIST, "NAME[=VALUE]", "Set a variable; without a value the caller's own is taken"),
    ("env-file", "", CSV, "FILE", "Set the variables in a file"),
    ("interactive", "i", FLAG, "", "Keep standard input open"),
    ("latest", "l", FLAG, "", "The container created last"),
    *PRESERVE_OPTIONS,
    ("privileged", "", FLAG, "", "Give the command every capability"),
    ("tty", "t", FLAG, "", "Give the command a terminal"),
    ("user", "u", TEXT, "USER[:GROUP]", "The command's user and group"),
    ("workdir", "w", TEXT, "DIR", "The command's working directory"),
)

FAILED = 255
"""As Podman: the container is there, but the session could not be made."""


def execute(ctx: Context, args: Parsed) -> int:
    numbers = preserved(args) if args.preserve_fd or args.preserve_fds else []
    command = list(args.arguments)
    name = latest(ctx) if args.latest else command.pop(0)
    try:
        if not command:
            raise InvalidArgument("cannot run nothing", hint="give a command after the container")
        return _session(ctx, args, _request(args, name, command), numbers)
    except NoSuchContainer:
        raise
    except (CallerError, HostError) as error:
        if error.exit_status != 125 or args.detach:
            raise
        ctx.fail(error)
        return FAILED


def _request(args: Parsed, name: str, command: list[str]) -> dict[str, Any]:
    request: dict[str, Any] = {"name": name, "command": command}
    variables: dict[str, str] = {}
    for path in args.env_file:
        variables.update(environment(read_pairs(path, "--env-file"), os.environ, f"the file '{path}'"))
    variables.update(environment(args.env, os.environ, "option --env"))
    fields = {
        "env": variables,
        "user": args.user,
        "work_dir": args.workdir,
        "terminal": args.tty,
        "stdin": args.interactive,
        "privileged": args.privileged,
        "detach": args.detach,
    }
    request.update((field, value) for field, value in fields.items() if value)
    if args.given("detach_keys"):
        request["detach_keys"] = args.detach_keys
    return request


def _session(ctx: Context, args: Parsed, request: dict[str, Any], numbers: list[int]) -> int:
    if numbers:
        request["preserve_fd"] = numbers
    wish = Wish(
        stdin=args.interactive,
        tty=args.tty,
        keys=args.detach_keys if args.given("detach_keys") else None,
        is_exec=True,
    )
    if not args.detach:
        return converse(ctx, "Container.Exec", {**request, **wish.size()}, wish, descriptors=numbers)
    for reply in ctx.connect().stream("Container.Exec", request, numbers):
        reply.close()
        if reply.parameters.get("phase") == "started":
            ctx.out(reply.parameters["exec_id"])
    return 0
