"""`pyman network …`: networks defined, changed, listed, shown and removed, and containers put on them."""

from __future__ import annotations

from pyman.cli.context import sentence
from pyman.cli.options import CSV, FLAG, LIST, SECONDS, TEXT
from pyman.cli.table import is_json, render
from pyman.errors import InvalidArgument, PymanError
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = [
    "connect",
    "create",
    "disconnect",
    "exists",
    "inspect",
    "inspected",
    "list_networks",
    "prune",
    "reload",
    "rm",
    "shown",
    "update",
]

CREATE_OPTIONS: tuple[Option, ...] = (
    ("disable-dns", "", FLAG, "", "Containers do not find one another by their names"),
    ("dns", "", CSV, "IP", "Ask this server for other names; may be repeated"),
    ("driver", "d", TEXT, "NAME", "bridge (default), macvlan or ipvlan"),
    ("gateway", "", CSV, "IP", "The gateway of the subnet in the same place; may be repeated"),
    ("ignore", "", FLAG, "", "One that is there is no mistake"),
    ("interface-name", "", TEXT, "NAME", "The bridge; of macvlan and ipvlan the host's interface below"),
    ("internal", "", FLAG, "", "Nothing outside of it is reached"),
    ("ip-range", "", LIST, "RANGE", "Addresses for containers, CIDR or FIRST-LAST, of the subnet in the same place"),
    ("ipam-driver", "", TEXT, "NAME", "Who gives addresses: host-local, dhcp or none"),
    ("ipv6", "", FLAG, "", "With an IPv4 and an IPv6 subnet"),
    ("label", "", LIST, "KEY=VALUE", "A label; may be repeated"),
    (
        "opt",
        "o",
        LIST,
        "KEY=VALUE",
        "Of the driver: mtu, metric, no_default_route; isolate, mode, vlan, vrf; parent, bclim; may be repeated",
    ),
    ("route", "", LIST, "CIDR,GATEWAY[,METRIC]", "A further route in its containers; may be repeated"),
    ("subnet", "", LIST, "CIDR", "A subnet of it (default: one that is free); may be repeated"),
)  # fmt: skip
LS_OPTIONS: tuple[Option, ...] = (
    (
        "filter",
        "f",
        LIST,
        "KEY=VALUE",
        "Only networks that fit: dangling, driver, id, label, name, until",
    ),
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("no-trunc", "", FLAG, "", "Show whole ids"),
    ("noheading", "n", FLAG, "", "Leave the headers out"),
    ("quiet", "q", FLAG, "", "Show names only"),
)
INSPECT_OPTIONS: tuple[Option, ...] = (
    ("format", "f", TEXT, "TEMPLATE", "json, or a template (default json)"),
)
RM_OPTIONS: tuple[Option, ...] = (
    ("force", "f", FLAG, "", "Also the containers that are on it"),
    ("time", "t", SECONDS, "SECONDS", "With --force: time until SIGKILL"),
)
PRUNE_OPTIONS: tuple[Option, ...] = (
    ("filter", "", LIST, "KEY=VALUE", "Only networks that fit: label, until"),
    ("force", "f", FLAG, "", "Do not ask"),
)
CONNECT_OPTIONS: tuple[Option, ...] = (
    ("alias", "", CSV, "NAME", "A further name for it on this network; may be repeated"),
    ("ip", "", TEXT, "IP", "Its IPv4 address on this network"),
    ("ip6", "", TEXT, "IP", "Its IPv6 address on this network"),
    ("mac-address", "", TEXT, "MAC", "The hardware address of its interface on this network"),
)
DISCONNECT_OPTIONS: tuple[Option, ...] = (
    ("force", "f", FLAG, "", "Also where there is no such network any more"),
)
RELOAD_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All containers that run and are on networks"),
    ("latest", "l", FLAG, "", "The container that was created last"),
)
UPDATE_OPTIONS: tuple[Option, ...] = (
    ("dns-add", "", CSV, "IP", "Ask this server for other names, too; may be repeated"),
    ("dns-drop", "", CSV, "IP", "Do not ask this server any more; may be repeated"),
)
EXISTS_OPTIONS: tuple[Option, ...] = ()

HEADERS: dict[str, Any] = {
    "Created": "CREATED",
    "DNSEnabled": "DNSENABLED",
    "Driver": "DRIVER",
    "ID": "NETWORK ID",
    "IPAMOptions": "IPAMOPTIONS",
    "IPv6Enabled": "IPV6ENABLED",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Name": "NAME",
    "NetworkDNSServers": "NETWORKDNSSERVERS",
    "NetworkInterface": "NETWORKINTERFACE",
    "Options": "OPTIONS",
    "Routes": "ROUTES",
    "Subnets": "SUBNETS",
}
_TABLE = "table {{.ID}}\t{{.Name}}\t{{.Driver}}"
_ORDER = (
    *(
        "name",
        "id",
        "driver",
        "network_interface",
        "created",
        "subnets",
        "routes",
        "ipv6_enabled",
        "internal",
    ),
    *("dns_enabled", "network_dns_servers", "labels", "options", "ipam_options", "containers"),
)
_ALWAYS = frozenset(
    ("name", "id", "driver", "created", "ipv6_enabled", "internal", "dns_enabled", "containers")
)
_GO = {
    "dns_enabled": "DNSEnabled",
    "id": "ID",
    "ipam_options": "IPAMOptions",
    "ipv6_enabled": "IPv6Enabled",
    "network_dns_servers": "NetworkDNSServers",
    "start_ip": "StartIP",
    "end_ip": "EndIP",
    "ipnet": "IPNet",
    "mac_address": "MacAddress",
}
"""The names of fields in templates that do not follow from those in documents."""
_MAPS = frozenset(("labels", "options", "ipam_options"))
_PRUNE = "This will remove all networks not used by at least one container."


def create(ctx: Context, args: Parsed) -> int:
    from pyman.cli.values import labels

    if args.arguments and not args.arguments[0]:
        raise InvalidArgument("cannot use the name '': it is empty")
    request = {
        "name": args.arguments[0] if args.arguments else "",
        "driver": args.driver,
        "network_interface": args.interface_name,
        "subnets": _subnets(args.subnet, args.gateway, args.ip_range),
        "routes": [_route(text) for text in args.route],
        "ipv6_enabled": args.ipv6,
        "internal": args.internal,
        "dns_enabled": not args.disable_dns,
        "network_dns_servers": args.dns,
        "labels": labels(args.label, "--label"),
        "options": _options(args.opt),
        "ipam_driver": args.ipam_driver,
        "ignore": args.ignore,
    }
    ctx.out(ctx.call("Network.Create", request)["network"]["name"])
    return 0


def _subnets(subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str]) -> list[dict[str, str]]:
    """What is in the same place belongs together."""
    for option, values in (("--gateway", gateways), ("--ip-range", ranges)):
        if len(values) > len(subnets):
            raise InvalidArgument(
                f"cannot use more {option} than --subnet", hint="each belongs to the subnet in the same place"
            )
    found = []
    for place, subnet in enumerate(subnets):
        wish = {"subnet": subnet}
        if place < len(gateways):
            wish["gateway"] = gateways[place]
        if place < len(ranges):
            wish["ip_range"] = ranges[place]
        found.append(wish)
    return found


def _route(text: str) -> dict[str, Any]:
    destination, *rest = text.split(",")
    metric = rest[1] if len(rest) == 2 else ""
    if not 1 <= len(rest) <= 2 or (len(rest) == 2 and not is_decimal(metric)):
        raise InvalidArgument(
            f"option --route cannot be '{text}'", hint="it must be DESTINATION,GATEWAY or DESTINATION,GATEWAY,METRIC"
        )  # fmt: skip
    return {"destination": destination, "gateway": rest[0], **({"metric": int(metric)} if metric else {})}


def _options(pairs: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE`, or `KEY`. InvalidArgument."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key:
            raise InvalidArgument(f"option --opt cannot be '{pair}'", hint="it must be KEY=VALUE or KEY")
        if key in found:
            raise InvalidArgument(f"option --opt has '{key}' twice")
        found[key] = value
    return found


def update(ctx: Context, args: Parsed) -> int:
    name = args.arguments[0]
    ctx.call(
        "Network.Update", {"name": name, "add_dns_servers": args.dns_add, "remove_dns_servers": args.dns_drop}
    )
    ctx.out(name)
    return 0


# ---------------------------------------------------------------------- containers on networks


def connect(ctx: Context, args: Parsed) -> int:
    name, container = args.arguments
    given = {
        "static_ips": [ip for ip in (args.ip, args.ip6) if ip],
        "aliases": args.alias,
        "static_mac": args.mac_address,
    }
    options = {key: value for key, value in given.items() if value}
    try:
        ctx.call("Network.Connect", {"name": name, "container": container, "options": options})
    except PymanError as error:
        ctx.fail(error)
        return 125  # also for an address or a port that is taken: here no start has failed
    return 0


def disconnect(ctx: Context, args: Parsed) -> int:
    name, container = args.arguments
    ctx.call("Network.Disconnect", {"name": name, "container": container, "force": args.force})
    return 0


def reload(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import report, selection_of

    reply = ctx.call("Network.Reload", {"selection": selection_of(args)})
    return report(ctx, reply, named=False)


# ---------------------------------------------------------------------- showing


def list_networks(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import filters_of

    reply = ctx.call("Network.List", {"filters": filters_of(args.filter)})
    networks = reply["networks"]
    if args.quiet:
        for one in networks:
            ctx.out(one["name"])
    elif is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented([shown(one) for one in networks], "  "))
    else:
        rows = [_row(one, whole=args.no_trunc) for one in networks]
        headers = None if args.noheading else HEADERS
        ctx.write(render(args.format or _TABLE, rows, headers, listing=True))
    for error in reply.get("damaged") or ():
        ctx.warn(sentence(error))
    return 0


def _row(network: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """What templates of a listing may use."""
    fields = _fields(network)
    pairs = sorted(network["labels"].items())
    labels = ",".join(f"{key}={value}" for key, value in pairs)
    return {**fields, "ID": network["id"] if whole else network["id"][:12], "Labels": labels}


def shown(network: Mapping[str, Any]) -> dict[str, Any]:
    """Podman's document: its keys in their order, without those that say nothing."""
    told = {key: network[key] for key in _ORDER if network.get(key) or key in _ALWAYS & network.keys()}
    for key in ("subnets", "routes"):
        if key in told:
            told[key] = [_full(one) for one in told[key]]
    return told


def _full(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in fields.items() if value not in (None, "")}
    if "lease_range" in found:
        found["lease_range"] = _full(found["lease_range"])
    return found


def _fields(network: Mapping[str, Any]) -> dict[str, Any]:
    """For templates: the names that Go has for the fields."""
    from pyman.cli.template_functions import Map, Moment, Struct

    fields: dict[str, Any] = {_go(key): Map(value) if key in _MAPS else _renamed(value) for key, value in network.items()}  # fmt: skip
    fields["Created"] = Moment(network["created"])
    return Struct(fields, shown(network))


def _renamed(value: Any) -> Any:
    """`json` shows it as the document does."""
    from pyman.cli.template_functions import Map, Struct

    if isinstance(value, dict):
        fields = {_go(key): _renamed(item) for key, item in value.items() if key != "interfaces"}
        if "interfaces" in value:  # by names that are a container's
            fields["Interfaces"] = Map((name, _renamed(one)) for name, one in value["interfaces"].items())
        return Struct(fields, _full(value))
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return value


def _go(key: str) -> str:
    return _GO.get(key) or "".join(word[:1].upper() + word[1:] for word in key.split("_"))


def inspect(ctx: Context, args: Parsed) -> int:
    reply = ctx.call("Network.Inspect", {"names": args.arguments})
    if not args.format or is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented([shown(one) for one in reply["networks"]], "     "))
    else:
        rows = [inspected(one) for one in reply["networks"]]
        ctx.write(render(args.format, rows))
    errors = reply.get("errors") or ()
    for error in errors:
        ctx.fail(sentence(error))
    return 125 if errors else 0


def inspected(network: Mapping[str, Any]) -> dict[str, Any]:
    """One network, for templates; its `document` is what is shown without one."""
    from pyman.cli.template_functions import Map, Struct

    fields = _fields({key: value for key, value in network.items() if key != "containers"})
    containers = Map((id, _renamed(one)) for id, one in network["containers"].items())
    return Struct({**fields, "Network": fields, "Containers": containers}, shown(network))


# ---------------------------------------------------------------------- removing


def rm(ctx: Context, args: Parsed) -> int:
    """The exit status tells apart: 1 there is no such network, 2 it is in use."""
    if args.time is not None and not args.force:
        raise InvalidArgument(
            "cannot use --time without --force", hint="only what is forced is stopped first"
        )
    request = {"names": args.arguments, "force": args.force, "timeout": args.time}
    codes = set()
    for one in ctx.call("Network.Remove", request)["networks"]:
        error = one.get("error")
        if not error:
            ctx.out(one["name"])
        elif error["code"] != "NoSuchNetwork" or not args.force:
            ctx.fail(sentence(error))
            codes.add(error["code"])
    if "NetworkInUse" in codes:
        return 2
    return 1 if codes == {"NoSuchNetwork"} else 125 if codes else 0


def prune(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import filters_of

    filters = filters_of(args.filter)
    if not args.force and not ctx.confirm(_PRUNE):
        return 0
    status = 0
    for one in ctx.call("Network.Prune", {"filters": filters})["networks"]:
        if one.get("error"):
            ctx.fail(sentence(one["error"]))
            status = 125
        else:
            ctx.out(one["name"])
    return status


def exists(ctx: Context, args: Parsed) -> int:
    return 0 if ctx.call("Network.Exists", {"name": args.arguments[0]})["exists"] else 1
