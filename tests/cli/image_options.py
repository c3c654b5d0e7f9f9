"""The table of docs/image-options.md, made from the tables of the command line.

.venv/bin/python -m tests.cli.image_options > docs/image-options.md
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pyman.cli.main import ALIASES, COMMANDS, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyman.cli.options import Option

__all__ = ["VERBS", "page", "rows_of"]

VERBS = tuple(
    name
    for name in COMMANDS
    if name.startswith(("image ", "manifest "))
    or name
    in (
        *(
            "build",
            "commit",
            "diff",
            "export",
            "history",
            "images",
            "import",
            "load",
            "login",
            "logout",
            "mount",
        ),
        *("pull", "push", "rmi", "save", "search", "tag", "unmount", "untag"),
    )
)

_HEAD = """\
# Options of the image verbs

What Podman's users know, verb by verb: whether pyman does it, and why not. Options that are refused are refused by
name, with the reason that stands here; none is accepted and ignored, but for those that Podman ignores, too.
This page is made from the command line's own tables (`python -m tests.cli.image_options`); a test compares them.
"""


def rows_of(name: str) -> tuple[Option, ...]:
    module, _function, table = COMMANDS[name][:3]
    found: tuple[Option, ...] = getattr(importlib.import_module(f"pyman.cli.{module}"), table)
    return found


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for name in sorted(VERBS):
        usage, summary = COMMANDS[name][3], COMMANDS[name][6]
        yield f"## {name}\n"
        yield f"`pyman {name}{' [options]' if rows_of(name) else ''}{' ' if usage else ''}{usage}`: {summary}.\n"
        aliases = sorted(alias for alias, target in ALIASES.items() if target == name)
        if aliases:
            yield f"Also: {', '.join(f'`{alias}`' for alias in aliases)}.\n"
        if rows_of(name):
            yield "| Option | Here | |\n| --- | --- | --- |"
            for row in sorted(rows_of(name)):
                yield _row(row)
            yield ""
        if name == "build":
            yield "Every other option of `buildah build` is passed on as it is: see buildah-build(1).\n"
    yield "## Not there\n"
    yield "| Verb | |\n| --- | --- |"
    for name, why in NEVER.items():
        yield f"| `{name}` | {why.replace(chr(39), chr(96)).replace('|', chr(92) + '|')} |"


def _row(row: Option) -> str:
    names, short, kind, metavar, text = row
    shown = "".join(f"`-{short}`, " for short in (short,) if short) + f"`--{names.split('|')[0]}`"
    shown += f" {metavar}" if metavar else ""
    here = "no" if kind == "refused" else "yes"
    note = text or _HIDDEN.get(names, "")
    return f"| {shown.replace('|', chr(92) + '|')} | {here} | {note.replace('|', chr(92) + '|')} |"


_HIDDEN = {
    "disable-content-trust": "Without an effect, as in Podman",
    "insecure": "The same as --tls-verify=false",
    "purge": "The same as --rm",
    "verbose": "Without an effect, as in Podman",
}


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - this is what it is for
