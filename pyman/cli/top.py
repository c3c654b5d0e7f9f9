"""`pyman top`: the processes of a container, by columns, or as ps in the container shows them."""

from __future__ import annotations

from pyman.cli.attach import latest
from pyman.cli.context import one_line
from pyman.cli.options import FLAG
from pyman.cli.table import columns
from pyman.descriptors import TITLES, named, split
from pyman.errors import CommandNotFound, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["TOP_OPTIONS", "top"]

TOP_OPTIONS: tuple[Option, ...] = (
    ("latest", "l", FLAG, "", "The container created last"),
    ("list-descriptors", "", FLAG, "", ""),
)
_STDOUT = 2
"""The stream's name in conmon's packets."""
_PACKET = 1 << 16
_MOST = 64 << 20
"""Bytes that are taken of a program in a container."""


def top(ctx: Context, args: Parsed) -> int:
    if args.list_descriptors:
        ctx.out("\n".join(TITLES))
        return 0
    words = list(args.arguments)
    if not args.latest and not words:
        raise InvalidArgument("'pyman top' needs a container", hint="give a name or id, or --latest")
    name = latest(ctx) if args.latest else words.pop(0)
    if not all(named(word) for word in split(words)):
        return _ps(ctx, name, words)
    reply = ctx.call("Container.Top", {"name": name, "descriptors": split(words)})
    ctx.out(columns([reply["titles"], *reply["processes"]]))
    return 0


def _ps(ctx: Context, name: str, words: list[str]) -> int:
    """What is not the name of a column is for ps(1)."""
    if len(words) == 1:
        import shlex

        words = shlex.split(words[0])
    command = ["ps", *words]
    shown = " ".join(command)
    try:
        text, errors, code = _run(ctx, name, command)
    except CommandNotFound as error:
        hint = f"known columns are {', '.join(TITLES)}"
        raise CommandNotFound(
            f"cannot run '{shown}' in container '{name}': it has no ps", hint=hint
        ) from error
    if code:
        reason = one_line(errors.strip()) or "it says nothing"
        raise InvalidArgument(
            f"cannot show processes: '{shown}' in the container ended with exit code {code}: {reason}"
        )
    for line in text.splitlines():
        if not line.rstrip().endswith(shown):  # which is this very ps
            ctx.out(one_line(line))
    return 0


def _run(ctx: Context, name: str, command: list[str]) -> tuple[str, str, int]:
    """Its output, what it wrote to standard error, and its exit code."""
    output, errors, code = bytearray(), bytearray(), 0
    for reply in ctx.connect().stream("Container.Exec", {"name": name, "command": command}):
        try:
            if reply.descriptors:
                _read(reply.take(), output, errors)
            code = reply.parameters.get("exit_code") or code
        finally:
            reply.close()
    return output.decode(errors="replace"), errors.decode(errors="replace"), code


def _read(descriptor: int, output: bytearray, errors: bytearray) -> None:
    from pyman.wire import sockets

    stream = sockets.socket(fileno=descriptor)
    try:
        while (packet := stream.recv(_PACKET)) and len(output) + len(errors) < _MOST:
            (output if packet[0] == _STDOUT else errors).extend(packet[1:])
    finally:
        stream.close()
