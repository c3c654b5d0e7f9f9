"""Restart policies on the command line: Podman's `--restart`, and pyman's own times and limits."""

from __future__ import annotations

from pyman.cli.options import CSV, SECONDS, TEXT
from pyman.cli.values import duration
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["RESTART_OPTIONS", "restart_policy", "restart_settings"]

RESTART_OPTIONS: tuple[Option, ...] = (
    ("restart", "", TEXT, "POLICY[:N]", "When to start it again: no, on-failure[:N], always, unless-stopped"),
    ("restart-delay", "", SECONDS, "SECONDS", "Wait before the first restart"),
    ("restart-factor", "", TEXT, "NUMBER", "By how much the wait grows with every restart"),
    ("restart-give-up", "", TEXT, "N[/SECONDS]", "End it after N restarts within so many seconds"),
    ("restart-maximum", "", SECONDS, "SECONDS", "The longest wait before a restart"),
    ("restart-reset", "", SECONDS, "SECONDS", "After running so long, begin with the first wait again"),
    ("restart-stop-codes", "", CSV, "CODE", "Exit codes after which there is no restart"),
)


def restart_settings(args: Parsed) -> dict[str, Any]:
    """The spec's fields that the options of `RESTART_OPTIONS` set. Raises InvalidArgument."""
    spec: dict[str, Any] = {}
    if args.restart:
        spec.update(restart_policy(args.restart))
    backoff: dict[str, Any] = {}
    for option, field in (
        ("restart_delay", "delay"),
        ("restart_maximum", "maximum"),
        ("restart_reset", "reset"),
    ):
        if args.given(option):
            backoff[field] = getattr(args, option)
    if args.given("restart_factor"):
        backoff["factor"] = _number("--restart-factor", args.restart_factor, 1, "a number from 1 on")
    if args.given("restart_give_up"):
        count, slash, window = args.restart_give_up.partition("/")
        form = "N or N/SECONDS"
        backoff["give_up_after"] = int(_number("--restart-give-up", count, 0, form))
        if slash:
            seconds = duration(window)
            if not seconds:
                raise InvalidArgument(
                    f"option --restart-give-up cannot be '{args.restart_give_up}'", hint=f"it must be {form}"
                )
            backoff["window"] = seconds
    if args.restart_stop_codes:
        backoff["stop_codes"] = [
            int(
                _number("--restart-stop-codes", code, 0, "exit codes from 0 to 255, separated by commas", 255)
            )
            for code in args.restart_stop_codes
        ]
    if backoff:
        spec["restart_backoff"] = backoff
    return spec


def restart_policy(text: str) -> dict[str, Any]:
    """`restart_policy` and perhaps `restart_tries` of `on-failure:3`. Raises InvalidArgument."""
    policy, colon, tries = text.partition(":")
    if policy == "never":
        policy = "no"
    known = ("no", "on-failure", "always", "unless-stopped")
    if policy not in known or (colon and policy != "on-failure"):
        raise InvalidArgument(
            f"option --restart cannot be '{text}'",
            hint="it must be no, on-failure[:N], always or unless-stopped",
        )
    if not colon:
        return {"restart_policy": policy}
    return {
        "restart_policy": policy,
        "restart_tries": int(_number("--restart", tries, 0, "on-failure:N, N a whole number from 0 on")),
    }


def _number(option: str, text: str, least: float, expected: str, most: float = 1e9) -> float:
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    whole = option == "--restart-factor" or number == int(number if abs(number) < 1e18 else 0)
    if not (least <= number <= most and whole):
        raise InvalidArgument(f"option {option} cannot be '{text}'", hint=f"it must be {expected}")
    return number
