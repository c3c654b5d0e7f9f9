"""pasta, which gives a network namespace the host's own addresses: what it is told, and what that means in a container.

It moves what is sent between an interface there and ordinary sockets here, so it needs no rights; a peer's true source
address stays. Users' options are pasta's own, but for `--map-gw`, which means: without `--no-map-gw`. It ends by itself
once the file is removed by which it was told the namespace. As root it gives up its rights before it opens the namespace:
it works for ordinary users alone.
"""

from __future__ import annotations

import signal
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import InvalidArgument
from supervisor.kernel import addresses, process
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from supervisor.network.plans import Port

__all__ = ["GUEST_MAP", "PROGRAM", "Setup", "check", "check_ports", "end_former", "set_up"]

PROGRAM = "pasta"
GUEST_MAP = "--map-guest-addr"
"""An option of newer versions: an address that leads to the host."""

_DNS, _HOST = "169.254.1.1", "169.254.1.2"
"""Where it answers queries and where the host is: addresses that no network has, the same as Podman's."""
_MAP_GATEWAY = "--map-gw"
_OURS = frozenset(
    {
        *(
            "-P",
            "--pid",
            "-f",
            "--foreground",
            "--netns",
            "--userns",
            "--netns-only",
            "--no-netns-quit",
            "--runas",
        ),
        *("-h", "--help", "--version"),
        *("-s", "--socket", "-F", "--fd", "-1", "--one-off"),
    }
)
"""What the engine decides; what ends it at once; what is of virtual machines."""
_LONG = {
    "-t": "--tcp-ports",
    "-u": "--udp-ports",
    "-T": "--tcp-ns",
    "-U": "--udp-ns",
    "-a": "--address",
    "-i": "--interface",
    "-4": "--ipv4-only",
    "-6": "--ipv6-only",
    "-d": "--debug",
}
_MOST = 256
"""Options of one container."""
_DEATH = 5.0
"""Seconds for the kernel to let a killed one go."""


class Setup(NamedTuple):
    """Of one container."""

    arguments: list[str]
    """All but where the namespace is, and where its pid goes."""
    own: list[str]
    """The container's addresses, as they will be: the host's, or those that were asked for."""
    servers: list[str]
    """Where it answers queries, for whoever asks the host's name servers."""
    host: str
    """An address that leads to the host; empty: there is none that pasta makes."""


def check(options: Sequence[str]) -> None:
    """InvalidArgument: pasta cannot be told this here. What else is wrong with them, it says itself."""
    if len(options) > _MOST:
        raise InvalidArgument(f"cannot use more than {_MOST} options of pasta", subject=PROGRAM)
    for word in options:
        if not word or "\0" in word:
            raise InvalidArgument("cannot use an empty option of pasta", subject=PROGRAM)
        if word.partition("=")[0] in _OURS:
            raise InvalidArgument(
                f"cannot use the option '{word[:80]}' of pasta: that is the engine's to decide", subject=word
            )


def check_ports(ports: Iterable[Port]) -> None:
    """InvalidArgument."""
    for port in ports:
        if port.protocol not in ("tcp", "udp"):
            raise InvalidArgument(
                f"cannot publish port {port.container_port}/{port.protocol}: pasta forwards tcp and udp alone",
                subject=f"{port.container_port}/{port.protocol}",
                hint="only containers of root on a bridge have others",
            )


def set_up(options: Sequence[str], ports: Sequence[Port], *, maps_guest: bool) -> Setup:
    """`options`: as configured and then as asked for. `maps_guest`: this version knows `GUEST_MAP`."""
    words = [word for word in options if word != _MAP_GATEWAY]
    servers, host = _values(words, "--dns-forward"), _values(words, GUEST_MAP)
    arguments = ["--config-net", *words]
    for flag, spec in _specs(ports):
        arguments += [flag, spec]
    if not servers:
        servers = [_DNS]
        arguments += ["--dns-forward", _DNS]
    for flag, protocol in (("-t", "tcp"), ("-u", "udp"), ("-T", ""), ("-U", "")):
        published = any(port.protocol == protocol for port in ports)
        if not published and not _has(words, flag):
            arguments += [flag, "none"]
    if len(words) == len(options):
        arguments.append("--no-map-gw")
    if not _has(words, "-d") and "--trace" not in words:
        arguments.append("--quiet")
    if not host and maps_guest:
        host = [_HOST]
        arguments += [GUEST_MAP, _HOST]
    own = _own_addresses(words)
    kinds = {is_ipv6(address) for address in own}
    reached = [address for address in host if is_ipv6(address) in kinds]
    return Setup(
        arguments,
        own,
        [address for address in servers if is_ipv6(address) in kinds],
        reached[0] if reached else "",
    )


async def end_former(pid_file: str) -> None:
    """End one that nobody has recorded, because a supervisor was killed just when it had gone to the background. It lets
    nobody read its environment, so that no mark there finds it: its pid file does, which it was told."""
    former = process.ref_of_file(pid_file)
    pidfd = process.open_pidfd(former) if former is not None else None
    if pidfd is not None:
        with pidfd:
            if pid_file in process.words_of(pidfd.ref.pid):
                pidfd.send_signal(signal.SIGKILL)
                await pidfd.ends_within(_DEATH)


def _specs(ports: Iterable[Port]) -> Iterator[tuple[str, str]]:
    """Rows of ports are told as one."""
    rows: list[list[Port]] = []
    for port in sorted(ports, key=lambda port: (port.protocol, port.host_ip, port.host_port)):
        if rows and _follows(port, rows[-1][-1]):
            rows[-1].append(port)
        else:
            rows.append([port])
    for row in rows:
        first, last = row[0], row[-1]
        address = f"{first.host_ip}/" if first.host_ip else ""
        yield (
            "-t" if first.protocol == "tcp" else "-u",
            f"{address}{first.host_port}-{last.host_port}:{first.container_port}-{last.container_port}",
        )


def _follows(port: Port, last: Port) -> bool:
    return (port.protocol, port.host_ip, port.host_port, port.container_port) == (
        last.protocol,
        last.host_ip,
        last.host_port + 1,
        last.container_port + 1,
    )


def _has(words: Sequence[str], flag: str) -> bool:
    """Whether an option is given, by its short or its long name."""
    long = _LONG[flag]
    return any(word in (flag, long) or word.startswith(f"{long}=") for word in words)


def _values(words: Sequence[str], *flags: str) -> list[str]:
    """What follows each use of an option."""
    found = []
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word in flags and at + 1 < len(words):
            found.append(words[at + 1])
        elif equals and name in flags and name.startswith("--"):
            found.append(value)
    return found


def _own_addresses(words: Sequence[str]) -> list[str]:
    """IPv4 first. Those of the host's interface with the default route, unless others are asked for."""
    asked = [address for text in _values(words, "-a", "--address") if (address := _address(text))]
    interface = next(iter(_values(words, "-i", "--interface")), "")
    found = []
    for ipv6, only_the_other in ((False, "-6"), (True, "-4")):
        if _has(words, only_the_other):
            continue
        mine = [address for address in asked if is_ipv6(address) == ipv6]
        found += mine or [addresses.outer_address(ipv6=ipv6, interface=interface)]
    return [address for address in found if address]


def _address(text: str) -> str:
    """Newer versions take a prefix with it."""
    try:
        return str(ip_address(text.partition("/")[0]))
    except ValueError:
        return ""
