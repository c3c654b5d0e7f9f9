"""Help, written from the tables: `pyman help`, `--help` of a verb or a group."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["HELP_OPTIONS", "command_help", "group_help", "overview", "show"]

HELP_OPTIONS: tuple[Option, ...] = ()

_METAVARS = {
    "text": "STRING",
    "list": "STRING",
    "csv": "STRINGS",
    "int": "N",
    "count": "N",
    "seconds": "SECONDS",
}

_PASSED = "Every other option of 'buildah build' is passed on as it is: see buildah-build(1)."


def show(ctx: Context, args: Parsed) -> int:
    """`pyman help [COMMAND...]`."""
    from pyman.cli.main import COMMANDS, GROUPS, resolve

    if not args.arguments:
        overview(ctx)
        return 0
    name, _rest = resolve(args.arguments)
    if name in GROUPS:
        group_help(ctx, name)
        return 0
    module, _function, table = COMMANDS[name][:3]
    home = __import__(f"pyman.cli.{module}", None, None, (table,))
    command_help(ctx, name, getattr(home, table))
    return 0


def overview(ctx: Context) -> None:
    """What `pyman` alone shows."""
    from pyman.cli.main import COMMANDS, GLOBAL_OPTIONS, GROUPS

    rows = {name: row[6] for name, row in COMMANDS.items() if " " not in name and row[6]}
    rows.update({name: summary for name, summary in GROUPS.items() if " " not in name})
    lines = ["Run, watch and keep containers", "", "Usage:", "  pyman [options] COMMAND", "", "Commands:"]
    lines += _columns(sorted(rows.items()))
    lines += [
        "",
        "Options:",
        *_options(GLOBAL_OPTIONS),
        "",
        "'pyman COMMAND --help' tells more about a command.",
    ]
    ctx.out("\n".join(lines))


def group_help(ctx: Context, group: str) -> None:
    from pyman.cli.main import ALIASES, COMMANDS, GROUPS

    prefix = f"{group} "
    rows = {name: row[6] for name, row in COMMANDS.items() if name.startswith(prefix)}
    rows.update({alias: COMMANDS[name][6] for alias, name in ALIASES.items() if alias.startswith(prefix)})
    rows.update({name: summary for name, summary in GROUPS.items() if name.startswith(prefix)})
    inner = {name[len(prefix) :]: summary for name, summary in rows.items()}
    direct = sorted(
        (name, summary)
        for name, summary in inner.items()
        if name.split(" ")[0] not in inner or " " not in name
    )
    lines = [GROUPS[group], "", "Usage:", f"  pyman {group} COMMAND", "", "Commands:", *_columns(direct)]
    ctx.out("\n".join(lines))


def command_help(ctx: Context, name: str, table: Iterable[Option]) -> None:
    from pyman.cli.main import ALIASES, COMMANDS, PASSES

    usage, summary = COMMANDS[name][3], COMMANDS[name][6]
    lines = [summary, "", "Usage:", f"  pyman {name} [options]{' ' if usage else ''}{usage}"]
    aliases = [alias for alias, target in ALIASES.items() if target == name]
    if aliases:
        lines += ["", "Aliases:", *(f"  pyman {alias}" for alias in aliases)]
    options = _options(table)
    if options:
        lines += ["", "Options:", *options]
    if name in PASSES:
        lines += ["", _PASSED]
    ctx.out("\n".join(lines))


def _options(table: Iterable[Option]) -> list[str]:
    rows = []
    for names, short, kind, metavar, text in table:
        if not text or kind == "refused":
            continue
        value = "" if kind in ("flag", "true") else " " + (metavar or _METAVARS[kind])
        default = " (default true)" if kind == "true" else ""
        rows.append((f"{f'-{short},' if short else '   '} --{names.split('|')[0]}{value}", text + default))
    return _columns(rows)


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max((len(left) for left, _ in rows), default=0)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows]
