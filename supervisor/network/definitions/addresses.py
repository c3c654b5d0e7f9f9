"""Addresses and subnets: read from text, compared, and chosen where nobody has said which.

Whatever is asked for is read here, so that each refusal quotes what was given. Subnets are taken as intervals of numbers:
to find a free one among thousands that are used takes as many steps as there are used ones.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from pyman.api.network import LeaseRange, Subnet
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.settings.model import SubnetPool

__all__ = [
    "Address",
    "Block",
    "check_host_address",
    "checked_subnet",
    "first_address",
    "free_block",
    "lease_range",
    "parse_address",
    "parse_block",
    "random_block",
]

Address = IPv4Address | IPv6Address
Block = IPv4Network | IPv6Network

_ULA = 0xFD << 120
"""Where the networks are that everybody may choose at random, RFC 4193."""
_RANDOM_BITS = 56
_TRIES = 1000


def parse_address(text: str, what: str) -> Address:
    """`what`: for the message, such as `gateway`. InvalidArgument."""
    try:
        if "%" in text:
            raise ValueError
        return ip_address(text)
    except ValueError:
        raise InvalidArgument(
            f"cannot use the {what} '{text}': it is not an IP address", subject=text
        ) from None


def parse_block(text: str, what: str) -> Block:
    """Of CIDR notation; the bits behind the prefix do not matter. InvalidArgument."""
    address, slash, length = text.partition("/")
    try:
        if not slash or not (length.isascii() and length.isdigit()) or "%" in address:
            raise ValueError
        return ip_network(f"{address}/{int(length)}", strict=False)
    except ValueError:
        raise InvalidArgument(
            f"cannot use the {what} '{text}': it is not in CIDR notation",
            subject=text,
            hint="such as 10.89.1.0/24 or fd00:1::/64",
        ) from None


def first_address(block: Block) -> Address:
    """The first that a host may have."""
    return block[0] if block.num_addresses == 1 else block[1]


def lease_range(text: str) -> LeaseRange:
    """Of CIDR notation, or `START-END`. InvalidArgument."""
    start, dash, end = text.partition("-")
    if dash:
        first, last = parse_address(start, "start of a range"), parse_address(end, "end of a range")
    else:
        block = parse_block(text, "range")
        first, last = first_address(block), block[-1]
    return LeaseRange(str(first), str(last))


# ---------------------------------------------------------------------- subnets


def checked_subnet(subnet: Subnet, *, with_gateway: bool) -> Subnet:
    """In the form in which it is written down: with the network's own address and, where it has to be, a gateway.
    InvalidArgument."""
    block = parse_block(subnet.subnet, "subnet")
    gateway = ""
    if subnet.gateway:
        gateway = str(_gateway(parse_address(subnet.gateway, "gateway"), block))
    elif with_gateway:
        gateway = str(first_address(block))
    leases = subnet.lease_range
    return Subnet(str(block), gateway, None if leases is None else _leases(leases, block))


def _gateway(address: Address, block: Block) -> Address:
    if address not in block:
        raise InvalidArgument(
            f"cannot use the gateway '{address}': it is not in the subnet '{block}'", subject=str(address)
        )
    check_host_address(address, block, "gateway")
    return address


def check_host_address(address: Address, block: Block, what: str) -> None:
    """That a host may have it. `what`: for the message. InvalidArgument."""
    if block.num_addresses > 2:
        if address == block[0]:
            raise InvalidArgument(
                f"cannot use the {what} '{address}': it is the address of the subnet '{block}' itself",
                subject=str(address),
            )
        if block.version == 4 and address == block[-1]:
            raise InvalidArgument(
                f"cannot use the {what} '{address}': it is the broadcast address of the subnet '{block}'",
                subject=str(address),
            )


def _leases(leases: LeaseRange, block: Block) -> LeaseRange:
    first = _end_of(leases.start_ip, "start", block)
    last = _end_of(leases.end_ip, "end", block)
    if first and last and int(first) > int(last):
        raise InvalidArgument(
            f"cannot use the range '{first}-{last}': its end comes before its start", subject=str(first)
        )
    return LeaseRange(str(first or ""), str(last or ""))


def _end_of(text: str, which: str, block: Block) -> Address | None:
    if not text:
        return None
    address = parse_address(text, f"{which} of a range")
    if address not in block:
        raise InvalidArgument(
            f"cannot use the range's {which} '{address}': it is not in the subnet '{block}'",
            subject=str(address),
        )
    return address


# ---------------------------------------------------------------------- what is free


class _Taken:
    """Intervals of IPv4 or IPv6 addresses, merged and sorted."""

    def __init__(self, blocks: Iterable[Block], version: int) -> None:
        spans = sorted((int(each[0]), int(each[-1])) for each in blocks if each.version == version)
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in spans:
            if self._ends and start <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def end_of_overlap(self, first: int, last: int) -> int | None:
        """The end of what overlaps; None: nothing does."""
        index = bisect_right(self._starts, last) - 1
        if index >= 0 and self._ends[index] >= first:
            return self._ends[index]
        return None


def free_block(pools: Sequence[SubnetPool], taken: Iterable[Block]) -> IPv4Network | None:
    """The first subnet of the pools that overlaps nothing; None: there is none."""
    spans = _Taken(taken, 4)
    for pool in pools:
        base, size = IPv4Network(pool.base, strict=False), 1 << (32 - pool.size)
        first = int(base[0])
        while first + size - 1 <= int(base[-1]):
            end = spans.end_of_overlap(first, first + size - 1)
            if end is None:
                return IPv4Network((first, pool.size))
            first = (end // size + 1) * size
    return None


def random_block(taken: Iterable[Block]) -> IPv6Network | None:
    """A subnet of those that everybody may choose at random; None: none that is free was met."""
    spans = _Taken(taken, 6)
    for _ in range(_TRIES):
        block = IPv6Network((_ULA | secrets.randbits(_RANDOM_BITS) << 64, 64))
        if spans.end_of_overlap(int(block[0]), int(block[-1])) is None:
            return block
    return None
