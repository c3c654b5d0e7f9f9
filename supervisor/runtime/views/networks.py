"""What is shown of the networks that a container is on and of the ports that lead into it: from memory, but for the ids of
networks that it is not on just now.

A container that joins another one's network has what that one has, as far as people are concerned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyman.api.inspect_networks import (
    InspectAddress,
    InspectAddresses,
    InspectHostPort,
    InspectNetworkSettings,
    InspectOnNetwork,
)
from pyman.errors import PymanError
from pyman.names import STATES_WITH_PROCESS
from supervisor.network.plans import is_ipv6
from supervisor.oci import ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyman.api.spec import PortMapping
    from supervisor.network.plans import Address, Attachment, NetworkPlan
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services

    Find = Callable[[str], Container | None]

__all__ = ["bindings", "by_names", "exposed", "inspect_networks", "owner_of", "published"]

_ANYWHERE = "0.0.0.0"  # noqa: S104 - shown, not listened at


def owner_of(container: Container, find: Find) -> Container:
    """Whose network it is: itself, unless it joins another one's."""
    seen = {container.id}
    while (wish := container.definition.spec.netns).nsmode == "container":
        found = find(wish.value)
        if found is None or found.id in seen:
            break
        container = found
        seen.add(container.id)
    return container


def published(container: Container, find: Find) -> list[PortMapping]:
    return owner_of(container, find).definition.spec.portmappings


def exposed(definition: Definition) -> list[str]:
    """`80/tcp`, `90-91/udp`."""
    if not (definition.spec.expose or definition.image.ports):
        return []
    found = ports.rows(definition.spec, definition.image)
    return [f"{row.first}{f'-{row.last}' if row.last > row.first else ''}/{row.protocol}" for row in found]


async def by_names(services: Services, filters: dict[str, list[str]]) -> dict[str, list[str]]:
    """Filters with the names of networks instead of their ids: containers know only those."""
    if not filters.get("network"):
        return filters
    known = await services.networks.known()
    return {**filters, "network": [known.name_of(value) for value in filters["network"]]}


def bindings(mappings: Iterable[PortMapping]) -> dict[str, list[InspectHostPort]]:
    """By port and protocol in the container."""
    found: dict[str, list[InspectHostPort]] = {}
    for mapping in mappings:
        for step in range(mapping.range):
            place = InspectHostPort(mapping.host_ip or _ANYWHERE, str(mapping.host_port + step))
            inside = f"{mapping.container_port + step}/{mapping.protocol}"
            found.setdefault(inside, []).append(place)
    return found


async def inspect_networks(services: Services, container: Container) -> InspectNetworkSettings:
    owner = owner_of(container, services.find)
    mode = owner.definition.spec.netns.nsmode
    spec, init = owner.definition.spec, owner.observed.init
    shown: dict[str, list[InspectHostPort] | None] = {**bindings(spec.portmappings)}
    if mode != "host" and owner is container:
        for port in ports.exposed(spec, owner.definition.image):
            shown.setdefault(port, None)
    networks = await _networks(services, owner)
    default = services.settings.network.default_network
    own = networks[default] if networks is not None and networks.keys() == {default} else InspectOnNetwork()
    running = init is not None and owner.state in STATES_WITH_PROCESS
    return InspectNetworkSettings(
        **{field: getattr(own, field) for field in InspectAddresses.__struct_fields__},
        ports=shown,
        sandbox_key=f"/proc/{init.pid}/ns/net" if running and init is not None and mode != "host" else "",
        networks=networks,
    )


async def _networks(services: Services, owner: Container) -> dict[str, InspectOnNetwork] | None:
    definition, observed = owner.definition, owner.observed
    wishes = definition.spec.networks
    if not wishes:
        mode = definition.spec.netns.nsmode
        return None if mode in ("", "ns", "container") else {mode: InspectOnNetwork(network_id=mode)}
    plans = {plan.name: plan for plan in observed.networks}
    there = {each.network: each for each in observed.attachments}
    ids = {} if wishes.keys() <= plans.keys() else await _ids(services)
    found = {}
    for name, wish in wishes.items():
        aliases = [*wish.aliases, owner.id[:12]]
        if name in there and name in plans:
            found[name] = _on(plans[name], there[name], aliases)
        else:
            found[name] = InspectOnNetwork(network_id=ids.get(name, name), aliases=aliases)
    return found


async def _ids(services: Services) -> dict[str, str]:
    """Those that can be told: it is no reason not to show the rest."""
    try:
        known = await services.networks.known()
    except PymanError:
        return {}
    return {name: network.id for name, network in known.by_name.items()}


def _on(plan: NetworkPlan, attachment: Attachment, aliases: list[str]) -> InspectOnNetwork:
    v4, v6 = (
        [each for each in attachment.addresses if is_ipv6(each.address) is six] for six in (False, True)
    )
    found: dict[str, Any] = {}
    if v4:
        gateway = attachment.gateway if plan.leased else _gateway(plan, v4[0])
        found.update(ip_address=v4[0].address, ip_prefix_len=v4[0].prefix, gateway=gateway)
    if v6:
        found.update(
            global_ipv6_address=v6[0].address,
            global_ipv6_prefix_len=v6[0].prefix,
            ipv6_gateway=_gateway(plan, v6[0]),
        )
    return InspectOnNetwork(
        **found,
        secondary_ip_addresses=_secondary(v4),
        secondary_ipv6_addresses=_secondary(v6),
        mac_address=attachment.mac,
        network_id=plan.id,
        aliases=aliases,
    )


def _gateway(plan: NetworkPlan, address: Address) -> str:
    if plan.internal:
        return ""
    from ipaddress import ip_address, ip_network

    number = ip_address(address.address)
    return next((each.gateway for each in plan.subnets if number in ip_network(each.subnet)), "")


def _secondary(addresses: list[Address]) -> list[InspectAddress] | None:
    return [InspectAddress(each.address, each.prefix) for each in addresses[1:]] or None
