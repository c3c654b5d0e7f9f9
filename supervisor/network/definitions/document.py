"""A network's file: JSON as netavark and Podman have it, in the order and with the blanks with which Podman writes it.

What others have put into a file and is not known here stays in it. A document that says nothing sensible is refused with
what is wrong; one that Podman would complete is completed in the same way.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.api.network import Network, Route
from pyman.errors import InvalidArgument
from pyman.stamps import parse_stamp
from supervisor.network.definitions.addresses import checked_subnet, parse_address, parse_block
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.network import Subnet

__all__ = ["NAME", "NAME_MOST", "checked", "decoded", "encoded"]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
NAME_MOST = 200
"""Characters: the name of a file has to hold it, and what that is called while it is written."""
_ID = re.compile(r"[0-9a-zA-Z]{64}")
_ALWAYS = (
    "name",
    "id",
    "driver",
    "created",
    "ipv6_enabled",
    "internal",
    "dns_enabled",
    "subnet",
    "destination",
)
"""Written also where it says nothing."""
_NESTED = ("subnets", "routes", "lease_range")


def decoded(content: bytes) -> Network:
    """InvalidArgument: what is wrong with it."""
    try:
        fields = msgspec.json.decode(content)
        if not isinstance(fields, dict):
            raise InvalidArgument("it is not an object")
        return checked(msgspec.convert(_without_null(fields), Network))
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(str(error)) from None


def _without_null(value: Any) -> Any:
    """Go's empty lists and maps."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    return value


def _has_gateways(network: Network) -> bool:
    """Whether subnets that name no gateway have one all the same."""
    return not network.internal or network.dns_enabled


def checked(network: Network) -> Network:
    """As all of the engine may take it. InvalidArgument."""
    if not NAME.fullmatch(network.name):
        raise InvalidArgument(f"'{network.name}' cannot be the name of a network")
    if not _ID.fullmatch(network.id):
        raise InvalidArgument(f"'{network.id}' is not an id of 64 digits")
    if parse_stamp(network.created) is None:
        raise InvalidArgument(f"'{network.created}' is not a time")
    subnets = [checked_subnet(each, with_gateway=_has_gateways(network)) for each in network.subnets]
    _refuse_overlap(subnets)
    six = any(is_ipv6(each.subnet) for each in subnets)
    return msgspec.structs.replace(
        network,
        subnets=subnets,
        routes=[_checked_route(each) for each in network.routes],
        ipv6_enabled=network.ipv6_enabled or six,
    )


def _refuse_overlap(subnets: list[Subnet]) -> None:
    """Of one network's. InvalidArgument."""
    blocks = [parse_block(each.subnet, "subnet") for each in subnets]
    ordered = sorted(blocks, key=lambda block: (block.version, int(block[0])))
    for former, latter in pairwise(ordered):
        if former.version == latter.version and int(latter[0]) <= int(former[-1]):
            raise InvalidArgument(
                f"cannot use the subnet '{latter}': it overlaps the subnet '{former}' of the same network",
                subject=str(latter),
            )


def _checked_route(route: Route) -> Route:
    block = parse_block(route.destination, "destination of a route")
    if not route.gateway:  # other kinds of routes, which later engines have
        return Route(str(block), "", route.metric)
    gateway = parse_address(route.gateway, "gateway of a route")
    return Route(str(block), str(gateway), route.metric)


# ---------------------------------------------------------------------- writing


def encoded(network: Network, former: bytes = b"") -> bytes:
    """`former`: the file in whose place it comes."""
    fields = _told(msgspec.to_builtins(network))
    if former:
        fields |= {key: value for key, value in _unknown(former).items() if key not in fields}
    return msgspec.json.format(msgspec.json.encode(fields), indent=5) + b"\n"


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing."""
    told = {key: _inner(value) if key in _NESTED else value for key, value in fields.items()}
    return {
        key: value
        for key, value in told.items()
        if key in _ALWAYS or (value is not None and value not in ("", [], {}))
    }


def _inner(value: Any) -> Any:
    if isinstance(value, list):
        return [_told(item) for item in value]
    return value if value is None else _told(value)


def _unknown(former: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(former)
    except msgspec.DecodeError:
        return {}
    known = {*Network.__struct_fields__}
    return (
        {key: value for key, value in fields.items() if key not in known} if isinstance(fields, dict) else {}
    )
