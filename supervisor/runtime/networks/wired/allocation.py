"""Which container has which address, and which port of the host: in memory, made again from the records at a start.

Between looking and taking there is no wait, so two starts never get the same. Addresses are taken from the middle of a
range on, one after the other: Podman, which may have containers on the same network and tells nobody, begins at its
beginning. What has just been given back is the last that others get; a container that starts again gets what it had, if it
can.
"""

from __future__ import annotations

import secrets
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

import trio

from pyman.errors import AddressInUse, InvalidArgument, NetworkFailed, PortInUse
from supervisor.network.plans import Address, Attachment, is_ipv6

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pyman.api.network import Network, Subnet
    from pyman.api.spec import NetworkWish
    from pyman.errors import PymanError
    from supervisor.network.plans import Port

__all__ = ["Allocation", "Held"]


class Held(Exception):
    """By containers of ours, `holders` their ids: one of them may be about to give it back."""

    def __init__(self, holders: Collection[str], kind: type[PymanError], message: str, subject: str) -> None:
        """`kind`: what it is for whoever wanted it; `message`: what cannot be."""
        super().__init__(message)
        self.holders = holders
        self.kind = kind
        self.message = message
        self.subject = subject


class _Range(NamedTuple):
    """Of addresses, as numbers, both ends included."""

    first: int
    last: int
    closed: frozenset[int]
    """Those in it that are nobody's: the gateway's, the subnet's own, its broadcast address."""


def _nobody_else(address: str) -> bool:
    """Where there is one engine alone."""
    del address
    return True


def _nobody_told(address: str) -> None:
    del address


class Allocation:
    """One for an engine."""

    def __init__(self) -> None:
        self._holders: dict[tuple[str, str], str] = {}
        """Containers by network and address."""
        self._last: dict[tuple[str, str], int] = {}
        """The address given last, by network and subnet."""
        self._former: dict[str, dict[tuple[str, str], int]] = {}
        """By containers: what they had last, by network and subnet."""
        self._ports: dict[tuple[str, int], list[tuple[str, str]]] = {}
        """By protocol and number: the host's address, and the container."""
        self._given_back = trio.Event()

    def note(self, container: str, attachments: Iterable[Attachment], ports: Iterable[Port]) -> None:
        """What a record says."""
        self._note_ports(container, ports)
        for attachment in attachments:
            for address in attachment.addresses:
                self._holders[attachment.network_id, address.address] = container
                subnet = str(ip_network(address.text, strict=False))
                key = attachment.network_id, subnet
                self._last[key] = max(self._last.get(key, 0), int(ip_address(address.address)))

    def take(
        self,
        container: str,
        network: Network,
        wish: NetworkWish,
        interface: str,
        claim: Callable[[str], bool] = _nobody_else,
        release: Callable[[str], None] = _nobody_told,
    ) -> Attachment:
        """Addresses of all of a network's subnets, or none of them. InvalidArgument: one that is wished for lies in no
        subnet, or is not for containers. Held: none is free. Of a network with a DHCP server it has none. `claim`: whether
        it can have an address there of which the other engines know; `release`: they need not know of it any more."""
        taken: list[Address] = []
        managed = network.ipam_options.get("driver", "host-local") == "host-local"
        self._check_wishes(network, wish.static_ips if managed else [])
        try:
            for subnet in network.subnets if managed else []:
                block = ip_network(subnet.subnet)
                wished = next((each for each in wish.static_ips if ip_address(each) in block), "")
                number = (
                    self._wished(network, subnet, wished, claim)
                    if wished
                    else self._free(container, network, subnet, claim)
                )
                address = str(block[number - int(block[0])])
                self._holders[network.id, address] = container
                self._former.setdefault(container, {})[network.id, subnet.subnet] = number
                taken.append(Address(address, block.prefixlen))
        except BaseException:
            for each in taken:
                del self._holders[network.id, each.address]
                release(each.address)
            raise
        return Attachment(
            network=network.name,
            network_id=network.id,
            driver=network.driver,
            interface=interface,
            host_interface=_host_interface(network, wish),
            addresses=taken,
            mac=wish.static_mac or ("" if network.driver == "ipvlan" else _random_mac()),
            aliases=list(wish.aliases),
        )

    def take_ports(self, container: str, ports: Iterable[Port]) -> None:
        """Of the host, as far as the engine's own containers are concerned. Held: then it has none of them."""
        ports = list(ports)
        for port in ports:
            holder = self.port_holder(port)
            if holder not in ("", container):
                name = f"{port.host_port}/{port.protocol}"
                raise Held([holder], PortInUse, f"cannot publish port {name}", name)
        self._note_ports(container, ports)

    def _note_ports(self, container: str, ports: Iterable[Port]) -> None:
        for port in ports:
            self._ports.setdefault((port.protocol, port.host_port), []).append((port.host_ip, container))

    def port_holder(self, port: Port) -> str:
        """The container that has it, or one that stands in its way; empty: none."""
        for host_ip, container in self._ports.get((port.protocol, port.host_port), ()):
            if _overlap(host_ip, port.host_ip):
                return container
        return ""

    def give_back(self, container: str, network_id: str = "") -> None:
        """All that it has, or what it has on one network."""
        addresses = [
            key for key, holder in self._holders.items() if holder == container and network_id in ("", key[0])
        ]
        for key in addresses:
            del self._holders[key]
        if not network_id:
            for service, held in list(self._ports.items()):
                self._ports[service] = [each for each in held if each[1] != container]
                if not self._ports[service]:
                    del self._ports[service]
        self._given_back.set()
        self._given_back = trio.Event()

    def forget(self, container: str) -> None:
        """It is removed."""
        self.give_back(container)
        self._former.pop(container, None)

    async def wait_given_back(self) -> None:
        """The next time that somebody gives something back."""
        await self._given_back.wait()

    # ------------------------------------------------------------------ small parts

    def _check_wishes(self, network: Network, wished: Iterable[str]) -> None:
        for text in wished:
            if not any(ip_address(text) in ip_network(each.subnet) for each in network.subnets):
                subnets = ", ".join(each.subnet for each in network.subnets) or "none"
                raise InvalidArgument(
                    f"cannot use the address '{text}': it is in no subnet of network '{network.name}'",
                    subject=text,
                    hint=f"its subnets: {subnets}",
                )

    def _wished(self, network: Network, subnet: Subnet, text: str, claim: Callable[[str], bool]) -> int:
        """A wish may lie outside of the range that others get theirs from, as with Podman."""
        number = int(ip_address(text))
        if number in _range(subnet).closed:
            raise InvalidArgument(
                f"cannot use the address '{text}': on network '{network.name}' it is the gateway's, or nobody's",
                subject=text,
            )
        holder = self._holders.get((network.id, str(ip_address(text))))
        if holder is not None:
            raise Held(
                [holder], AddressInUse, f"cannot use the address '{text}' on network '{network.name}'", text
            )
        if not claim(str(ip_address(text))):
            message = f"cannot use the address '{text}' on network '{network.name}': a container of another engine has it"
            raise AddressInUse(message, subject=text)
        return number

    def _free(self, container: str, network: Network, subnet: Subnet, claim: Callable[[str], bool]) -> int:
        first, last, closed = _range(subnet)
        block = ip_network(subnet.subnet)
        former = self._former.get(container, {}).get((network.id, subnet.subnet), -1)
        count, base = last - first + 1, int(block[0])
        key = network.id, str(block)

        def free(number: int) -> bool:
            return number not in closed and (network.id, str(block[number - base])) not in self._holders

        if first <= former <= last and free(former) and claim(str(block[former - base])):
            return former
        begin = self._last.get(key, first + count // 2)
        used = sum(1 for net, _ in self._holders if net == network.id)
        # One of so many in a row has to be free, unless none is, or others have it.
        step, most = 1, used + len(closed) + 1
        while step <= min(count, most):
            number = first + (begin + step - first) % count
            if free(number):
                if claim(str(block[number - base])):
                    self._last[key] = number
                    return number
                most += 1
            step += 1
        where = subnet.subnet
        if subnet.lease_range is not None:
            where += f" from {block[first - base]} to {block[last - base]}"
        message = f"cannot put a container on network '{network.name}': every address of {where} is taken"
        holders = {holder for (net, _), holder in self._holders.items() if net == network.id}
        raise Held(holders, NetworkFailed, message, network.name)


def _host_interface(network: Network, wish: NetworkWish) -> str:
    """The other end of a container's interface on a bridge."""
    if network.driver != "bridge":
        return ""
    return wish.options.get("host_interface_name") or f"veth{secrets.token_hex(4)}"


def _range(subnet: Subnet) -> _Range:
    block = ip_network(subnet.subnet)
    first, last = int(block[0]), int(block[-1])
    closed = set()
    if block.num_addresses > 2:
        closed.add(first)
        if block.version == 4:
            closed.add(last)
    if subnet.gateway:
        closed.add(int(ip_address(subnet.gateway)))
    leases = subnet.lease_range
    if leases is not None and leases.start_ip:
        first = int(ip_address(leases.start_ip))
    if leases is not None and leases.end_ip:
        last = int(ip_address(leases.end_ip))
    return _Range(first, last, frozenset(closed))


def _overlap(one: str, other: str) -> bool:
    """Whether two addresses of the host cannot both have the same port."""
    if one == other or "" in (one, other) or "::" in (one, other):
        return True
    return "0.0.0.0" in (one, other) and not (is_ipv6(one) or is_ipv6(other))  # noqa: S104 - what users write


def _random_mac() -> str:
    """Locally administered, of one interface."""
    first, *rest = secrets.token_bytes(6)
    return ":".join(f"{each:02x}" for each in ((first & 0xFC) | 0x02, *rest))
