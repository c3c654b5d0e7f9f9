"""The engine itself: `info`, `version`, and the `system` verbs that a running supervisor answers."""

from __future__ import annotations

from pyman.cli.options import COUNT, FLAG, TEXT
from pyman.cli.table import is_json
from pyman.errors import EngineUnavailable, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["check", "client_version", "events_prune", "info", "locks", "reload", "version"]

_FORMAT: Option = ("format", "f", TEXT, "TEMPLATE", "json, or a template")

INFO_OPTIONS: tuple[Option, ...] = (_FORMAT,)
VERSION_OPTIONS: tuple[Option, ...] = (_FORMAT,)
CHECK_OPTIONS: tuple[Option, ...] = (("repair", "r", FLAG, "", "Put right what can be put right"),)
LOCKS_OPTIONS: tuple[Option, ...] = (_FORMAT,)
RELOAD_OPTIONS: tuple[Option, ...] = ()
EVENTS_PRUNE_OPTIONS: tuple[Option, ...] = (
    ("force", "f", FLAG, "", "Do not ask"),
    ("keep", "", COUNT, "N", "Keep the N newest events"),
    ("until", "", TEXT, "TIME", "Only events before a moment, or older than a duration"),
)


def client_version() -> str:
    from pyman import __version__

    return __version__


def version(ctx: Context, args: Parsed) -> int:
    """Both sides; the client's alone, and the reason on standard error, where no supervisor answers."""
    client = _client()
    status, answer = 0, None
    try:
        answer = _server(ctx.call("System.Version"))
    except EngineUnavailable as error:
        ctx.fail(error)
        status = 125
    told = {"Client": client, "Server": answer}
    if is_json(args.format):
        from pyman.cli.jsontext import compact

        ctx.out(compact({key: value for key, value in told.items() if value}))
    elif args.format:
        _template(ctx, args.format, {**client, **told})
    else:
        sections = [("Client:", "pyman", client)] + (
            [("Server:", "pyman supervisor", answer)] if answer else []
        )
        ctx.out("\n\n".join(_section(title, name, fields) for title, name, fields in sections))
    return status


def _section(title: str, name: str, fields: dict[str, Any]) -> str:
    labels = {"APIVersion": "API Version:", "PythonVersion": "Python Version:", "OsArch": "OS/Arch:"}
    lines = [(title, name)]
    lines += [(labels.get(key, f"{key}:"), value) for key, value in fields.items() if key != "Os" and value]
    width = max(len(label) for label, _ in lines) + 1
    return "\n".join(f"{label.ljust(width)}{value}" for label, value in lines)


def _client() -> dict[str, Any]:
    import os
    import sys

    uname = os.uname()
    machines = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
    system = uname.sysname.lower()
    return {
        "Version": client_version(),
        "APIVersion": API_VERSION,
        "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        "OsArch": f"{system}/{machines.get(uname.machine, uname.machine)}",
        "Os": system,
    }


API_VERSION = "1"
"""Of the contract that this client speaks."""


def _server(reply: dict[str, Any]) -> dict[str, Any]:
    return {
        "Version": reply["Version"],
        "APIVersion": reply["ApiVersion"],
        "PythonVersion": reply["PythonVersion"],
        "Kernel": reply["Kernel"],
        "Built": reply.get("Built") or "",
        "OsArch": f"{reply['Os']}/{reply['Arch']}",
        "Os": reply["Os"],
    }


def info(ctx: Context, args: Parsed) -> int:
    reply = ctx.call("System.Info")
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented(reply, "  "))
    elif args.format:
        _template(ctx, args.format, {**reply, "host": _host(reply["host"])})
    else:
        from pyman.cli.yamltext import yaml

        ctx.write(yaml(reply))
    return 0


def _host(fields: dict[str, Any]) -> dict[str, Any]:
    """For templates: Podman's Go has other names than its JSON for two of them. As methods they are not shown."""
    security = fields.get("security") or {}
    named = {
        "CgroupsVersion": lambda: fields.get("cgroupVersion"),
        "security": {**security, "DefaultCapabilities": lambda: security.get("capabilities")},
    }
    return {**fields, **named}


def locks(ctx: Context, args: Parsed) -> int:
    reply = ctx.call("System.Locks")
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented(reply, "  "))
    elif args.format:
        _template(ctx, args.format, reply)
    else:
        from pyman.cli.table import columns

        lines = [["LOCK", "KIND", "ID", "NAME"]]
        lines += [
            [str(lock["number"]), lock["kind"], lock["id"][:12], lock["name"]] for lock in reply["locks"]
        ]
        ctx.out(columns(lines))
        number = len(reply["locks"])
        ctx.out(f"\n{number} lock{'s' * (number != 1)} in use, {reply['free']} of {reply['size']} free")
        for conflict in reply.get("conflicts") or ():
            ctx.warn(conflict)
    return 125 if reply.get("conflicts") else 0


def reload(ctx: Context, _args: Parsed) -> int:
    reply = ctx.call("System.Reload")
    for setting in reply["changed"]:
        ctx.out(f"{setting}: in force")
    for setting in reply.get("after_restart") or ():
        ctx.out(f"{setting}: in force when the supervisor is started again")
    if not reply["changed"] and not reply.get("after_restart"):
        ctx.out("Nothing has changed")
    for warning in ctx.call("System.Info")["supervisor"].get("warnings") or ():
        ctx.warn(warning)
    return 0


def check(ctx: Context, args: Parsed) -> int:
    """Exit status 1 where something is wrong and has not been repaired."""
    problems = ctx.call("System.Check", {"repair": args.repair})["problems"]
    for problem in problems:
        mark = " (repaired)" if problem.get("repaired") else ""
        ctx.out(f"{problem['subject']}: {problem['text']}{mark}")
    left = [problem for problem in problems if not problem.get("repaired")]
    if not problems:
        ctx.out("No problems found")
    elif left and not args.repair:
        ctx.err("'pyman system check --repair' puts right what can be put right")
    return 1 if left else 0


def events_prune(ctx: Context, args: Parsed) -> int:
    request: dict[str, Any] = {}
    if args.keep is not None:
        request["keep"] = args.keep
    if args.until:
        from pyman.cli.times import since_time

        try:
            request["until"] = since_time(args.until)  # a duration means: before now
        except InvalidArgument as error:
            raise InvalidArgument(f"option --until cannot be '{args.until}'", hint=error.hint) from None
    if not request:
        raise InvalidArgument("cannot tell which events to forget", hint="give --keep, --until or both")
    if not args.force and not ctx.confirm("This will remove events from the journal for good."):
        return 0
    ctx.out(str(ctx.call("Event.Prune", request)["removed"]))
    return 0


def _template(ctx: Context, text: str, value: dict[str, Any]) -> None:
    from pyman.cli.table import render

    ctx.write(render(text, [value]))
