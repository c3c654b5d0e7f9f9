"""`pyman build`: Buildah, on this engine's store.

All options and arguments are Buildah's own and go there as they are, with the caller's directory, environment and
standard streams; nothing of the output passes through the supervisor. As with Podman layers are cached and intermediate
containers removed unless the caller says otherwise, and `--squash` means what it means there.
"""

from __future__ import annotations

import os

from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["BUILD_OPTIONS", "build", "tags_of"]

BUILD_OPTIONS: tuple[Option, ...] = (
    ("file", "f", "list", "FILE", "The Containerfile"),
    ("iidfile", "", "text", "FILE", "Write the image's id to a file"),
    ("quiet", "q", "flag", "", "Show nothing but the id"),
    ("tag", "t", "list", "NAME", "The image's name; may be repeated"),
)
"""For the help and for completion alone: nothing is parsed here."""

_WITHOUT_VALUE = frozenset("Dqh")
"""Buildah's short options that take no value."""


def build(ctx: Context, args: Parsed) -> int:
    words = args.arguments
    if words in (["--help"], ["-h"]):
        from pyman.cli.help import command_help

        command_help(ctx, args.command, BUILD_OPTIONS)
        return 0
    try:
        cwd = os.getcwd()
    except OSError as problem:
        raise InvalidArgument("cannot build: the working directory is gone") from problem
    request = {
        "arguments": [f"--layers={_layers()}", "--force-rm=true", *_squashed(words)],
        "cwd": cwd,
        "environment": _environment(),
        "tags": tags_of(words),
    }
    reply = ctx.call("Image.Build", request, (0, 1, 2))
    if reply["id"] and not any(word.startswith("--iidfile") for word in words):
        ctx.out(
            reply["id"]
        )  # Buildah's last line; it writes it to a file instead, for the supervisor to read
    return int(reply["exit_code"]) & 0xFF


def _layers() -> str:
    """Podman's default, and its way to change it."""
    return "false" if os.environ.get("BUILDAH_LAYERS", "").lower() in ("0", "false") else "true"


def _squashed(words: list[str]) -> list[str]:
    """Podman's --squash makes one layer of the new ones, its --squash-all one of all: Buildah's words for these."""
    made: list[str] = []
    for word in words:
        if word in ("--squash", "--squash=true"):
            made.append("--layers=false")
        elif word in ("--squash-all", "--squash-all=true"):
            made += ["--squash", "--layers=false"]
        else:
            made.append(word)
    return made


def tags_of(words: list[str]) -> list[str]:
    """What -t and --tag name, for the event."""
    tags: list[str] = []
    waiting = False
    for word in words:
        if waiting:
            tags.append(word)
            waiting = False
        elif word == "--":
            break
        elif word == "--tag":
            waiting = True
        elif word.startswith("--tag="):
            tags.append(word[len("--tag=") :])
        elif word[:1] == "-" and word[1:2] not in ("", "-"):
            rest = word[1:].lstrip("".join(_WITHOUT_VALUE))
            if rest == "t":
                waiting = True
            elif rest[:1] == "t":
                tags.append(rest[1:].removeprefix("="))
    return tags


def _environment() -> dict[str, str]:
    """The caller's; a variable that is no UTF-8 cannot be sent."""
    return {name: value for name, value in os.environ.items() if _sound(name + value)}


def _sound(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
