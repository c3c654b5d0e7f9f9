"""Which containers are on which networks: by their definitions, whether they run or not, and by what there is of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyman.api.network import NetworkAddress, NetworkContainer, NetworkInterface

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyman.api.network import Network
    from supervisor.network.plans import Attachment
    from supervisor.runtime.container import Container

__all__ = ["User", "leaving", "running", "shown_on", "users"]


class User(NamedTuple):
    """A container that is on a network, whether it runs or not."""

    id: str
    name: str


def users(containers: Iterable[Container]) -> Mapping[str, Sequence[User]]:
    """By the names of networks. What is still being taken away from a network counts; what was removed does not."""
    found: dict[str, list[User]] = {}
    for container in containers:
        observed = container.observed
        names = dict.fromkeys(container.definition.spec.networks)
        for attachment in observed.attachments:
            names[attachment.network] = None
        if names and not observed.leaving:
            user = User(container.id, container.name)
            for name in names:
                found.setdefault(name, []).append(user)
    return found


def leaving(network: Network, containers: Iterable[Container]) -> list[str]:
    """The ids of those that were removed, and are not yet off it."""
    return [
        container.id
        for container in containers
        if container.observed.leaving
        and any(attachment.network == network.name for attachment in container.observed.attachments)
    ]


def running(containers: Iterable[Container]) -> Mapping[str, Sequence[Container]]:
    """Those that have an interface on a network, by the names of networks."""
    found: dict[str, list[Container]] = {}
    for container in containers:
        if not container.observed.leaving:
            for name in dict.fromkeys(each.network for each in container.observed.attachments):
                found.setdefault(name, []).append(container)
    return found


def shown_on(network: Network, containers: Iterable[Container]) -> dict[str, NetworkContainer]:
    """Those of `running`, by their ids."""
    return {
        container.id: NetworkContainer(
            container.name,
            {
                attachment.interface: _interface(network, attachment)
                for attachment in container.observed.attachments
                if attachment.network == network.name
            },
        )
        for container in containers
    }


def _interface(network: Network, attachment: Attachment) -> NetworkInterface:
    from ipaddress import ip_interface, ip_network

    gateways = {ip_network(each.subnet): each.gateway for each in network.subnets}
    subnets = [
        NetworkAddress(address.text, gateways.get(ip_interface(address.text).network, ""))
        for address in attachment.addresses
    ]
    return NetworkInterface(subnets, attachment.mac)
