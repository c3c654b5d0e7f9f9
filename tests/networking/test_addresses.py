"""Addresses: none is given to two containers, whoever asks at once and whatever is killed; each is free again at the end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

IDLE = True
CLIENTS = 8


def start(net: Net, name: str, networks: dict[str, Any], **spec: Any) -> str:
    """By the socket, as the quickest clients do. The id."""
    wish = {
        "name": name,
        "rootfs": str(net.rootfs),
        "rootfs_overlay": True,
        "command": ["sleep", "1000"],
        "netns": {"nsmode": "bridge"},
        "Networks": networks,
        "stop_timeout": 0,
    }
    with net.engine.wire(60) as wire:
        request = {"spec": {**wish, **spec}, "detach": True}
        return str([*wire.stream("io.pyman.Container.Run", request)][-1]["id"])


def seen(net: Net, names: list[str]) -> list[str]:
    """The addresses in the containers' own network namespaces."""
    told = [net.inside(name, "ip", "-4", "-o", "addr", "show", "eth0") for name in names]
    return [each.split()[3].partition("/")[0] for each in told]


def test_many_clients_at_once_get_different_addresses(net: Net) -> None:
    net.engine.cli("network", "create", "--subnet", "10.90.2.0/26", "small")
    names = [f"c{number}" for number in range(24)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda name: start(net, name, {"small": {}}), names))
    addresses = seen(net, names)
    assert len(set(addresses)) == len(names)


def test_a_killed_supervisor_gives_no_address_twice(net: Net) -> None:
    """While clients start containers, it is killed again and again."""
    net.engine.cli("network", "create", "--subnet", "10.90.3.0/24", "n")
    over = threading.Event()
    started: list[str] = []

    def client(number: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            name = f"c{number}-{turn}"
            try:
                start(net, name, {"n": {}})
            except (VarlinkError, OSError, EOFError):
                continue
            started.append(name)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            net.engine.await_event(lambda event: event["Status"] == "start", since_seq=net.engine.last_seq())
            net.engine.kill()
        until(lambda: len(started) > CLIENTS, "nothing starts any more")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    running = net.engine.out("ps", "--format", "{{.Names}}").split()
    assert len(running) > CLIENTS
    addresses = seen(net, running)
    assert len(set(addresses)) == len(addresses)
    assert set(running) >= set(started)


def test_an_address_is_free_once_its_container_has_ended(net: Net) -> None:
    """All of a subnet of four, over and over; and the fifth is refused, with the network named."""
    net.engine.cli("network", "create", "--subnet", "10.90.4.0/29", "tiny")
    names = [f"c{number}" for number in range(5)]
    for name in names:
        start(net, name, {"tiny": {}})
    refused = net.engine.cli("run", "--rm", "--network", "tiny", *net.root, "true", check=False)
    assert refused.returncode == 125
    assert "'tiny'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    net.engine.cli("stop", "c2")
    net.engine.cli("run", "--rm", "--network", "tiny", *net.root, "true")
    net.engine.cli("start", "c2")
    assert len(set(seen(net, names))) == len(names)
    for _ in range(3):
        net.engine.cli("rm", "--force", "c0")
        start(net, "c0", {"tiny": {}})
    assert len(set(seen(net, names))) == len(names)


def test_a_static_address_is_the_containers_alone(net: Net) -> None:
    net.engine.cli("network", "create", "--subnet", "10.90.5.0/24", "n")
    mac = "92:d0:c6:0a:29:33"
    net.run("a", "--network", "n", "--ip", "10.90.5.77", "--mac-address", mac)
    assert net.address("a") == "10.90.5.77"
    assert net.engine.out("exec", "a", "cat", "/sys/class/net/eth0/address") == mac
    done = net.engine.cli("run", "--rm", "--network", "n:ip=10.90.5.77", *net.root, "true", check=False)
    assert done.returncode == 126
    assert "10.90.5.77" in done.stderr
    assert "'a'" in done.stderr
    net.engine.cli("stop", "a")
    net.run("b", "--network", "n:ip=10.90.5.77")
    done = net.engine.cli("start", "a", check=False)
    assert done.returncode == 125
    assert "10.90.5.77" in done.stderr
    net.engine.cli("rm", "--force", "b")
    net.engine.cli("start", "a")
    assert net.address("a") == "10.90.5.77"


def test_a_restart_by_policy_keeps_the_address(net: Net) -> None:
    net.run("a", "--network", "bridge", "--restart", "always")
    before = net.address("a")
    seen_before = net.engine.last_seq()
    net.kill("a")
    net.engine.await_event(lambda event: event["Status"] == "start", since_seq=seen_before)
    assert net.address("a") == before
