"""Containers on networks of a host that is a network namespace, and the name server that serves there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyman.api.spec import ContainerSpec
from supervisor.network.kernel import links
from supervisor.network.plans import Address, Attachment, NetworkPlan, Subnet

if TYPE_CHECKING:
    from tests.support.hosts import Machine

ASKING = """
import random, socket, struct, sys, time
server, name, kind, how, seconds = sys.argv[1:]
number = {"A": 1, "AAAA": 28, "PTR": 12}[kind]
labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
asked = struct.pack("!6H", random.getrandbits(16), 0x100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack("!2H", number, 1)
family = socket.AF_INET6 if ":" in server else socket.AF_INET
deadline = time.monotonic() + float(seconds)
with socket.socket(family, socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM) as one:
    one.settimeout(float(seconds) if how == "tcp" else min(0.5, float(seconds)))
    while True:
        try:
            one.connect((server, 53))
            one.sendall((struct.pack("!H", len(asked)) if how == "tcp" else b"") + asked)
            said = one.recv(4096)
            break
        except OSError as error:
            if how == "tcp" or time.monotonic() > deadline:
                print("nobody"); sys.exit()
            time.sleep(0.05)
if how == "tcp":
    said = said[2:]
_, flags, questions, answers, _, _ = struct.unpack_from("!6H", said)
if flags & 15:
    print({3: "unknown"}.get(flags & 15, flags & 15)); sys.exit()
at = 12

def word(at):
    found = []
    while said[at]:
        if said[at] & 0xC0:
            found.append(word(struct.unpack_from("!H", said, at)[0] & 0x3FFF)[0]); at += 1; break
        found.append(said[at + 1:at + 1 + said[at]].decode()); at += 1 + said[at]
    return ".".join(each for each in found if each), at + 1

for _ in range(questions):
    at = word(at)[1] + 4
for _ in range(answers):
    at = word(at)[1]
    kind_of, _, _, length = struct.unpack_from("!HHIH", said, at)
    at += 10
    data = said[at:at + length]
    if kind_of == 12:
        print(word(at)[0])
    elif kind_of in (1, 28):
        print(socket.inet_ntop(socket.AF_INET if kind_of == 1 else socket.AF_INET6, data))
    at += length
"""
UPSTREAM = """
import socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind((sys.argv[1], 53))
    print("up", flush=True)
    while True:
        asked, peer = server.recvfrom(512)
        end = asked.index(b"\\0", 12) + 5
        head = asked[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
        answer = b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(sys.argv[2])
        server.sendto(head + asked[12:end] + answer, peer)
"""


class Spec(msgspec.Struct):
    hostname: str = ""
    dns_server: list[str] = []


class Definition(msgspec.Struct):
    spec: ContainerSpec


class Guest:
    """What of a container counts: id, name, what was asked for."""

    def __init__(self, number: int, name: str, **wish: object) -> None:
        self.id = f"{number:02x}" * 32
        self.name = name
        self.definition = Definition(ContainerSpec(**wish))  # type: ignore[arg-type]


def network(number: int, *, ipv6: bool = False, **more: object) -> NetworkPlan:
    """10.NUMBER.0.0/16, and fd00:NUMBER::/64."""
    subnets = [Subnet(f"10.{number}.0.0/16", f"10.{number}.0.1")]
    if ipv6:
        subnets.append(Subnet(f"fd00:{number}::/64", f"fd00:{number}::1"))
    values = {"name": f"net{number}", "id": f"{number:064x}", "interface": f"br{number}", "dns": True, **more}
    return NetworkPlan(subnets=subnets, **values)  # type: ignore[arg-type]


def attachment(plan: NetworkPlan, host: int, *aliases: str, interface: str = "eth0") -> Attachment:
    addresses = []
    for subnet in plan.subnets:
        around = subnet.gateway.removesuffix("1")
        addresses.append(Address(f"{around}{host}", subnet.prefix))
    return Attachment(
        network=plan.name,
        network_id=plan.id,
        interface=interface,
        host_interface=f"v{plan.interface}-{host}",
        addresses=addresses,
        mac=f"02:00:00:00:{int(plan.id, 16):02x}:{host:02x}",
        aliases=list(aliases),
    )


def wire(host: Machine, guest: Machine, plan: NetworkPlan, one: Attachment) -> Attachment:
    """It has its interface."""
    host.does(lambda: links.ensure_bridge(plan))
    host.does(lambda: links.attach(guest.netns, plan, one))
    return one


def ask(
    machine: Machine, server: str, name: str, kind: str = "A", how: str = "udp", seconds: float = 10
) -> list[str]:
    """What a name server says, one line each: addresses, names, `unknown`, `nobody`."""
    return machine.run("/usr/bin/python3", "-c", ASKING, server, name, kind, how, str(seconds)).split()
