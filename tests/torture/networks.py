"""Networks in the torture: what containers are on, what changes meanwhile, and what has to be so at the end.

Containers are on bridges with ports, or, an ordinary user's, by pasta; they are connected and disconnected, and everything
is reloaded, while supervisor and helper programs are killed. In the end each container that runs has the addresses that are
recorded, alone; and once there are no containers, no interface, rule, helper program or network namespace is left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.hosts import Machine, helpers, leftovers

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from tests.support.engine import Engine

__all__ = ["Networks", "prepare"]

NETWORK = "io.pyman.Network"
NAMES = ["first", "second", "small"]
"""The last one has six addresses for containers."""
SUBNETS = ["10.90.1.0/24", "10.90.2.0/24", "10.90.3.0/29"]
PORTS = range(20_000, 20_012)
QUIET = 5.0


def prepare() -> None:
    """This network namespace becomes a host that pasta finds an interface on."""
    for words in (
        "link set lo up",
        "link add wire type veth peer name far",
        "addr add 192.0.2.1/24 dev wire",
        "link set wire up",
        "link set far up",
        "route add default via 192.0.2.2",
    ):
        subprocess.run(["ip", *words.split()], check=True)


class _Here(Machine):
    """The host that this process is on."""

    def words(self, *words: str) -> list[str]:
        return list(words)


class Networks:
    """Those of an engine, on the host that this process is on."""

    def __init__(self, engine: Engine, call: float) -> None:
        self.engine = engine
        self.seconds = call
        self.host = _Here()
        self.rootless = os.geteuid() != 0
        self._before: dict[str, int] = {}
        self._kept = {"descriptors of the daemon": 8}
        """What is opened at first use, and stays."""

    def make(self) -> None:
        """With the engine, at its beginning."""
        for name, subnet in zip(NAMES, SUBNETS, strict=True):
            self.ask("Create", name=name, subnets=[{"subnet": subnet}])
        self._before = self._counted()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.engine.call(f"{NETWORK}.{method}", parameters, timeout=self.seconds)

    # What clients do

    def wish(self, chance: random.Random) -> dict[str, Any]:
        """Of a container that is to be."""
        if chance.random() < 0.3:
            return {}
        ports = [{"container_port": 80, "host_port": chance.choice(PORTS)}] if chance.random() < 0.5 else []
        if self.rootless and chance.random() < 0.5:
            return {"netns": {"nsmode": "pasta"}, "portmappings": ports}
        on = chance.sample([*NAMES, "podman"], chance.choice([1, 1, 2]))
        return {"netns": {"nsmode": "bridge"}, "Networks": {name: {} for name in on}, "portmappings": ports}

    def change(self, container: str, chance: random.Random) -> None:
        method = chance.choice(["Connect", "Connect", "Disconnect"])
        self.ask(method, name=chance.choice(NAMES), container=container)

    def reload(self) -> None:
        self.ask("Reload", selection={"all": True})

    # The killer

    def kill_helper(self, chance: random.Random) -> bool:
        """False: there is none."""
        there = sorted(helpers(self.engine.path))
        if not there:
            return False
        os.kill(chance.choice(there), signal.SIGKILL)
        return True

    def lives(self, number: int, clients: int, spec: dict[str, Any]) -> list[str]:
        """So many containers are started on networks, with a port, and end, by clients at once. What there is more of after
        them than after a hundred others."""
        self._live(100, clients, spec)
        found = self.left()
        at_the_beginning = self._before, self._kept
        self._before, self._kept = self._counted(), {}
        self._live(number, clients, spec)
        found += self.left()
        # What this daemon has open, the next one need not: it may have opened more before anybody counts.
        self._before, self._kept = at_the_beginning
        return found

    def _live(self, number: int, clients: int, spec: dict[str, Any]) -> None:
        turns = iter(range(number))

        def client(_number: int) -> None:
            for turn in turns:
                wish = {
                    "netns": {"nsmode": "bridge"},
                    "Networks": {name: {} for name in (NAMES[:1], NAMES[:2], ["podman"])[turn % 3]},
                    "portmappings": [{"container_port": 80}],
                    "remove": True,
                }
                with self.engine.wire(self.seconds) as wire:
                    for _ in wire.stream("io.pyman.Container.Run", {"spec": {**spec, **wish}}):
                        pass

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, range(clients)))

    # The invariants

    def problems(self, inspected: Iterable[dict[str, Any]]) -> list[str]:
        """Of containers at rest: those that run have the addresses that are told of them, and nobody else has them."""
        found: list[str] = []
        owners: dict[str, str] = {}
        for told in inspected:
            name, pid = told["Name"], told["State"]["Pid"]
            if not pid or told["HostConfig"]["NetworkMode"] != "bridge":
                continue
            wanted = {each["IPAddress"] for each in told["NetworkSettings"]["Networks"].values()}
            if (seen := _addresses(pid)) not in (None, wanted):
                found.append(f"{name} has the addresses {seen}, and is said to have {wanted}")
            others = ((address, owners.setdefault(address, name)) for address in wanted)
            found += [f"{name} and {other} both have {address}" for address, other in others if other != name]
        return found

    def left(self) -> list[str]:
        """Once there are no containers."""
        found = [each for each in leftovers(self.host, self.engine.path) if each != "interface far"]
        deadline = time.monotonic() + QUIET
        while (more := self._more()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found + more

    def _more(self) -> list[str]:
        now = self._counted()
        return [
            f"{kind}: {now[kind]} instead of {number}"
            for kind, number in self._before.items()
            if now[kind] > number + self._kept.get(kind, 0)
        ]

    def _counted(self) -> dict[str, int]:
        """What there may not be more of after any number of lives."""
        daemon = Path(f"/proc/{self.engine.pid}")
        mounts = (daemon / "mountinfo").read_text().splitlines()
        return {
            "descriptors of the daemon": len(os.listdir(daemon / "fd")),
            "mounted namespaces": sum(
                " - nsfs " in line and str(self.engine.path) in line for line in mounts
            ),
        }


def _addresses(pid: int) -> set[str] | None:
    """Of a container, but for its loopback. None: it has ended."""
    argv = ["nsenter", f"--target={pid}", "--net", "--preserve-credentials", "ip", "-j", "-4", "addr"]
    if os.geteuid() != 0:
        argv.insert(3, "--user")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    links = [link for link in json.loads(done.stdout) if link.get("ifname") != "lo"]
    return {address["local"] for link in links for address in link["addr_info"]}
