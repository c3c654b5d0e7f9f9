"""Elements of the packet filter's sets and maps, told the kernel by netlink: each change costs what its elements do,
however many there are already."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from supervisor.network.kernel import netfilter
from supervisor.network.kernel.netfilter import GENERAL
from supervisor.network.kernel.netlink import (
    ACK,
    CREATE,
    Message,
    address,
    attribute,
    attributes,
    portions,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.network.kernel.netlink import Wire

__all__ = ["Element", "Set", "add", "chain_is_there", "has_other_sets", "remove", "rules"]

_NFTABLES = 10
_NEW_ELEMENT, _GET_ELEMENT, _DELETE_ELEMENT = 12, 13, 14
_GET_CHAIN, _GET_RULE, _GET_SET, _GET_GENERATION = 4, 7, 10, 16
_BEGIN, _END = 0x10, 0x11
_INET = 1
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_CHAIN_NAME = 3
_GENERATION = 1
_TRIES = 100
"""Of a transaction that is for one generation."""
_ELEMENT, _KEY, _DATA, _FLAGS, _VALUE = 1, 1, 2, 3, 1
_INTERVAL_END = 1
_SET_TABLE, _SET_NAME, _SET_FLAGS, _KEY_TYPE, _VALUE_TYPE = 1, 2, 3, 4, 6
_INTERVAL, _MAP, _CONCATENATED = 0x04, 0x08, 0x80
_TYPES = {"ipv4_addr": 7, "ipv6_addr": 8, "inet_proto": 12, "inet_service": 13, "ifname": 41}
"""As nftables numbers them; the kernel keeps the numbers for it."""
_TYPE_BITS = 6
"""Of a part of several."""


class Set(NamedTuple):
    """Of a table; with values it is a map. Types of the parts of keys and of values, by nftables' names."""

    key: tuple[str, ...]
    value: tuple[str, ...] = ()
    interval: bool = False


class Element(NamedTuple):
    """As nftables writes its parts."""

    set: str
    key: tuple[str, ...]
    value: tuple[str, ...] = ()


def add(table: str, sets: dict[str, Set], elements: Sequence[Element]) -> None:
    """What another one with the same key leads to is replaced. OSError."""
    with netfilter.wire() as wire:
        for some in portions(elements):
            making = [each for element in some for each in _messages(_NEW_ELEMENT, table, sets, element)]
            failures = _change(wire, making)
            taken = [
                message._replace(kind=_kind(_DELETE_ELEMENT))
                for message, failure in zip(making, failures, strict=True)
                if failure is not None and failure.errno == errno.EEXIST
            ]
            if taken:
                failures = _change(wire, [*taken, *making])
            _raise(failures)


def remove(table: str, sets: dict[str, Set], elements: Sequence[Element]) -> None:
    """Those that are not there are not missed; one that leads to another address is somebody else's, and stays. OSError.

    A transaction that the kernel takes back costs a hundred times what one costs that is carried out. So what can be asked
    for is looked at first: that are elements that are no intervals."""
    with netfilter.wire() as wire:
        for some in portions([each for each in elements if sets[each.set].interval]):
            going = _leaving(table, sets, some)
            failures = _change(wire, going)
            there = [
                message
                for message, failure in zip(going, failures, strict=True)
                if failure is None or failure.errno != errno.ENOENT
            ]
            if there and len(there) < len(going):
                failures = _change(wire, there)
            _raise([each for each in failures if each is not None and each.errno != errno.ENOENT])
        for some in portions([each for each in elements if not sets[each.set].interval]):
            _remove_own(wire, table, sets, some)


def _remove_own(wire: Wire, table: str, sets: dict[str, Set], elements: Sequence[Element]) -> None:
    """Of no intervals. Nobody changes one between looking at it and removing it: else it is looked at again."""
    failures: list[OSError | None] = []
    for _ in range(_TRIES):
        generation = _generation(wire)
        going = _leaving(table, sets, _own(wire, table, sets, elements))
        failures = _change(wire, going, generation) if going else []
        if all(failure is None or failure.errno != errno.ERESTART for failure in failures):
            break
    _raise(failures)


def _leaving(table: str, sets: dict[str, Set], elements: Sequence[Element]) -> list[Message]:
    return [message for each in elements for message in _messages(_DELETE_ELEMENT, table, sets, each)]


def _generation(wire: Wire) -> int:
    """It is another one after every change of the packet filter."""
    values = dict(attributes(wire.ask(_kind(_GET_GENERATION), _general(socket.AF_UNSPEC))[GENERAL.size :]))
    return int.from_bytes(values.get(_GENERATION, b""), "big")


def _own(wire: Wire, table: str, sets: dict[str, Set], elements: Sequence[Element]) -> list[Element]:
    """Those that are there, and lead where they are to lead, if anywhere."""
    asking = [
        message._replace(flags=0)
        for each in elements
        for message in _messages(_GET_ELEMENT, table, sets, each)
    ]
    found = []
    for element, answer in zip(elements, wire.ask_each(asking), strict=True):
        if isinstance(answer, OSError):
            if answer.errno != errno.ENOENT:
                raise answer
        elif _leads_to(answer, sets[element.set], element):
            found.append(element)
    return found


def _leads_to(answer: bytes, known: Set, element: Element) -> bool:
    """By the address; whoever has that has its ports."""
    found = answer[GENERAL.size :]
    for kind in (_ELEMENTS, _ELEMENT, _DATA, _VALUE):
        found = dict(attributes(found)).get(kind, b"")
    return found.startswith(_packed(known.value[:1], element.value[:1]))


def chain_is_there(table: str, name: str) -> bool:
    """OSError."""
    with netfilter.wire() as wire:
        try:
            wire.ask(_kind(_GET_CHAIN), _general(_INET) + text(_TABLE, table) + text(_CHAIN_NAME, name))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True


def rules(table: str) -> int:
    """How many a table has. OSError."""
    with netfilter.wire() as wire:
        found = 0
        for body in wire.ask_all(_kind(_GET_RULE), _general(_INET) + text(_TABLE, table)):
            if dict(attributes(body[GENERAL.size :])).get(_TABLE) == table.encode() + b"\0":
                found += 1
        return found


def has_other_sets(table: str, sets: dict[str, Set]) -> bool:
    """Somebody has made sets of these names for other keys or values, beside which these cannot be. OSError."""
    with netfilter.wire() as wire:
        try:
            found = list(wire.ask_all(_kind(_GET_SET), _general(_INET) + text(_SET_TABLE, table)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
    return any(_is_other(dict(attributes(body[GENERAL.size :])), table, sets) for body in found)


def _is_other(values: dict[int, bytes], table: str, sets: dict[str, Set]) -> bool:
    known = sets.get(values.get(_SET_NAME, b"").rstrip(b"\0").decode(errors="replace"))
    if known is None or values.get(_SET_TABLE) != table.encode() + b"\0":
        return False
    flags, key, value = (
        int.from_bytes(values.get(each, b""), "big") for each in (_SET_FLAGS, _KEY_TYPE, _VALUE_TYPE)
    )
    wanted = _INTERVAL * known.interval | _MAP * bool(known.value)
    return (flags & ~_CONCATENATED, key, value) != (wanted, _type(known.key), _type(known.value))


def _type(parts: tuple[str, ...]) -> int:
    found = 0
    for each in parts:
        found = found << _TYPE_BITS | _TYPES[each]
    return found


# ---------------------------------------------------------------------- messages


def _change(wire: Wire, messages: Sequence[Message], generation: int = 0) -> list[OSError | None]:
    """A transaction: all or none of them. What became of each. `generation`: unless it is another one by now."""
    around = _general(socket.AF_UNSPEC, _NFTABLES)
    only = attribute(_GENERATION, generation.to_bytes(4, "big")) if generation else b""
    found = wire.failures([Message(_BEGIN, around + only, 0), *messages, Message(_END, around, 0)])
    first, *failures, last = found
    if first is not None or last is not None:
        failures[0] = first or last
    return failures


def _raise(failures: Sequence[OSError | None]) -> None:
    for failure in failures:
        if failure is not None:
            raise failure


def _messages(kind: int, table: str, sets: dict[str, Set], element: Element) -> Iterator[Message]:
    known = sets[element.set]
    if known.interval:
        (block,) = element.key
        first, after = _ends(block)
        yield _message(kind, table, element.set, first)
        if after:
            yield _message(kind, table, element.set, after, ends=True)
    else:
        value = _packed(known.value, element.value) if kind == _NEW_ELEMENT else b""
        yield _message(kind, table, element.set, _packed(known.key, element.key), value)


def _message(
    kind: int, table: str, name: str, key: bytes, value: bytes = b"", *, ends: bool = False
) -> Message:
    parts = [attribute(_KEY, attribute(_VALUE, key))]
    if value:
        parts.append(attribute(_DATA, attribute(_VALUE, value)))
    if ends:
        parts.append(attribute(_FLAGS, struct.pack(">I", _INTERVAL_END)))
    elements = attribute(_ELEMENTS, attribute(_ELEMENT, *parts))
    flags = CREATE if kind == _NEW_ELEMENT else 0
    return Message(
        _kind(kind), _general(_INET) + text(_TABLE, table) + text(_SET, name) + elements, ACK | flags
    )


def _kind(kind: int) -> int:
    return _NFTABLES << 8 | kind


def _general(family: int, subsystem: int = 0) -> bytes:
    return GENERAL.pack(family, 0, subsystem)


def _ends(block: str) -> tuple[bytes, bytes]:
    """The first address of a block, and the first one after it; empty: there is none."""
    network = ip_network(block)
    first, after = int(network[0]), int(network[-1]) + 1
    size = network.max_prefixlen // 8
    return first.to_bytes(size, "big"), after.to_bytes(size, "big") if after >> 8 * size == 0 else b""


_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_PACK: dict[str, Callable[[str], bytes]] = {
    "ipv4_addr": address,
    "ipv6_addr": address,
    "ifname": lambda name: name.encode().ljust(16, b"\0"),
    "inet_proto": lambda name: bytes([_PROTOCOLS[name]]),
    "inet_service": lambda number: int(number).to_bytes(2, "big"),
}


def _packed(types: tuple[str, ...], parts: tuple[str, ...]) -> bytes:
    """Each part of several begins at a multiple of four."""
    raw = [_PACK[kind](part) for kind, part in zip(types, parts, strict=True)]
    return raw[0] if len(raw) == 1 else b"".join(each + bytes(-len(each) % 4) for each in raw)
