"""What `inspect` shows of a container's networks and of the ports that lead into it, with the keys of Podman's JSON."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "InspectAddress",
    "InspectAddresses",
    "InspectHostPort",
    "InspectNetworkSettings",
    "InspectOnNetwork",
]


class InspectAddress(msgspec.Struct, frozen=True, rename="pascal"):
    addr: str
    prefix_length: int


class InspectHostPort(msgspec.Struct, frozen=True, rename="pascal"):
    host_ip: str
    """0.0.0.0 where all addresses of the host are meant, IPv6 ones as well."""
    host_port: str


class InspectAddresses(msgspec.Struct, frozen=True, rename="pascal"):
    """Of a container that runs."""

    endpoint_id: str = msgspec.field(name="EndpointID", default="")
    gateway: str = ""
    ip_address: str = msgspec.field(name="IPAddress", default="")
    ip_prefix_len: int = msgspec.field(name="IPPrefixLen", default=0)
    secondary_ip_addresses: list[InspectAddress] | None = msgspec.field(
        name="SecondaryIPAddresses", default=None
    )
    ipv6_gateway: str = msgspec.field(name="IPv6Gateway", default="")
    global_ipv6_address: str = msgspec.field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = msgspec.field(name="GlobalIPv6PrefixLen", default=0)
    secondary_ipv6_addresses: list[InspectAddress] | None = msgspec.field(
        name="SecondaryIPv6Addresses", default=None
    )
    mac_address: str = ""


class InspectOnNetwork(InspectAddresses, frozen=True, rename="pascal"):
    """A container on a network."""

    network_id: str = msgspec.field(name="NetworkID", default="")
    driver_opts: dict[str, str] | None = None
    ipam_config: dict[str, str] | None = msgspec.field(name="IPAMConfig", default=None)
    links: list[str] | None = None
    aliases: list[str] | None = None
    """With the beginning of its id, which is one in any case."""


class InspectNetworkSettings(InspectAddresses, frozen=True, rename="pascal"):
    """Of a container that joins another one's network: what that one has. The addresses here are those on the default
    network, if it is on no other."""

    bridge: str = ""
    sandbox_id: str = msgspec.field(name="SandboxID", default="")
    hairpin_mode: bool = False
    link_local_ipv6_address: str = msgspec.field(name="LinkLocalIPv6Address", default="")
    link_local_ipv6_prefix_len: int = msgspec.field(name="LinkLocalIPv6PrefixLen", default=0)
    ports: dict[str, Any] = {}
    """Lists of InspectHostPort by port and protocol in the container; null: it is exposed only."""
    sandbox_key: str = ""
    """Where its network namespace is while it runs."""
    networks: dict[str, InspectOnNetwork] | None = None
