"""`pyman port`: at which ports of the host a container can be reached."""

from __future__ import annotations

from pyman.cli.options import FLAG
from pyman.errors import InvalidArgument, NotFound
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["PORT_OPTIONS", "port"]

PORT_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All containers that run"),
    ("latest", "l", FLAG, "", "The container created last"),
)
_ANYWHERE = "0.0.0.0"  # noqa: S104 - shown, not listened at


def port(ctx: Context, args: Parsed) -> int:
    words = list(args.arguments)
    if args.all + args.latest > 1 or (args.all and words):
        raise InvalidArgument("cannot use --all together with --latest or a container")
    if args.all:
        running = [one["Id"] for one in ctx.call("Container.List", {})["containers"]]
        for one in _inspected(ctx, {"names": running}) if running else ():
            for inside, outside in _mappings(one):
                ctx.out(f"{one['Id'][:12]}\t{inside} -> {outside}")
        return 0
    if not args.latest and not words:
        raise InvalidArgument(
            "'pyman port' needs a container", hint="give a name or id, or --latest or --all"
        )
    wish = {"latest": True} if args.latest else {"names": [words.pop(0)]}
    if len(words) > 1:
        raise InvalidArgument(f"'pyman port' takes one port, but got also '{words[1]}'")
    wanted = _port(words[0]) if words else ""
    (found,) = _inspected(ctx, wish)
    if not found["State"]["Running"]:
        return 0
    mappings = list(_mappings(found))
    for inside, outside in mappings:
        if not wanted:
            ctx.out(f"{inside} -> {outside}")
        elif inside == wanted:
            ctx.out(outside)
    if wanted and wanted not in [inside for inside, _ in mappings]:
        raise InvalidArgument(
            f"cannot find the port '{words[0]}' of container '{found['Name']}': it is not published",
            subject=words[0],
        )
    return 0


def _port(text: str) -> str:
    """`80` or `80/udp` as a mapping has it. Raises InvalidArgument."""
    number, slash, protocol = text.partition("/")
    if not (is_decimal(number) and 0 < int(number) < 1 << 16) or "/" in protocol:
        raise InvalidArgument(
            f"cannot use the port '{text}'", subject=text, hint="it is NUMBER or NUMBER/PROTOCOL"
        )
    return f"{int(number)}/{protocol if slash else 'tcp'}"


def _inspected(ctx: Context, wish: dict[str, Any]) -> list[dict[str, Any]]:
    """One that has gone since it was listed is left out. NoSuchContainer: one that was named."""
    reply = ctx.call("Container.Inspect", wish)
    found: list[dict[str, Any]] = reply["containers"]
    for error in reply.get("errors") or ():
        if len(wish.get("names", ())) == 1:
            raise NotFound(error["message"], subject=error.get("subject", ""))
    return found


def _mappings(container: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Port and protocol inside, address and port outside."""
    for inside, places in (container["NetworkSettings"].get("Ports") or {}).items():
        for place in places or ():  # one that is only exposed has none
            yield inside, f"{place.get('HostIp') or _ANYWHERE}:{place['HostPort']}"
