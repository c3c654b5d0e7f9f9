"""`pyman search`: ask registries for repositories, or one repository for its tags."""

from __future__ import annotations

from pyman.cli.context import sentence
from pyman.cli.options import COUNT, FLAG, LIST, TEXT
from pyman.cli.registry_options import AUTHFILE, CERT_DIR, CREDS, TLS_VERIFY, access_of
from pyman.cli.table import columns, is_json, render
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["SEARCH_OPTIONS", "search"]

SEARCH_OPTIONS: tuple[Option, ...] = (
    AUTHFILE,
    CERT_DIR,
    ("compatible", "", FLAG, "", "Show the stars, and what is official and automated"),
    CREDS,
    ("filter", "f", LIST, "KEY=VALUE", "Only what fits: stars=N, is-official, is-automated"),
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("limit", "", COUNT, "N", "The most results of a registry (default 25)"),
    ("list-tags", "", FLAG, "", "List the tags of the repository"),
    ("no-trunc|notruncate", "", FLAG, "", "Show descriptions in full"),
    TLS_VERIFY,
)
_HEADERS = {
    "Index": "INDEX",
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "Stars": "STARS",
    "Official": "OFFICIAL",
    "Automated": "AUTOMATED",
    "Tag": "TAG",
}
_FILTERS = ("stars", "is-official", "is-automated")
_LONGEST = 44
"""Characters of a description."""


def search(ctx: Context, args: Parsed) -> int:
    request: dict[str, Any] = {
        "term": args.arguments[0],
        "filters": _filters(args),
        "list_tags": args.list_tags,
        "access": access_of(args),
    }
    if args.limit:
        request["limit"] = args.limit
    reply = ctx.call("Image.Search", request)
    whole = args.no_trunc or is_json(args.format)
    made = [_fields(result, whole=whole) for result in reply["results"]]
    _show(ctx, args, made)
    errors = reply.get("errors") or ()
    for error in errors:
        if made:
            ctx.warn(sentence(error))  # another registry has answered
        else:
            ctx.fail(sentence(error))
    return 125 if errors and not made else 0


def _filters(args: Parsed) -> dict[str, list[str]]:
    if args.list_tags and args.filter:
        raise InvalidArgument("cannot use --filter together with --list-tags")
    filters: dict[str, list[str]] = {}
    for pair in args.filter:
        key, equals, value = pair.partition("=")
        wrong = value not in ("true", "false") if key != "stars" else not value.isdecimal()
        if key not in _FILTERS or (wrong and (equals or key == "stars")):
            raise InvalidArgument(
                f"cannot use the filter '{pair}'", hint="it must be stars=N, is-official or is-automated"
            )
        filters.setdefault(key, []).append(value if equals else "true")
    return filters


def _fields(result: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    text = " ".join(result.get("description", "").split("\n"))
    if not whole and len(text) > _LONGEST:
        text = text[:_LONGEST].strip() + "..."
    return {
        "Index": result["index"],
        "Name": result["name"],
        "Description": text,
        "Stars": result.get("stars", 0),
        "Official": result.get("official", ""),
        "Automated": result.get("automated", ""),
        "Tag": result.get("tag", ""),
    }


def _show(ctx: Context, args: Parsed, made: list[dict[str, Any]]) -> None:
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented(_tags(made) if args.list_tags else made))
    elif not made:
        return
    elif args.format:
        ctx.write(render(args.format, made, _HEADERS, listing=True))
    else:
        names = ["Name", "Tag"] if args.list_tags else ["Name", "Description"]
        if args.compatible and not args.list_tags:
            names += ["Stars", "Official", "Automated"]
        rows = [[_HEADERS[name] for name in names]]
        rows += [[str(fields[name]) for name in names] for fields in made]
        ctx.out(columns(rows))


def _tags(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for fields in made:
        found.setdefault(fields["Name"], []).append(fields["Tag"])
    return [{"Name": name, "Tags": tags} for name, tags in found.items()]
