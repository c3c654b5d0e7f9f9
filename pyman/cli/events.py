"""`pyman events`: the journal as it is written, or a part of it.

When the supervisor is restarted the command resumes where it was: the journal's numbers make sure that
nothing is missing and nothing comes twice.
"""

from __future__ import annotations

import select
import time

from pyman.cli.context import one_line
from pyman.cli.jsontext import compact
from pyman.cli.options import COUNT, LIST, TEXT, TRUE
from pyman.cli.session import write_all
from pyman.cli.times import show, since_time, until_time
from pyman.errors import EngineStopped, EngineUnavailable, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed
    from pyman.wire import Connection

__all__ = ["EVENTS_OPTIONS", "events"]

EVENTS_OPTIONS: tuple[Option, ...] = (
    (
        "filter",
        "f",
        LIST,
        "KEY=VALUE",
        "Only events that fit: container, event, type, label, image, pod, volume",
    ),
    ("format", "", TEXT, "FORMAT", "json, or a Go template for each event"),
    ("no-trunc", "", TRUE, "", "Show whole ids; --no-trunc=false shortens them"),
    ("since", "", TEXT, "TIME", "Begin at this time, or so long ago (1h30m)"),
    ("since-seq", "", COUNT, "NUMBER", "Begin after the event with this number"),
    ("stream", "", TRUE, "", "Wait for further events; --stream=false ends after the last"),
    ("until", "", TEXT, "TIME", "End at this time, or after so long (30s)"),
)

_REASONS = {
    "retention": "they are no longer kept",
    "power-cut": "the machine lost power",
}


def events(ctx: Context, args: Parsed) -> int:
    request = _request(args)
    write = _writer(args)
    if args.until and (request["until"] <= time.time_ns()):
        request["stream"] = False
    _Follower(ctx, request, write, gaps_as_json=_is_json(args.format)).run()
    return 0


def _request(args: Parsed) -> dict[str, Any]:
    filters: dict[str, list[str]] = {}
    for text in args.filter:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidArgument(f"option --filter cannot be '{text}'", hint="it must be KEY=VALUE")
        filters.setdefault(key.strip().lower(), []).append(value.strip())
    if args.since and args.since_seq is not None:
        raise InvalidArgument("cannot use --since together with --since-seq")
    request: dict[str, Any] = {"filters": filters, "stream": args.stream}
    since, until = since_time(args.since), until_time(args.until)
    if args.since_seq is not None:
        request["since_seq"] = args.since_seq
    elif since is not None:
        request["since"] = since
    elif until is not None or not args.stream:
        request["since"] = 0  # a part of the past was asked for, and no beginning
    if until is not None:
        request["until"] = until
    return request


# -- the stream -----------------------------------------------------------------------------------


class _Follower:
    """One subscription, over as many connections as it takes."""

    def __init__(
        self,
        ctx: Context,
        request: dict[str, Any],
        write: Callable[[dict[str, Any]], str],
        *,
        gaps_as_json: bool,
    ) -> None:
        self._ctx = ctx
        self._request = request
        self._write = write
        self._gaps_as_json = gaps_as_json
        self._last: int | None = None
        """Everything up to here has been told, or was not asked for."""
        self._lines: list[str] = []

    def run(self) -> None:
        connection = self._ctx.connect()
        while True:
            try:
                connection.send("Event.Subscribe", self._request)
                if self._receive(connection):
                    return
                # The time is over; what is still under way belongs to it.
                self._request["stream"] = False
                connection.close()
                connection = self._ctx.connect_again()
            except (EngineUnavailable, EngineStopped):
                from pyman.cli.inotify import reconnect

                self._flush()
                connection.close()
                connection = reconnect(self._ctx)
            if self._last is not None:
                self._request.pop("since", None)
                self._request["since_seq"] = self._last

    def _receive(self, connection: Connection) -> bool:
        """Until the last reply (true), or the end of the time asked for (false)."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        continues = True
        while continues:
            while continues and (reply := connection.ready()) is not None:
                reply.close()
                continues = reply.continues
                self._take(reply.parameters)
            self._flush()
            if continues:
                if not poll.poll(self._patience()):
                    return False
                connection.feed()
        return True

    def _patience(self) -> int | None:
        """Milliseconds until the end that was asked for."""
        until: int | None = self._request.get("until")
        if until is None or not self._request["stream"]:
            return None
        return max(0, (until - time.time_ns()) // 1_000_000 + 1)

    def _take(self, reply: dict[str, Any]) -> None:
        if reply.get("journal"):
            asked = self._request.get("since_seq") or 0
            if "journal" not in self._request and asked > reply.get("seq", 0):
                self._ctx.warn(f"there is no event {asked} yet: the last one is {reply.get('seq', 0)}")
            self._request["journal"] = reply["journal"]
            if "since" not in self._request and "since_seq" not in self._request:
                self._last = reply.get("seq", 0)
        event, gap = reply.get("event"), reply.get("gap")
        if event:
            number = event.get("Seq", 0)
            if self._last is None or number > self._last or "since" in self._request:
                self._lines.append(self._write(event))
            self._last = number
        elif gap:
            self._tell(gap)

    def _tell(self, gap: dict[str, Any]) -> None:
        first, last, reason = gap["first"], gap["last"], gap["reason"]
        if self._gaps_as_json:
            self._lines.append(compact({"Type": "gap", "First": first, "Last": last, "Reason": reason}))
        else:
            self._flush()
            if reason == "journal":
                self._ctx.warn(
                    f"event {first - 1} is none of this journal, which is shown from its beginning"
                )
            else:
                self._ctx.warn(f"events {first} to {last} cannot be shown: {_REASONS.get(reason, reason)}")
        self._last = 0 if reason == "journal" else max(last, self._last or 0)

    def _flush(self) -> None:
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            write_all(1, text.encode(errors="surrogateescape"))


# -- one event ------------------------------------------------------------------------------------


def _is_json(text: str) -> bool:
    return "".join(text.split()) in ("json", "{{json.}}")


def _writer(args: Parsed) -> Callable[[dict[str, Any]], str]:
    whole = args.no_trunc
    if _is_json(args.format):
        return lambda event: compact(_fields(event))
    if args.format:
        from pyman.cli.template import Template
        from pyman.cli.template_functions import Moment

        template = Template(args.format)

        def render(event: dict[str, Any]) -> str:
            details = {"ID": "", "Attributes": event.get("Attributes") or {}}
            fields = {**_ALWAYS, "Details": details, **_fields(event)}
            return template.render({**fields, "Time": Moment(event["Time"])})

        return render
    return lambda event: one_line(_line(event, whole=whole))


_ALWAYS: dict[str, Any] = {"ContainerExitCode": 0, "HealthStatus": "", "Network": ""}
"""Fields of Podman's that a template may name, whatever the event."""


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    """Podman's fields in Podman's form first, then ours."""
    attributes = event.get("Attributes") or {}
    code, health = attributes.get("containerExitCode"), attributes.get("health_status")
    first = {} if code is None else {"ContainerExitCode": int(code)}
    if health is not None:
        first["HealthStatus"] = health
    if event["Type"] == "network":
        first["Network"] = attributes.get("network", event["Name"])
    return {**first, **event}


def _line(event: dict[str, Any], *, whole: bool) -> str:
    """As `podman events` prints it."""
    kind, identity = event["Type"], event["ID"]
    begin = f"{show(event['TimeNano'])} {kind} {event['Status']}"
    if not whole:
        identity = identity[:12]
    name = event["Name"]
    if kind in ("container", "pod"):
        details = [f"image={event['Image']}", f"name={name}"]
        details += (f"{key}={value}" for key, value in (event.get("Attributes") or {}).items())
        return f"{begin} {identity} ({', '.join(details)})"
    if kind == "network" and event["Status"] in ("create", "remove", "update"):
        driver = (event.get("Attributes") or {}).get("driver", "")
        return f"{begin} {event['ID']} (name={name}, type={driver})"
    if kind == "network":
        network = (event.get("Attributes") or {}).get("network", name)
        return f"{begin} {identity} (container={identity}, name={network})"
    if kind == "image":
        return f"{begin} {identity} {name}"
    return f"{begin} {name}" if name else begin
