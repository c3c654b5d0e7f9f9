"""Options of the networks that a container is on and of the ports that lead into it, and what of the create request they
are."""

from __future__ import annotations

from pyman.cli.options import CSV, FLAG, LIST, REFUSED, TEXT
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["NETWORKING_OPTIONS", "network_settings"]

NETWORKING_OPTIONS: tuple[Option, ...] = (
    ("ip", "", TEXT, "IP", "Its IPv4 address on the network"),
    ("ip6", "", TEXT, "IP", "Its IPv6 address on the network"),
    ("link-local-ip", "", REFUSED, "IP", "no network has it, with Podman either; see --ip and --ip6"),
    ("mac-address", "", TEXT, "MAC", "The hardware address of its interface on the network"),
    (
        "network|net",
        "",
        LIST,
        "MODE",
        "Network: NETWORK[:OPTIONS], bridge, private, pasta, slirp4netns, none, host, container:NAME, ns:PATH",
    ),
    ("network-alias", "", CSV, "NAME", "A further name for it on its networks"),
    (
        "publish",
        "p",
        CSV,
        "[[IP:][PORT]:]PORT[/PROTOCOL]",
        "Have a port of the host, or a range FIRST-LAST, lead to one of its: tcp, udp or sctp",
    ),
    ("publish-all", "P", FLAG, "", "Have free ports of the host lead to all ports that it exposes"),
)

_DEFAULT = "default"
"""Stands for the default network, whatever it is called."""
_WORDS = ("none", "host", "private", "pod")
_JOINED = ("container", "ns")
_USER_MODES = ("pasta", "slirp4netns")
_OPTIONS = {
    "alias": "aliases",
    "interface_name": "interface_name",
    "ip": "static_ips",
    "ip6": "static_ips",
    "mac": "static_mac",
}
"""Of a network: the fields of the request. What else there is are the driver's options."""
_LISTS = ("aliases", "static_ips")


def network_settings(args: Parsed) -> dict[str, Any]:
    """Raises InvalidArgument."""
    settings = _networks(args.network) if args.network else {}
    _single(args, settings)
    if args.publish:
        from pyman.cli.publishing import published

        settings["portmappings"] = published(args.publish)
    if args.publish_all:
        settings["publish_image_ports"] = True
    return settings


def _networks(values: list[str]) -> dict[str, Any]:
    """As Podman: the first one decides, and others may only be further networks."""
    first, *others = values
    mode, colon, rest = first.partition(":")
    if first in ("", _DEFAULT):
        settings: dict[str, Any] = {"netns": {"nsmode": "private"}}
    elif mode in _WORDS:
        if colon:
            raise InvalidArgument(f"option --network cannot be '{first}': {mode} has no options")
        settings = {"netns": {"nsmode": mode}}
    elif mode in _JOINED:
        settings = {"netns": {"nsmode": mode, "value": _place(first, mode, rest)}}
    elif mode in _USER_MODES:
        settings = {"netns": {"nsmode": mode}}
        if rest:
            settings["network_options"] = {mode: rest.split(",")}
    else:
        names = [_DEFAULT] if mode == "bridge" else [mode] if colon else first.split(",")
        settings = {"netns": {"nsmode": "bridge"}, "Networks": {}}
        for name in names:
            _add(settings["Networks"], first, name, rest)
    for value in others:
        if "Networks" not in settings:
            raise InvalidArgument(f"cannot use --network {value} together with --network {first}")
        name, _, rest = value.partition(":")
        if name in ("bridge", _DEFAULT, *_WORDS, *_JOINED, *_USER_MODES):
            raise InvalidArgument(
                f"cannot use --network {value} together with --network {first}",
                hint="a mode comes first, and only further networks after it",
            )
        _add(settings["Networks"], value, name, rest)
    return settings


def _place(text: str, mode: str, rest: str) -> str:
    if not rest:
        what = "the name of a container" if mode == "container" else "the path of a namespace"
        raise InvalidArgument(f"option --network cannot be '{text}': {what} is missing")
    if mode == "ns" and not rest.startswith("/"):
        raise InvalidArgument(f"option --network cannot be '{text}': the path is not absolute")
    return rest


def _add(networks: dict[str, Any], value: str, name: str, options: str) -> None:
    if not name:
        raise InvalidArgument(f"option --network cannot be '{value}': the name of a network is missing")
    if name in networks:
        raise InvalidArgument(f"cannot use --network {name} more than once", subject=name)
    networks[name] = _wish(options)


def _wish(text: str) -> dict[str, Any]:
    """How to be on a network, of `ip=IP,mac=MAC,…`. InvalidArgument."""
    wish: dict[str, Any] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.partition("=")
        if not key or not value:
            raise InvalidArgument(
                f"option --network cannot have '{pair}'",
                hint=f"a network's options are NAME=VALUE: {', '.join(_OPTIONS)}, host_interface_name",
            )
        field = _OPTIONS.get(key)
        if field is None:
            wish.setdefault("options", {})[key] = value
        elif field in _LISTS:
            wish.setdefault(field, []).append(value)
        else:
            wish[field] = value
    return wish


def _single(args: Parsed, settings: dict[str, Any]) -> None:
    """Options that are about the network, as there is mostly one."""
    given = [name for name in ("ip", "ip6", "mac-address", "network-alias") if args.given(name)]
    if not given:
        return
    mode = settings.get("netns", {}).get("nsmode", "private")
    if mode not in ("bridge", "private"):
        raise InvalidArgument(f"cannot use --{given[0]} together with --network {args.network[0]}")
    networks: dict[str, Any] = settings.setdefault("Networks", {_DEFAULT: {}})
    if len(networks) > 1 and given != ["network-alias"]:
        raise InvalidArgument(
            f"cannot use --{given[0]} with {len(networks)} networks",
            hint="say it of one of them, as in --network NAME:ip=IP,mac=MAC",
        )
    for wish in networks.values():
        ips = [ip for ip in (args.ip, args.ip6) if ip]
        if ips:
            wish["static_ips"] = [*wish.get("static_ips", ()), *ips]
        if args.mac_address:
            wish["static_mac"] = args.mac_address
        if args.network_alias:
            wish["aliases"] = [*wish.get("aliases", ()), *args.network_alias]
