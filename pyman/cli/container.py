"""The verbs that change containers, and those that wait for them: all but creating, attaching and showing.

A verb that takes several containers carries out what it can: each success is a line on standard output (the
name as it was given; the id where none was), each failure its own `Error:` line, and the exit status tells
that there was one.
"""

from __future__ import annotations

from pyman.cli.context import sentence
from pyman.cli.options import CSV, FLAG, LIST, SECONDS, TEXT, TRUE
from pyman.cli.table import is_json
from pyman.errors import EngineUnavailable, InvalidArgument, NoSuchContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = [
    "exists", "filters_of", "init", "kill", "pause", "prune", "rename", "report", "restart", "rm", "selection_of", "start",
    "stop", "unpause", "wait", "waited", "why",
]  # fmt: skip

_LATEST: Option = ("latest", "l", FLAG, "", "The container that was created last")
_CIDFILE: Option = ("cidfile", "", LIST, "FILE", "The container whose id is in a file")
_FILTER: Option = ("filter", "f", CSV, "KEY=VALUE", "Containers that fit, as with ps --filter")
_IGNORE: Option = ("ignore", "i", FLAG, "", "A container that does not exist is no mistake")
_TIME: Option = ("time|timeout", "t", SECONDS, "SECONDS", "How long to wait before SIGKILL")

INIT_OPTIONS: tuple[Option, ...] = (("all", "a", FLAG, "", "All containers that are only defined"), _LATEST)
START_OPTIONS: tuple[Option, ...] = (
    ("all", "", FLAG, "", "All containers"),
    ("attach", "a", FLAG, "", "Attach to its output, and exit as it does"),
    ("detach-keys", "", TEXT, "KEYS", "Keys that detach from the container"),
    _FILTER,
    ("interactive", "i", FLAG, "", "Attach to its input, too"),
    _LATEST,
    ("sig-proxy", "", TRUE, "", "When attached, pass signals on to the container's command"),
)
STOP_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All running containers"),
    _CIDFILE,
    _FILTER,
    _IGNORE,
    _LATEST,
    ("signal", "s", TEXT, "SIGNAL", "The signal to stop with, instead of the container's own"),
    _TIME,
)
RESTART_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All containers"),
    _CIDFILE,
    _FILTER,
    _LATEST,
    ("running", "", FLAG, "", "Only containers that run"),
    _TIME,
)
KILL_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All running containers"),
    _CIDFILE,
    _LATEST,
    ("signal", "s", TEXT, "SIGNAL", "The signal, a name or a number (default KILL)"),
)
PAUSE_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All running containers"),
    _CIDFILE,
    _FILTER,
    _LATEST,
)
UNPAUSE_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All paused containers"),
    _CIDFILE,
    _FILTER,
    _LATEST,
)
RM_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All containers"),
    _CIDFILE,
    ("depend", "", FLAG, "", "And all containers that depend on it"),
    ("filter", "", CSV, "KEY=VALUE", "Containers that fit, as with ps --filter"),
    ("force", "f", FLAG, "", "Stop it first if it runs; one that does not exist is no mistake"),
    _IGNORE,
    _LATEST,
    _TIME,
    ("volumes", "v", FLAG, "", "And its anonymous volumes"),
)
WAIT_OPTIONS: tuple[Option, ...] = (
    ("condition", "", CSV, "STATE", "What to wait for (default: stopped or exited)"),
    ("ignore", "", FLAG, "", "A container that does not exist counts as removed"),
    (
        "interval",
        "i",
        TEXT,
        "DURATION",
        "Podman's time between two looks: nobody looks here, the end is told at once",
    ),
    _LATEST,
)
RENAME_OPTIONS: tuple[Option, ...] = ()
EXISTS_OPTIONS: tuple[Option, ...] = (
    ("external", "", FLAG, "", "Also those of other engines that use the image store, such as Buildah's"),
)
WHY_OPTIONS: tuple[Option, ...] = (("format", "f", TEXT, "TEMPLATE", "json, or a template"), _LATEST)
PRUNE_OPTIONS: tuple[Option, ...] = (
    ("filter", "", LIST, "KEY=VALUE", "Only containers that fit: label=, until="),
    ("force", "f", FLAG, "", "Do not ask"),
)


def init(ctx: Context, args: Parsed) -> int:
    return _each(ctx, args, "Init", {})


def start(ctx: Context, args: Parsed) -> int:
    if args.attach or args.interactive:
        from pyman.cli.attach import one_name, start_attached

        if args.all or args.filter or len(args.arguments) > 1:
            raise InvalidArgument(
                "cannot attach to several containers at once", hint="start them without --attach"
            )
        return start_attached(
            ctx,
            one_name(ctx, args),
            stdin=args.interactive,
            keys=args.detach_keys if args.given("detach_keys") else None,
            proxy=args.sig_proxy if args.given("sig_proxy") else None,
        )
    from pyman.cli.notify import announce, await_health, reports

    caller = reports()
    extra = {"caller": caller} if caller else {}
    status = 0

    def started(result: Mapping[str, Any]) -> None:
        nonlocal status
        announce(ctx, result)
        if result.get("awaits_health"):
            status = await_health(ctx, result["id"]) or status

    return _each(ctx, args, "Start", extra, each=started) or status


def stop(ctx: Context, args: Parsed) -> int:
    return _each(ctx, args, "Stop", {"timeout": args.time, "signal": args.signal, "ignore": args.ignore})


def restart(ctx: Context, args: Parsed) -> int:
    extra = {"timeout": args.time, "running": args.running}
    if args.running and not (args.arguments or args.all or args.latest or args.filter or args.cidfile):
        return report(ctx, ctx.call("Container.Restart", {"selection": {"all": True}, **extra}), named=False)
    return _each(ctx, args, "Restart", extra)


def kill(ctx: Context, args: Parsed) -> int:
    return _each(ctx, args, "Kill", {"signal": args.signal or "KILL"})


def pause(ctx: Context, args: Parsed) -> int:
    return _each(ctx, args, "Pause", {})


def unpause(ctx: Context, args: Parsed) -> int:
    return _each(ctx, args, "Unpause", {})


def rm(ctx: Context, args: Parsed) -> int:
    """The exit status tells apart: 1 there is no such container, 2 it runs and there is no --force."""
    if args.time is not None and not args.force:
        raise InvalidArgument(
            "cannot use --time without --force", hint="only what is forced is stopped first"
        )
    extra = {
        "force": args.force,
        "ignore": args.ignore or args.force,
        "timeout": args.time,
        "volumes": args.volumes,
        "depend": args.depend,
    }
    try:
        return _each(ctx, args, "Remove", extra, statuses={"NoSuchContainer": 1, "WrongState": 2})
    except NoSuchContainer as error:  # of --latest
        if not extra["ignore"]:
            ctx.fail(error)
        return 0 if extra["ignore"] else 1


def wait(ctx: Context, args: Parsed) -> int:
    selection = selection_of(args)
    parameters = {"selection": selection, "conditions": args.condition, "ignore": args.ignore}
    status = 0
    for result in waited(ctx, parameters)["results"]:
        if result.get("error"):
            ctx.fail(sentence(result["error"]))
            status = 125
        else:
            code = result.get("exit_code")
            ctx.out(str(-1 if code is None else code))
    return status


def waited(ctx: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """The answer, from the next supervisor if this one goes away: to wait changes nothing."""
    while True:
        connection = ctx.connect()
        try:
            return connection.call("Container.Wait", parameters)
        except EngineUnavailable:
            ctx.close()


def rename(ctx: Context, args: Parsed) -> int:
    ctx.call("Container.Rename", {"name": args.arguments[0], "new_name": args.arguments[1]})
    return 0


def exists(ctx: Context, args: Parsed) -> int:
    request = {"name": args.arguments[0], "external": args.external}
    return 0 if ctx.call("Container.Exists", request)["exists"] else 1


def why(ctx: Context, args: Parsed) -> int:
    from pyman.cli.attach import one_name

    reply = ctx.call("Container.Why", {"name": one_name(ctx, args)})
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented(reply))
    elif args.format:
        from pyman.cli.table import render

        ctx.write(render(args.format, [reply]))
    else:
        ctx.out(f"{reply['name']}: {reply['summary']}")
        for step in reply["steps"]:
            ctx.out(f"  {step['time']}  {step['status']:<18}  {step['text']}")
    return 0


def prune(ctx: Context, args: Parsed) -> int:
    filters = filters_of(args.filter)
    if not args.force and not ctx.confirm("This will remove all containers that do not run."):
        return 0
    status = 0
    for one in ctx.call("Container.Prune", {"filters": filters})["containers"]:
        if one.get("error"):
            ctx.fail(sentence(one["error"]))
            status = 125
        else:
            ctx.out(one["id"])
    return status


def filters_of(pairs: list[str]) -> dict[str, list[str]]:
    """`KEY=VALUE` by key, and `KEY!=VALUE` under `KEY!`. Raises InvalidArgument."""
    filters: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"cannot use the filter '{pair}'", hint="it must be KEY=VALUE")
        filters.setdefault(key, []).append(value)
    return filters


def selection_of(args: Parsed) -> dict[str, Any]:
    """Exactly one way to say which containers. Raises InvalidArgument."""
    ways = {name: getattr(args, name) for name in ("all", "latest", "filter", "cidfile") if args.has(name)}
    names = list(args.arguments)
    if ways.get("cidfile"):
        from pyman.cli.cidfile import read_ids

        ignore = args.has("ignore") and (args.ignore or (args.has("force") and args.force))
        names += read_ids(ways["cidfile"], ignore=ignore)
    if ways.get("filter"):
        if names or ways["latest"]:
            raise InvalidArgument("cannot use --filter together with names or --latest")
        return {"filters": filters_of(ways["filter"])}
    given = [f"--{name}" for name in ("all", "latest") if ways.get(name)]
    if len(given) > 1 or (given and names):
        raise InvalidArgument(
            f"cannot use {given[0]} together with {given[1] if len(given) > 1 else 'names'}"
        )
    if given:
        return {given[0][2:]: True}
    if not names and not ways.get("cidfile"):
        choice = " or ".join(f"--{way}" for way in ("all", "latest") if way in ways)
        raise InvalidArgument(
            f"'pyman {args.command}' needs a container", hint=f"give names or ids, or {choice}"
        )
    return {"names": names}


def _each(
    ctx: Context,
    args: Parsed,
    method: str,
    extra: Mapping[str, Any],
    statuses: Mapping[str, int] | None = None,
    each: Callable[[Mapping[str, Any]], None] | None = None,
) -> int:
    """`each`: is told every success."""
    selection = selection_of(args)
    if selection.get("names") == []:
        return 0  # every cidfile was missing, and that was to be ignored
    reply = ctx.call(f"Container.{method}", {"selection": selection, **extra})
    if each is not None:
        for result in reply["results"]:
            if not result.get("error"):
                each(result)
    return report(ctx, reply, named="names" in selection, statuses=statuses)


def report(
    ctx: Context, reply: Mapping[str, Any], *, named: bool, statuses: Mapping[str, int] | None = None
) -> int:
    """Print the results; the highest of the failures' exit statuses."""
    status = 0
    for result in reply["results"]:
        error = result.get("error")
        if error:
            ctx.fail(sentence(error))
            status = max(status, (statuses or {}).get(error["code"], 125))
        elif named and result.get("id"):
            ctx.out(result["name"])
        elif result.get("id"):
            ctx.out(result["id"])
    return status
