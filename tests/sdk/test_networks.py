"""Networks through the asynchronous client, with a real supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pyman
from pyman.client import ContainerSpec, Namespace, NetworkWish, PortMapping, Route, Selection, SubnetWish
from pyman.errors import InvalidArgument, NameInUse, NetworkInUse, NoSuchNetwork, WrongState

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")


async def test_a_network_is_made_found_and_removed(engine: Engine) -> None:
    async with pyman.connect(engine.socket) as client:
        networks = client.networks
        made = await networks.create(
            "web",
            subnets=[SubnetWish("10.251.6.0/24", ip_range="10.251.6.8-10.251.6.20")],
            routes=[Route("10.9.0.0/24", "10.251.6.2", 7)],
            dns_servers=["192.0.2.53"],
            labels={"for": "web"},
            options={"mtu": "1400"},
        )
        assert made.subnets[0].gateway == "10.251.6.1"
        with pytest.raises(NameInUse):
            await networks.create("web")
        assert await networks.create("web", ignore=True) == made
        assert (await networks.inspect(made.id[:9])).routes == [Route("10.9.0.0/24", "10.251.6.2", 7)]
        assert [one.name for one in await networks.list({"label": ["for"]})] == ["web"]
        changed = await networks.update(
            "web", add_dns_servers=["192.0.2.54"], remove_dns_servers=["192.0.2.53"]
        )
        assert changed.network_dns_servers == ["192.0.2.54"]
        assert (await networks.inspect("web")).network_dns_servers == ["192.0.2.54"]
        box = await client.containers.create(
            rootfs="/", rootfs_overlay=True, command=["true"], netns=Namespace("bridge")
        )
        assert await networks.connect("web", box.id, ips=["10.251.6.9"], aliases=["also"])
        assert not await networks.connect("web", box.id)
        with pytest.raises(NetworkInUse):
            await networks.remove("web")
        with pytest.raises(WrongState, match="cannot reload the networks of container"):
            await networks.reload(box.id)
        assert await networks.reload(Selection(all=True)) == []
        await networks.disconnect("web", box.id)
        with pytest.raises(WrongState, match="it is not on it"):
            await networks.disconnect("web", box.id)
        await client.containers.remove(box.id)
        other = await networks.create()
        await networks.remove(other.name)
        assert await networks.prune() == ["web"]
        assert not await networks.exists("web")
        for work in (networks.remove("web"), networks.inspect("web")):
            with pytest.raises(NoSuchNetwork):
                await work
        with pytest.raises(InvalidArgument, match="there are bridge, macvlan, ipvlan"):
            await networks.create(driver="weave")


async def test_a_container_says_what_networks_it_is_on(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        await engine.networks.create("web", subnets=[SubnetWish("10.251.7.0/24")])
        spec = ContainerSpec(
            rootfs=str(rootfs),
            rootfs_overlay=True,
            networks={"web": NetworkWish(static_ips=["10.251.7.7"], aliases=["www"])},
            portmappings=[
                PortMapping(80, 8080, range=2),
                PortMapping(53, protocol="udp", host_ip="127.0.0.1"),
            ],
        )
        await engine.containers.create(spec, name="c", command=["true"])
        told = await engine.containers.inspect("c")
        settings = told.network_settings
        assert settings.networks is not None
        assert settings.networks["web"].aliases == ["www", told.id[:12]]
        assert settings.ports.keys() == {"80/tcp", "81/tcp", "53/udp"}
        (line,) = await engine.containers.list(all=True)
        assert line.networks == ["web"]
        assert line.ports[0] == PortMapping(80, 8080, range=2)
        assert line.ports[1].host_port > 0
        networks = {"web": NetworkWish(static_ips=["10.251.8.7"])}
        with pytest.raises(InvalidArgument, match=r"10\.251\.8\.7"):
            await engine.containers.create(spec, name="d", networks=networks)
        await engine.containers.remove("c")
        await engine.networks.remove("web")
