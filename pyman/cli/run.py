"""`pyman run`: create, start, attach, wait for the end — one call."""

from __future__ import annotations

import os

from pyman.cli.attached import ALL_STREAMS, Wish, talk
from pyman.cli.cidfile import CidFile
from pyman.cli.context import flush
from pyman.cli.create import RUN_OPTIONS, of_image, pull_wish, spec_from
from pyman.cli.preserving import preserved
from pyman.cli.pulling import Pulling
from pyman.cli.session import STDERR, STDOUT
from pyman.cli.signals import Interrupted, die
from pyman.errors import InvalidArgument, PymanError, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Parsed
    from pyman.wire import Reply

__all__ = ["RUN_OPTIONS", "run"]


def run(ctx: Context, args: Parsed) -> int:
    streams = (0, 1, 2) if args.log_driver == "passthrough" else ()
    passed: tuple[int, ...] = streams
    if args.preserve_fd or args.preserve_fds:
        passed = (*streams, *preserved(args, len(streams)))
    spec, caller = spec_from(args, ctx)
    if preserve := passed[len(streams) :]:
        spec["preserve_fd"] = preserve
    request: dict[str, Any] = {"spec": spec, "caller": caller, "replace": args.replace, **pull_wish(args)}
    passthrough = bool(streams)
    if passthrough:
        _check_passthrough(args)
    if args.detach:
        keys = args.detach_keys if args.given("detach_keys") else None
        Wish(keys=keys)
        return _detached(ctx, args, {**request, "detach": True}, passed, shows=not passthrough)
    wish = _wish(args)
    if not passthrough:
        request.update(attach=True, attach_stdin=wish.stdin, **wish.size())
    container = ""
    try:
        with CidFile(args.cidfile) as cid_file, Pulling(quiet=args.quiet) as pulling:

            def created(reply: Reply) -> None:
                nonlocal container
                if reply.parameters.get("phase") == "pulling":
                    pulling.show(reply.parameters)
                    return
                pulling.close()
                _announce(ctx, reply)
                _note_created(ctx, cid_file, reply)
                if not container and not wish.streams:
                    ctx.out(reply.parameters["id"])  # all that there will be to see of it
                    flush()
                container = reply.parameters.get("id", container)

            return of_image(
                ctx,
                request,
                lambda asked: talk(
                    ctx, "Container.Run", asked, wish, descriptors=passed, before_start=created
                ),
            )
    except Interrupted as end:
        return die(end.number)
    except (BrokenPipeError, StorageFailed):
        if spec.get("remove") and container:
            _remove(ctx, container)
        raise


def _remove(ctx: Context, container: str) -> None:
    """Nobody can read its output (`run --rm … | head`), and nobody will remove it."""
    wish = {"selection": {"names": [container]}, "force": True, "timeout": 0, "ignore": True}
    try:
        ctx.connect_again().call("Container.Remove", wish)
    except PymanError:
        pass  # what went wrong before is told


def _wish(args: Parsed) -> Wish:
    chosen = {stream.lower() for stream in args.attach}
    streams = ALL_STREAMS
    if args.given("attach"):
        streams = frozenset(
            number for name, number in (("stdout", STDOUT), ("stderr", STDERR)) if name in chosen
        )
    return Wish(
        stdin=args.interactive,  # whatever --attach says, as Podman: the container waits for it
        tty=args.tty,
        streams=streams,
        keys=args.detach_keys if args.given("detach_keys") else None,
        proxy=args.sig_proxy if args.given("sig_proxy") else None,
    )


def _check_passthrough(args: Parsed) -> None:
    for option in ("attach", "interactive", "tty"):
        if getattr(args, option):
            raise InvalidArgument(f"cannot use --{option} with --log-driver passthrough")
    for descriptor in (0, 1, 2):
        if os.isatty(descriptor):
            raise InvalidArgument(
                "cannot use --log-driver passthrough on a terminal",
                hint="the container could type commands into it: redirect standard input, output and error",
            )


def _announce(ctx: Context, reply: Reply) -> None:
    """To the service manager, if one waits for it."""
    if reply.parameters.get("notify"):
        from pyman.cli.notify import announce

        announce(ctx, reply.parameters)


def _note_created(ctx: Context, cid_file: CidFile, reply: Reply) -> None:
    if reply.parameters.get("phase") == "created":
        cid_file.write(reply.parameters["id"])
    for warning in reply.parameters.get("warnings") or ():
        ctx.warn(warning)


def _detached(
    ctx: Context, args: Parsed, request: dict[str, Any], passed: tuple[int, ...], *, shows: bool
) -> int:
    """`shows`: the id is printed; else the container's output is there."""
    with CidFile(args.cidfile) as cid_file, Pulling(quiet=args.quiet) as pulling:

        def make(request: dict[str, Any]) -> str:
            container = ""
            for reply in ctx.connect().stream("Container.Run", request, passed):
                reply.close()
                pulling.show(reply.parameters)
                _announce(ctx, reply)
                _note_created(ctx, cid_file, reply)
                container = reply.parameters["id"]
            return container

        container = of_image(ctx, request, make)
    if args.sdnotify == "healthy":
        from pyman.cli.notify import await_health

        if status := await_health(ctx, container):
            return status
    if shows:
        ctx.out(container)
    return 0
