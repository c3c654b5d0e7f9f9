"""The tables of docs/image-options.md and docs/run-options.md, made from those of the command line.

.venv/bin/python -m tests.cli.option_pages     writes both
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from pyman.cli.main import ALIASES, COMMANDS, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyman.cli.options import Option

__all__ = ["DOCS", "PAGES", "VERBS", "page", "rows_of"]

DOCS = Path(__file__).parents[2] / "docs"

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
This page is made from the command line's own tables (`python -m tests.cli.option_pages`); a test compares them.
"""


def rows_of(name: str) -> tuple[Option, ...]:
    module, _function, table = COMMANDS[name][:3]
    found: tuple[Option, ...] = getattr(importlib.import_module(f"pyman.cli.{module}"), table)
    return found


_RUN_HEAD = """\
# Options of run and create

What Podman's users know of `podman run` and `podman create`: whether pyman does it, and why not. Options that are refused
are refused by name, with the reason that stands here; none is accepted and ignored, but for those that Podman ignores,
too. More about them: [images](images.md), [mounts](mounts.md), [volumes](volumes.md), [security](security.md),
[user namespaces](userns.md), [health checks](health.md), [restart policies](restart.md), [systemd](systemd.md).
This page is made from the command line's own tables (`python -m tests.cli.option_pages`); a test compares them.
"""


def _lines_of_run() -> Iterator[str]:
    yield _RUN_HEAD
    created = rows_of("create")
    yield _TABLE
    yield from (_row(row) for row in sorted(created))
    yield "\n## run alone\n"
    yield _TABLE
    yield from (_row(row) for row in sorted(rows_of("run")) if row not in created)


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
            yield _TABLE
            for row in sorted(rows_of(name)):
                yield _row(row)
            yield ""
        if name == "build":
            yield "Every other option of `buildah build` is passed on as it is: see buildah-build(1).\n"
    yield "## Not there\n"
    yield "| Verb | |\n| --- | --- |"
    for name, why in NEVER.items():
        if name.startswith(("container ", "system ")):
            continue
        yield f"| `{name}` | {why.replace(chr(39), chr(96)).replace('|', chr(92) + '|')} |"


def _row(row: Option) -> str:
    names, short, kind, metavar, text = row
    shown = "".join(f"`-{short}`, " for short in (short,) if short) + f"`--{names.split('|')[0]}`"
    shown += f" {metavar}" if metavar else ""
    here = "no" if kind == "refused" else "yes"
    note = text or _HIDDEN.get(names, "")
    return f"| {shown.replace('|', chr(92) + '|')} | {here} | {note.replace('|', chr(92) + '|')} |"


_TABLE = "| Option | Here | |\n| --- | --- | --- |"
_HIDDEN = {
    "disable-content-trust": "Without an effect, as in Podman",
    "insecure": "The same as --tls-verify=false",
    "purge": "The same as --rm",
    "verbose": "Without an effect, as in Podman",
}


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "image-options.md": _lines,
    "run-options.md": _lines_of_run,
}


def page(name: str) -> str:
    return "\n".join(PAGES[name]()) + "\n"


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(page(name))
