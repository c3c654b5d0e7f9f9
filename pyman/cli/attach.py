"""`pyman attach`, and `pyman start --attach`: join the streams of a container that exists."""

from __future__ import annotations

from pyman.cli.attached import Wish, converse
from pyman.cli.options import FLAG, TEXT, TRUE
from pyman.errors import InvalidArgument, NoSuchContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["ATTACH_OPTIONS", "attach", "latest", "one_name", "start_attached"]

ATTACH_OPTIONS: tuple[Option, ...] = (
    ("detach-keys", "", TEXT, "KEYS", "Keys that detach from the container (ctrl-p,ctrl-q)"),
    ("latest", "l", FLAG, "", "The container created last"),
    ("no-stdin", "", FLAG, "", "Leave standard input alone"),
    ("sig-proxy", "", TRUE, "", "Pass signals on to the container's command"),
)


def attach(ctx: Context, args: Parsed) -> int:
    return _attach(
        ctx,
        one_name(ctx, args),
        start=False,
        stdin=not args.no_stdin,
        keys=args.detach_keys if args.given("detach_keys") else None,
        proxy=args.sig_proxy if args.given("sig_proxy") else None,
    )


def start_attached(
    ctx: Context,
    name: str,
    *,
    stdin: bool = False,
    keys: str | None = None,
    proxy: bool | None = None,
) -> int:
    """Start a container with its streams attached from the first byte; its exit code.

    `keys` and `proxy`: none where they were not asked for.
    """
    return _attach(ctx, name, start=True, stdin=stdin, keys=keys, proxy=proxy)


def _attach(
    ctx: Context, name: str, *, start: bool, stdin: bool, keys: str | None, proxy: bool | None
) -> int:
    config = _config(ctx, name)
    wish = Wish(
        stdin=stdin and bool(config.get("OpenStdin")), tty=bool(config.get("Tty")), keys=keys, proxy=proxy
    )
    request = {"name": name, "start": start, "stdin": wish.stdin, **wish.size()}
    if not start:
        return converse(ctx, "Container.Attach", request, wish)
    from pyman.cli.notify import announce, reports

    if caller := reports():
        request["caller"] = caller
    begun = lambda reply: announce(ctx, reply.parameters)  # noqa: E731 - one line
    return converse(ctx, "Container.Attach", request, wish, before_start=begun)


def _config(ctx: Context, name: str) -> dict[str, object]:
    """Whether the container has a terminal and reads standard input."""
    reply = ctx.call("Container.Inspect", {"names": [name]})
    for error in reply.get("errors") or ():
        raise NoSuchContainer(str(error.get("message")), subject=name, hint=str(error.get("hint") or ""))
    config: dict[str, object] = reply["containers"][0].get("Config") or {}
    return config


def one_name(ctx: Context, args: Parsed) -> str:
    """The container of a verb that takes one, or `--latest`."""
    if args.latest and args.arguments:
        raise InvalidArgument("cannot use --latest together with a container's name")
    if args.latest:
        return latest(ctx)
    if not args.arguments:
        raise InvalidArgument("cannot tell which container is meant", hint="give its name or id, or --latest")
    name: str = args.arguments[0]
    return name


def latest(ctx: Context) -> str:
    """The id of the container created last. NoSuchContainer if there is none."""
    request = {"last": 1, "all": True}
    found = ctx.call("Container.List", request)["containers"]
    if not found:
        raise NoSuchContainer("cannot find the latest container: there is none")
    identity: str = found[0]["Id"]
    return identity
