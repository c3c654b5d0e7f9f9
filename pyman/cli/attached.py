"""From a streaming call (`Run`, `Attach`, `Exec`) to the exit status: the part that these verbs share.

Until the container exists a signal ends the command; after that it waits for the start and is then treated
as the session treats signals, unless the user insists.
"""

from __future__ import annotations

import os
import select
import time

from pyman.cli.keys import DEFAULT, KeyFilter, parse_keys
from pyman.cli.session import STDERR, STDOUT, Session
from pyman.cli.signals import ENDING, Interrupted, Signals, die, proxied, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyman.cli.context import Context
    from pyman.wire import Connection, Reply

__all__ = ["ALL_STREAMS", "Wish", "converse", "talk"]

PATIENCE = 3
"""Signals, such as presses of Ctrl-C, that end the command while a container that exists does not start."""
ALL_STREAMS = frozenset({STDOUT, STDERR})


class Wish:
    """What the caller wants of a session."""

    def __init__(
        self,
        *,
        stdin: bool = False,
        tty: bool = False,
        streams: frozenset[int] = ALL_STREAMS,
        keys: str | None = None,
        proxy: bool | None = None,
        is_exec: bool = False,
    ) -> None:
        """`keys` and `proxy`: none where they were not asked for. `tty`: the container has a terminal."""
        self.stdin = stdin
        self.tty = tty
        self.streams = streams
        self.keys = keys
        self.proxy = proxy
        self.is_exec = is_exec
        self.told = (0, 0)
        if keys is not None:
            parse_keys(keys)  # a mistake is told before anything is done

    def size(self) -> dict[str, int]:
        """The fields of a request that tell the caller's terminal."""
        if not self.tty:
            return {}
        from pyman.cli.terminal import size

        self.told = rows, columns = size()
        return {"rows": rows, "columns": columns}


def converse(
    ctx: Context,
    method: str,
    request: dict[str, Any],
    wish: Wish,
    *,
    descriptors: Sequence[int] = (),
    before_start: Callable[[Reply], None] | None = None,
) -> int:
    """Make the call and live through the session; the exit status of the command.

    `before_start` is told every reply up to the one that begins the session.
    """
    try:
        return talk(ctx, method, request, wish, descriptors=descriptors, before_start=before_start)
    except Interrupted as end:
        return die(end.number)


def talk(
    ctx: Context,
    method: str,
    request: dict[str, Any],
    wish: Wish,
    *,
    descriptors: Sequence[int] = (),
    before_start: Callable[[Reply], None] | None = None,
) -> int:
    """As `converse`, but Interrupted is the caller's, who has something to put in order first."""
    raw = wish.stdin and wish.tty and os.isatty(0)
    if wish.tty and wish.stdin and not raw:
        ctx.warn("the input is not a terminal: --tty and --interactive may not work as expected")
    proxies = not wish.is_exec and (not raw if wish.proxy is None else wish.proxy)
    with Signals(_watched(wish, raw=raw, proxies=proxies)) as signals:
        since = time.time_ns()
        connection = ctx.connect()
        connection.send(method, request, descriptors)
        reply = _started(connection, signals, before_start)
        try:
            session = _session(ctx, signals, wish, reply, since)
            session.proxy = proxies
            code = _live(session, connection, reply, raw=raw)
        finally:
            reply.close()
        if code is None:
            connection.close()  # detached: the call is given up, the container goes on
        return code or 0


def _watched(wish: Wish, *, raw: bool, proxies: bool) -> list[int]:
    watched: list[int] = [*(proxied() if proxies else ENDING)]
    if wish.tty:
        watched.append(signal.SIGWINCH)
    if raw and not proxies:
        watched += (signal.SIGTSTP, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
    return watched


def _started(connection: Connection, signals: Signals, before_start: Callable[[Reply], None] | None) -> Reply:
    """The reply that begins the session."""
    exists = False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    poll.register(signals.fileno(), select.POLLIN)
    while True:
        while (reply := connection.ready()) is None:
            _interruptible(poll, signals, PATIENCE if exists else 1)
            connection.feed()
        exists = exists or reply.parameters.get("phase") != "pulling"
        if before_start is not None:
            before_start(reply)
        if reply.parameters.get("phase") in ("started", "attached", "exited") or not reply.continues:
            return reply
        reply.close()


def _interruptible(poll: select.poll, signals: Signals, patience: int) -> None:
    """Wait until there is something to read; Interrupted when so many signals have come that end a command."""
    while True:
        readable = [descriptor for descriptor, _event in poll.poll()]
        ending = [number for number in signals.pending if number in ENDING]
        if len(ending) >= patience:
            raise Interrupted(ending[-1])
        if signals.fileno() not in readable or len(readable) > 1:
            return
        signals.drain()


def _session(ctx: Context, signals: Signals, wish: Wish, reply: Reply, since: int) -> Session:
    parameters = reply.parameters
    session = Session(ctx, signals, container=str(parameters.get("id", "")), since=since)
    session.exec_id = str(parameters.get("exec_id", ""))
    session.streams = wish.streams
    wish.tty = bool(parameters.get("terminal", wish.tty))
    session.resizes = wish.tty
    session.size = wish.told
    session.stdin = wish.stdin
    # Piped input is data: in it the default keys are bytes like any others.
    if wish.stdin and (wish.keys is not None or wish.tty or os.isatty(0)):
        keys = wish.keys if wish.keys is not None else str(parameters.get("detach_keys") or DEFAULT)
        session.keys = KeyFilter(parse_keys(keys))
    return session


def _live(session: Session, connection: Connection, reply: Reply, *, raw: bool) -> int | None:
    attach = reply.take() if reply.descriptors else None
    if not reply.continues:
        session.finish(reply.parameters.get("exit_code"))
    if not raw:
        session.send_size()
        return session.run(connection, attach)
    from pyman.cli.terminal import Terminal

    with Terminal() as terminal:
        session.terminal = terminal
        session.send_size()
        return session.run(connection, attach)
