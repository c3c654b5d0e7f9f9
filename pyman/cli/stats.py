"""`pyman stats`: what containers use, once or again and again."""

from __future__ import annotations

import os
import sys

from pyman.cli.human import binary_size, byte_size
from pyman.cli.options import FLAG, SECONDS, TEXT
from pyman.cli.table import is_json, render
from pyman.errors import EngineStopped, EngineUnavailable, InvalidArgument
from pyman.spans import go_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["HEADERS", "STATS_OPTIONS", "row", "stats"]

STATS_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "Also containers that do not run"),
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("interval", "i", SECONDS, "SECONDS", "Time between two reports (default 5)"),
    ("latest", "l", FLAG, "", "The container created last"),
    ("no-reset", "", FLAG, "", "Leave on the terminal what was shown before"),
    ("no-stream", "", FLAG, "", "Show the present state, and end"),
    ("no-trunc", "", FLAG, "", "Show ids in full"),
)
HEADERS: dict[str, Any] = {
    "AVGCPU": "AVG CPU %",
    "AvgCPU": "AVG CPU",
    "BlockIO": "BLOCK IO",
    "BlockInput": "BLOCK INPUT",
    "BlockOutput": "BLOCK OUTPUT",
    "CPU": "CPU",
    "CPUNano": "CPU NANO",
    "CPUPerc": "CPU %",
    "CPUSystemNano": "CPU SYSTEM NANO",
    "ContainerID": "CONTAINER ID",
    "ContainerStats": "CONTAINER STATS",
    "Duration": "DURATION",
    "ID": "ID",
    "MemLimit": "MEM LIMIT",
    "MemPerc": "MEM %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemUsageBytes": "MEM USAGE / LIMIT",
    "Name": "NAME",
    "NetIO": "NET IO",
    "Network": "NETWORK",
    "PIDS": "PIDS",
    "PIDs": "PIDS",
    "SystemNano": "SYSTEM NANO",
    "Up": "UP",
    "UpTime": "CPU TIME",
}
_TABLE = "table " + "\t".join(
    f"{{{{.{name}}}}}"
    for name in (
        "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDS", "UpTime", "AVGCPU",
    )
)  # fmt: skip
_JSON = {
    "id": "ID",
    "name": "Name",
    "cpu_time": "Up",
    "cpu_percent": "CPUPerc",
    "avg_cpu": "AVGCPU",
    "mem_usage": "MemUsage",
    "mem_percent": "MemPerc",
    "net_io": "NetIO",
    "block_io": "BlockIO",
    "pids": "PIDS",
}
_CLEAR = "\033[H\033[2J\033[3J"
_DEFAULT_INTERVAL = 5.0


def stats(ctx: Context, args: Parsed) -> int:
    request = _request(args)
    clear = "" if args.no_reset or args.no_stream or not os.isatty(1) else _CLEAR
    connection = ctx.connect()
    while True:
        try:
            for reply in connection.stream("Container.Stats", request):
                reply.close()
                shown = [row(one, whole=args.no_trunc) for one in reply.parameters["stats"]]
                ctx.write(clear + _text(args.format, shown))
                sys.stdout.flush()
            return 0
        except (EngineUnavailable, EngineStopped):
            from pyman.cli.inotify import reconnect

            connection.close()
            connection = reconnect(ctx)


def _request(args: Parsed) -> dict[str, Any]:
    if args.all + args.latest + bool(args.arguments) > 1:
        raise InvalidArgument("cannot use --all, --latest and containers together")
    interval = _DEFAULT_INTERVAL if args.interval is None else args.interval
    return {
        "names": list(args.arguments),
        "all": args.all,
        "latest": args.latest,
        "stream": not args.no_stream,
        "interval": interval,
    }


def _text(form: str, rows: list[dict[str, Any]]) -> str:
    if is_json(form):
        from pyman.cli.jsontext import indented

        return indented([{key: str(one[name]) for key, name in _JSON.items()} for one in rows], " ") + "\n"
    return render(form or _TABLE, rows, HEADERS, listing=True)


def row(one: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """The fields that templates may use, by Podman's names."""
    networks = one["Network"].values()
    used, limit = one["MemUsage"], one["MemLimit"]
    spent = go_duration(one["CPUNano"])
    return {
        **one,
        "AVGCPU": _percent(one["AvgCPU"]),
        "BlockIO": _both(one["BlockInput"], one["BlockOutput"]),
        "CPUPerc": _percent(one["CPU"]),
        "ContainerStats": one,
        "ID": one["ContainerID"] if whole else one["ContainerID"][:12],
        "MemPerc": _percent(one["MemPerc"]),
        "MemUsage": _both(used, limit),
        "MemUsageBytes": f"{binary_size(used)} / {binary_size(limit)}",
        "NetIO": _both(sum(each["RxBytes"] for each in networks), sum(each["TxBytes"] for each in networks)),
        "PIDS": one["PIDs"],
        "Up": spent,
        "UpTime": spent,
    }


def _percent(number: float) -> str:
    return f"{number:.2f}%"


def _both(one: int, other: int) -> str:
    return f"{byte_size(one, 4)} / {byte_size(other, 4)}"
