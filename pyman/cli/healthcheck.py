"""Health checks: the options that describe one, and `pyman healthcheck run`."""

from __future__ import annotations

from pyman.cli.options import COUNT, FLAG, TEXT
from pyman.cli.times import nanoseconds
from pyman.cli.values import absolute
from pyman.errors import InvalidArgument, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["HEALTH_OPTIONS", "health_settings", "run"]

HEALTH_OPTIONS: tuple[Option, ...] = (
    ("health-cmd", "", TEXT, "COMMAND", "The health check: a line for the shell, a JSON list of words, or none"),
    ("health-interval", "", TEXT, "TIME", "How often it runs (30s), or disable"),
    ("health-log-destination", "", TEXT, "DIR", "Where its answers are kept, too: local, events_logger, or a directory"),
    ("health-max-log-count", "", COUNT, "N", "How many answers are kept (5); 0: as many as have room"),
    ("health-max-log-size", "", COUNT, "BYTES", "How much of an answer is kept (500); 0: as much as has room"),
    ("health-on-failure", "", TEXT, "ACTION", "What becomes of an unhealthy container: none, kill, restart, stop"),
    ("health-retries", "", COUNT, "N", "Failures in a row that make it unhealthy (3)"),
    ("health-start-period", "", TEXT, "TIME", "After the start, when failures do not count (0s)"),
    ("health-startup-cmd", "", TEXT, "COMMAND", "A check that comes first, until it has passed"),
    ("health-startup-interval", "", TEXT, "TIME", "How often that one runs (30s), or disable"),
    ("health-startup-retries", "", COUNT, "N", "Failures after which the container is restarted (0: never)"),
    ("health-startup-success", "", COUNT, "N", "Successes by which it has passed (0: one)"),
    ("health-startup-timeout", "", TEXT, "TIME", "How long it may take (30s)"),
    ("health-timeout", "", TEXT, "TIME", "How long the health check may take (30s)"),
    ("no-healthcheck", "", FLAG, "", "Forget the health check that the image has"),
)  # fmt: skip
RUN_OPTIONS: tuple[Option, ...] = (("ignore-result", "", FLAG, "", "Exit with 0 whatever comes of it"),)
_TIMES = (
    ("health-interval", "Interval"),
    ("health-timeout", "Timeout"),
    ("health-start-period", "StartPeriod"),
)
_STARTUP_TIMES = (("health-startup-interval", "Interval"), ("health-startup-timeout", "Timeout"))


def health_settings(args: Parsed, *, change: bool = False) -> dict[str, Any]:
    """The spec's fields that the options of `HEALTH_OPTIONS` set. `change`: there may be a check that they are about.
    Raises InvalidArgument."""
    spec: dict[str, Any] = {}
    own = _config(args, "health-cmd", _TIMES, "health-retries")
    if own:
        spec["healthconfig"] = own
    startup = _config(args, "health-startup-cmd", _STARTUP_TIMES, "health-startup-retries")
    if args.health_startup_success is not None:
        startup["Successes"] = args.health_startup_success
    if startup:
        if "Test" not in startup and not change:
            raise InvalidArgument(
                "cannot use the options --health-startup-… alone", hint="give a --health-startup-cmd"
            )
        spec["startupHealthConfig"] = startup
    if args.no_healthcheck:
        if own or startup:
            raise InvalidArgument("cannot use --no-healthcheck together with another --health option")
        spec["no_healthcheck"] = True
    if args.health_on_failure:
        spec["health_check_on_failure_action"] = args.health_on_failure
    if args.health_log_destination:
        where = args.health_log_destination
        spec["healthLogDestination"] = where if where in ("local", "events_logger") else absolute(where)
    if args.health_max_log_count is not None:
        spec["healthMaxLogCount"] = args.health_max_log_count
    if args.health_max_log_size is not None:
        spec["healthMaxLogSize"] = args.health_max_log_size
    return spec


def _config(args: Parsed, command: str, times: tuple[tuple[str, str], ...], retries: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if args.given(command.replace("-", "_")):
        config["Test"] = _test(command, getattr(args, command.replace("-", "_")))
    for option, field in times:
        text = getattr(args, option.replace("-", "_"))
        if text:
            config[field] = 0 if text == "disable" and field == "Interval" else _time(option, text)
    number = getattr(args, retries.replace("-", "_"))
    if number is not None:
        config["Retries"] = number
    return config


def _time(option: str, text: str) -> int:
    found = nanoseconds(text)
    if found is None or found < 0:
        raise InvalidArgument(f"option --{option} cannot be '{text}'", hint="it must be a time such as 30s")
    return found


def _test(option: str, text: str) -> list[str]:
    """As Podman understands it: a list of several words is a command, anything else a line for the shell."""
    words: list[str] | None = None
    if text.lstrip()[:1] == "[":
        from pyman.wire import decode

        try:
            found = decode(text)
        except ProtocolError:
            found = None
        if isinstance(found, list) and all(isinstance(word, str) for word in found):
            words = found
    listed = words is not None
    if words is None:
        words = text.split()
    if not words or not words[0]:
        raise InvalidArgument(f"option --{option} cannot be '{text}'", hint="it must be a command, or none")
    first = words[0].upper()
    if first == "NONE":
        return ["NONE"]
    if first in ("CMD", "CMD-SHELL"):
        return [first, *words[1:]] if first == "CMD" or listed else [first, text.split(maxsplit=1)[-1]]
    if listed and len(words) > 1:
        return ["CMD", *words]
    return ["CMD-SHELL", words[0] if listed else text]


def run(ctx: Context, args: Parsed) -> int:
    """The exit status: 0 healthy, 1 not; 125 where the check could not be run."""
    status = ctx.call("Container.HealthCheck", {"name": args.arguments[0]})["status"]
    if status == "healthy":
        return 0
    ctx.out(status)
    return 0 if args.ignore_result else 1
