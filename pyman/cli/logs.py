"""`pyman logs`: the supervisor hands over the log files, this command reads and follows them.

`Follower` keeps the files of each container in order; `Printer` (in `logprint.py`) gives the lines a form.
"""

from __future__ import annotations

import os
import select
import time

from pyman.cli.logprint import Plain, Printer
from pyman.cli.options import FLAG, INT, TEXT
from pyman.cli.times import since_time, until_time
from pyman.errors import EngineStopped, EngineUnavailable, InvalidArgument, NotSupported
from pyman.logfile import Chain, tail_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.inotify import Inotify
    from pyman.cli.options import Option, Parsed
    from pyman.wire import Connection, Reply

__all__ = ["LOGS_OPTIONS", "logs"]

LOGS_OPTIONS: tuple[Option, ...] = (
    ("color", "", FLAG, "", "Show each container in a colour of its own"),
    ("follow", "f", FLAG, "", "Go on until the containers end"),
    ("latest", "l", FLAG, "", "The container created last"),
    ("names", "n", FLAG, "", "With several containers: show names instead of ids"),
    ("since", "", TEXT, "TIME", "Begin at this time, or so long ago (1h30m)"),
    ("tail", "", INT, "NUMBER", "Only so many lines at the end; -1: all"),
    ("timestamps", "t", FLAG, "", "Show when each line was written"),
    ("until", "", TEXT, "TIME", "End at this time, or after so long (30s)"),
)


def logs(ctx: Context, args: Parsed) -> int:
    if args.latest and args.arguments:
        raise InvalidArgument("cannot use --latest together with containers' names")
    if not args.latest and not args.arguments:
        raise InvalidArgument(
            "cannot tell which container is meant", hint="give a name or an id, or --latest"
        )
    request = {"names": args.arguments, "latest": args.latest, "follow": args.follow}
    reader = _Reader(ctx, args)
    try:
        reader.run(ctx.connect(), request)
    finally:
        reader.close()
    return 0


class _Log:
    """One container's output: its files, and what prints them."""

    def __init__(self, rank: int, printer: Plain | Printer) -> None:
        self.rank = rank
        """Its place on the command line."""
        self.chain = Chain()
        self.printer = printer
        self.watched = -1
        """The file that the watch is on."""
        self.watch = -1
        self.ended = False
        self.begun = False
        """Whether the first line to show has been found."""
        self.skip_to: tuple[int, int] | None = None
        """After a reconnection: the newest file (device, inode) we have. It comes again, and those before it."""
        self.held: list[int] = []
        """Files that came before that one: all new if it does not come."""

    def drop_held(self) -> None:
        while self.held:
            os.close(self.held.pop())


def _rank_of(log: _Log) -> int:
    return log.rank


class _Reader:
    def __init__(self, ctx: Context, args: Parsed) -> None:
        self._ctx = ctx
        self._args = args
        self._tail: int = -1 if args.tail is None else args.tail
        self._since, self._until = since_time(args.since), until_time(args.until)
        self._several = len(args.arguments) > 1
        self._logs: dict[str, _Log] = {}
        self._watches: Inotify | None = None
        self._poll = select.poll()

    def close(self) -> None:
        for log in self._logs.values():
            log.chain.close()
            log.drop_held()
        if self._watches is not None:
            self._watches.close()

    # -- the stream -------------------------------------------------------------------------------

    def run(self, connection: Connection, request: dict[str, Any]) -> None:
        connection.send("Container.Logs", request)
        if not self._args.follow:
            continues = True
            while continues:
                reply = connection.receive()
                continues = reply.continues
                self._take(reply)
            for log in sorted(self._logs.values(), key=_rank_of):
                self._begin(log)
                log.chain.freeze()
                self._print(log)
                log.printer.finish()
            return
        from pyman.cli.inotify import Inotify

        self._watches = Inotify()
        self._poll.register(self._watches.fileno(), select.POLLIN)
        while not self._follow(connection):
            connection = self._again()

    def _follow(self, connection: Connection) -> bool:
        """Until everything has ended (true) or the supervisor went away (false)."""
        self._poll.register(connection.fileno(), select.POLLIN)
        descriptor = connection.fileno()
        connected = True
        try:
            while True:
                while connected and (reply := connection.ready()) is not None:
                    self._take(reply)
                    connected = reply.continues
                if not connected:
                    for log in self._logs.values():
                        log.ended = True
                self._print_all()
                if not connected or self._over():
                    return True
                ready = self._poll.poll(self._patience())
                if not ready:
                    self._print_all()
                    return True
                if self._watches is not None:
                    self._watches.take()
                if any(number == descriptor for number, _ in ready):
                    connection.feed()
        except (EngineUnavailable, EngineStopped):
            self._poll.unregister(descriptor)
            connection.close()
            return False

    def _again(self) -> Connection:
        """The same call to the next supervisor, for what has not ended."""
        from pyman.cli.inotify import reconnect

        while True:
            connection = reconnect(self._ctx)
            names = []
            for identity, log in self._logs.items():
                if log.ended:
                    continue
                try:
                    known = connection.call("Container.Exists", {"name": identity})["exists"]
                except EngineUnavailable:
                    break
                if known:
                    names.append(identity)
                    if log.chain.files:
                        status = os.fstat(log.chain.files[-1])
                        log.skip_to = (status.st_dev, status.st_ino)
                else:
                    log.ended = True  # removed meanwhile: what its file holds is all there is
            else:
                connection.send("Container.Logs", {"names": names, "follow": True})
                return connection

    def _take(self, reply: Reply) -> None:
        phase, identity = reply.parameters.get("phase"), str(reply.parameters.get("id", ""))
        try:
            if phase == "file":
                self._add(identity, reply)
            elif phase == "backlog-end":
                for log in self._named(identity):
                    self._begin(log)
            elif phase == "ended":
                for log in self._named(identity):
                    self._begin(log)
                    log.ended = True
        finally:
            reply.close()

    def _named(self, identity: str) -> list[_Log]:
        if not identity:
            return list(self._logs.values())
        return [self._logs[identity]] if identity in self._logs else []

    def _add(self, identity: str, reply: Reply) -> None:
        name = str(reply.parameters.get("name", ""))
        if reply.parameters.get("format") == "none":
            raise NotSupported(f"cannot show the logs of '{name}': its log driver keeps none", subject=name)
        log = self._logs.get(identity)
        if log is None:
            rank = self._rank(identity, name)
            log = self._logs[identity] = _Log(rank, self._printer(identity, name, rank))
        if log.skip_to is not None:
            status = os.fstat(reply.descriptors[0])
            if (status.st_dev, status.st_ino) == log.skip_to:
                log.skip_to = None  # this one is being read, those before it were; what follows is new
                log.drop_held()
                return
            log.held.append(reply.take())
            return
        log.chain.add(reply.take())

    def _rank(self, identity: str, name: str) -> int:
        given: list[str] = self._args.arguments
        for rank, text in enumerate(given):
            if text == name or identity.startswith(text):
                return rank
        return len(self._logs)

    def _printer(self, identity: str, name: str, rank: int) -> Plain | Printer:
        args = self._args
        prefix = (name if args.names else identity[:12]) + " " if self._several else ""
        color = rank if args.color else None
        if prefix or args.timestamps or color is not None:
            return Printer(
                prefix, timestamps=args.timestamps, color=color, since=self._since, until=self._until
            )
        return Plain(self._since, self._until)

    # -- the files --------------------------------------------------------------------------------

    def _begin(self, log: _Log) -> None:
        """All files of the past are there: leave out what --tail leaves out."""
        log.skip_to = None
        while log.held:
            log.chain.add(log.held.pop(0))
        if not log.begun:
            log.begun = True
            if self._tail >= 0:
                log.chain.start_at(*tail_start(log.chain.files, self._tail))

    def _print_all(self) -> None:
        for log in self._logs.values():
            if log.begun and not log.printer.past:
                self._watch(log)
                self._print(log)
                if log.ended:
                    log.printer.finish()
                    log.printer.past = True

    def _watch(self, log: _Log) -> None:
        """On the newest file, before it is read to its end: what is written afterwards is told."""
        newest = log.chain.files[-1] if log.chain.files else -1
        if newest == log.watched or self._watches is None:
            return
        if log.watch >= 0:
            self._watches.remove(log.watch)
        log.watch = self._watches.add(f"/proc/self/fd/{newest}", 0x2)
        log.watched = newest

    def _print(self, log: _Log) -> None:
        for block in log.chain.read():
            log.printer.show(block)
            if log.printer.past:
                break
        log.printer.pause()

    def _over(self) -> bool:
        logs = self._logs.values()
        return bool(logs) and all(log.ended or log.printer.past for log in logs)

    def _patience(self) -> int | None:
        """Milliseconds until the end that was asked for."""
        return None if self._until is None else max(0, (self._until - time.time_ns()) // 1_000_000 + 1)
