"""`pyman ps`: containers as a table, as ids, as JSON or by a template."""

from __future__ import annotations

import sys
import time

from pyman.cli.human import ago, byte_size, span
from pyman.cli.options import CSV, FLAG, INT, REFUSED, SECONDS, TEXT
from pyman.cli.table import columns, is_json, render
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["HEADERS", "PS_OPTIONS", "ps", "row", "status"]

PS_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "Also containers that do not run"),
    (
        "external",
        "",
        REFUSED,
        "",
        "containers of other engines are not shown; see podman or buildah, and exists --external",
    ),
    (
        "filter",
        "f",
        CSV,
        "KEY=VALUE",
        "Only containers that fit: id, name, label, status, exited, restart-policy, …",
    ),
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("last", "n", INT, "N", "The N containers created last, whatever their state"),
    ("latest", "l", FLAG, "", "The container created last, whatever its state"),
    ("no-trunc|notruncate", "", FLAG, "", "Show ids and commands in full"),
    ("noheading", "", FLAG, "", "Leave the headers out"),
    ("ns|namespace|namespaces", "", FLAG, "", "Show the namespaces of the processes"),
    ("pod", "p", FLAG, "", "Show the pods"),
    ("quiet", "q", FLAG, "", "Show ids only"),
    ("size", "s", FLAG, "", "Show the sizes on disk"),
    ("sort", "", TEXT, "KEY", "command, created, id, image, names, runningfor, size or status"),
    ("sync", "", FLAG, "", "Podman's look at the OCI runtime: what is shown is what is there, in any case"),
    ("watch", "w", SECONDS, "SECONDS", "Show it again and again, at this interval"),
)

HEADERS: dict[str, Any] = {
    "AutoRemove": "AUTO REMOVE",
    "CGROUPNS": "CGROUPNS",
    "Command": "COMMAND",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedHuman": "CREATED",
    "ExitCode": "EXIT CODE",
    "Exited": "EXITED",
    "ExitedAt": "EXITED AT",
    "ID": "CONTAINER ID",
    "IPC": "IPC",
    "Image": "IMAGE",
    "ImageID": "IMAGE ID",
    "IsInfra": "IS INFRA",
    "Label": str.upper,  # the column of {{.Label "key"}}
    "Labels": "LABELS",
    "MNT": "MNT",
    "Mounts": "MOUNTS",
    "NET": "NET",
    "Names": "NAMES",
    "Namespaces": "NAMESPACES",
    "Networks": "NETWORKS",
    "PIDNS": "PIDNS",
    "Pid": "PID",
    "Pod": "POD ID",
    "PodName": "PODNAME",
    "Ports": "PORTS",
    "Restarts": "RESTARTS",
    "RunningFor": "RUNNING FOR",
    "Size": "SIZE",
    "StartedAt": "STARTED AT",
    "State": "STATE",
    "Status": "STATUS",
    "USERNS": "USERNS",
    "UTS": "UTS",
}

_SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "command": lambda c: c["Command"],
    "created": lambda c: c["CreatedAt"],
    "id": lambda c: c["Id"],
    "image": lambda c: c["Image"],
    "names": lambda c: c["Names"],
    "runningfor": lambda c: c["StartedAt"],
    "size": lambda c: (c.get("Size") or {}).get("rwSize", 0),
    "status": lambda c: c["State"],
}
_LINE: dict[str, Any] = {
    **dict.fromkeys(("Id", "Names", "Image", "ImageID"), ""),
    "Command": [],
    **dict.fromkeys(("Created", "CreatedAt", "StartedAt"), 0),
    "Exited": False,
    **dict.fromkeys(("ExitedAt", "ExitCode"), 0),
    **dict.fromkeys(("State", "Status"), ""),
    **dict.fromkeys(("Pid", "Restarts"), 0),
    "AutoRemove": False,
    "Labels": {},
    "Mounts": [],
    "Namespaces": {},
    "Networks": [],
    "Ports": [],
    "ExposedPorts": [],
    **dict.fromkeys(("Pod", "PodName"), ""),
    "IsInfra": False,
}
"""The keys in their order, with the values that the supervisor leaves out. The lists and dicts are everybody's."""
_PORT = {"host_ip": "", "container_port": 0, "host_port": 0, "range": 1, "protocol": "tcp"}
_SPACES = ("CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS", "UTS")
_KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def ps(ctx: Context, args: Parsed) -> int:
    _conflicts(args)
    _show(ctx, args)
    while args.watch:
        sys.stdout.flush()
        time.sleep(args.watch)
        ctx.write("\033[H\033[2J\033[3J")
        _show(ctx, args)
    return 0


def _show(ctx: Context, args: Parsed) -> None:
    containers = _listed(ctx, args)
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented([_json(container) for container in containers], "  "))
        return
    if args.format:
        made = [row(container, whole=args.no_trunc, size=args.size) for container in containers]
        headers = None if args.noheading else HEADERS
        ctx.write(render(args.format, made, headers, listing=True))
        return
    if args.quiet:
        for container in containers:
            ctx.out(container["Id"] if args.no_trunc else container["Id"][:12])
        return
    names, now = _columns(args), time.time()
    lines = [] if args.noheading else [[HEADERS[name] for name in names]]
    for container in containers:
        fields: dict[str, Any]
        if args.ns:
            fields = row(container, whole=args.no_trunc, size=False, now=now)
        else:
            fields = _cells(container, whole=args.no_trunc, size=args.size, now=now)
        lines.append([str(fields[name]) for name in names])
    if lines:
        ctx.out(columns(lines))


def _conflicts(args: Parsed) -> None:
    if args.quiet and (args.ns or args.size):
        raise InvalidArgument(f"cannot use --quiet together with {'--ns' if args.ns else '--size'}")
    if args.size and args.ns:
        raise InvalidArgument("cannot use --size together with --ns")
    if args.watch is not None and (args.latest or args.watch < 0.1):
        reason = "together with --latest" if args.latest else "for less than 0.1 seconds"
        raise InvalidArgument(f"cannot use --watch {reason}")
    if args.latest and args.last is not None:
        raise InvalidArgument("cannot use --latest together with --last")
    if args.sort and args.sort.lower() not in _SORTS:
        raise InvalidArgument(
            f"option --sort cannot be '{args.sort}'", hint=f"it must be {', '.join(_SORTS)}"
        )


def _listed(ctx: Context, args: Parsed) -> list[dict[str, Any]]:
    from pyman.cli.container import filters_of

    request = {
        "all": args.all,
        "last": 1 if args.latest else max(0, args.last or 0),
        "size": args.size,
        "filters": filters_of(args.filter),
        "namespaces": bool(args.ns) or _names_spaces(args.format),
    }
    containers = [{**_LINE, **line} for line in ctx.call("Container.List", request)["containers"]]
    containers.sort(key=_SORTS["created"])
    if args.sort:
        containers.sort(key=_SORTS[args.sort.lower()])  # equals stay in the order of their making
    return containers


def _names_spaces(template: str) -> bool:
    return template.strip() == "json" or any(word in template for word in (*_SPACES, "Namespaces"))


def _columns(args: Parsed) -> list[str]:
    if args.ns:
        return ["ID", "Names", "Pid", *_SPACES]
    names = ["ID", "Image", "Command", "CreatedHuman", "Status", "Ports", "Names"]
    return names + ["Pod", "PodName"] * args.pod + ["Size"] * args.size


def row(container: dict[str, Any], *, whole: bool, size: bool, now: float | None = None) -> dict[str, Any]:
    """The fields that templates may use, by Podman's names; those of the container's own JSON, too."""
    from pyman.cli.template_functions import Moment

    now = time.time() if now is None else now
    spaces, moment = container["Namespaces"], Moment(container["CreatedAt"])
    return {
        **container,
        **_cells(container, whole=whole, size=size, now=now),
        "Created": moment,
        "CreatedAt": moment,
        "Label": lambda key: container["Labels"].get(key, ""),
        "Mounts": list(container["Mounts"]) if whole else [path[:15] for path in container["Mounts"]],
        "Networks": ",".join(container["Networks"]),
        "RunningFor": ago(now - container["Created"]),
        "State": status(container, now),
        **{name: spaces.get(kind, "") for name, kind in zip(_SPACES, _KINDS, strict=True)},
    }


def _cells(container: dict[str, Any], *, whole: bool, size: bool, now: float) -> dict[str, str]:
    """What the plain table shows: there may be thousands of rows."""
    identity, command, pod = container["Id"], " ".join(container["Command"]), container["Pod"]
    shown = status(container, now)
    return {
        "ID": identity if whole else identity[:12],
        "Image": container["Image"],
        "Command": command if whole or len(command) <= 17 else command[:17] + "...",
        "CreatedHuman": ago(now - container["Created"]),
        "Status": f"{shown} ({container['Status']})" if container["Status"] else shown,
        "Ports": _ports(container) if container["Ports"] or container["ExposedPorts"] else "",
        "Names": ",".join(container["Names"]),
        "Pod": pod if whole else pod[:12],
        "PodName": container["PodName"],
        "Size": _size(container) if size else "",
    }


def _ports(container: dict[str, Any]) -> str:
    from pyman.cli.shown_ports import shown

    return shown(container["Ports"], container["ExposedPorts"])


def status(container: dict[str, Any], now: float) -> str:
    """`Up 3 minutes`, `Exited (0) 2 hours ago`, else the state's name."""
    state: str = container["State"]
    if state == "running":
        return f"Up {span(now - container['StartedAt'])}"
    if state in ("exited", "stopped"):
        return f"Exited ({container['ExitCode']}) {ago(now - container['ExitedAt'])}"
    return state.capitalize()


def _size(container: dict[str, Any]) -> str:
    size = container.get("Size") or {}
    return f"{byte_size(size.get('rwSize', 0))} (virtual {byte_size(size.get('rootFsSize', 0))})"


def _json(container: dict[str, Any]) -> dict[str, Any]:
    """As Podman prints it: moments that people read are in words."""
    now = time.time()
    shown = row(container, whole=True, size=False, now=now)
    from pyman.cli.shown_ports import exposed_map

    return {
        **container,
        "CreatedAt": shown["CreatedHuman"],
        "Status": shown["Status"],
        "Ports": [{**_PORT, **port} for port in container["Ports"]],
        "ExposedPorts": exposed_map(container["ExposedPorts"]),
    }
