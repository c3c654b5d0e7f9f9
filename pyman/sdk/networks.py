"""Networks, as an asynchronous client has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api import network as api
from pyman.api.container import ExistsReply, ResultsReply, Selection
from pyman.api.method import Nothing
from pyman.api.spec import NetworkWish
from pyman.sdk.noun import Noun, listed, raise_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyman.api.container import Result

__all__ = ["Networks"]

Listed = list[api.Network]


class Networks(Noun):
    """Made by the engine. Networks are found by their names, their ids, or the beginning of an id that no other has."""

    interface = "io.pyman.Network"

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        interface: str = "",
        subnets: Sequence[api.SubnetWish] = (),
        routes: Sequence[api.Route] = (),
        ipv6: bool = False,
        internal: bool = False,
        dns: bool = True,
        dns_servers: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        ipam_driver: str = "",
        ignore: bool = False,
    ) -> api.Network:
        """What is not given is chosen. `ignore`: one of that name that is there is taken."""
        request = api.CreateNetworkRequest(
            name=name,
            driver=driver,
            network_interface=interface,
            subnets=[*subnets],
            routes=[*routes],
            ipv6_enabled=ipv6,
            internal=internal,
            dns_enabled=dns,
            network_dns_servers=[*dns_servers],
            labels=dict(labels or {}),
            options=dict(options or {}),
            ipam_driver=ipam_driver,
            ignore=ignore,
        )
        return (await self._call("Create", request, api.CreateNetworkReply)).network

    async def update(
        self, name: str, *, add_dns_servers: Sequence[str] = (), remove_dns_servers: Sequence[str] = ()
    ) -> api.Network:
        request = api.UpdateNetworkRequest(name, [*add_dns_servers], [*remove_dns_servers])
        return (await self._call("Update", request, api.UpdateNetworkReply)).network

    async def connect(
        self,
        name: str,
        container: str,
        *,
        ips: Sequence[str] = (),
        mac: str = "",
        aliases: Sequence[str] = (),
        interface: str = "",
    ) -> bool:
        """Put a container on a network, at once where it runs. What is not given is chosen. False: it is on it, and does
        not run."""
        wish = NetworkWish(static_ips=[*ips], static_mac=mac, aliases=[*aliases], interface_name=interface)
        request = api.ConnectNetworkRequest(name, container, wish)
        return (await self._call("Connect", request, api.ConnectionReply)).changed

    async def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        """At once where it runs. `force`: also where there is no such network any more."""
        await self._call("Disconnect", api.DisconnectNetworkRequest(name, container, force), Nothing)

    async def reload(self, which: str | Selection) -> Sequence[Result]:
        """Make anew what somebody has removed of running containers' networks."""
        selection = Selection(names=[which]) if isinstance(which, str) else which
        reply = await self._call("Reload", api.ReloadNetworksRequest(selection), ResultsReply)
        if isinstance(which, str):
            raise_first(each.error for each in reply.results)
        return reply.results

    async def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> Listed:
        """By their names."""
        request = api.ListNetworksRequest(listed(filters))
        return (await self._call("List", request, api.ListNetworksReply)).networks

    async def inspect(self, name: str) -> api.InspectNetwork:
        reply = await self._call("Inspect", api.InspectNetworksRequest([name]), api.InspectNetworksReply)
        raise_first(reply.errors)
        return reply.networks[0]

    async def exists(self, name: str) -> bool:
        return (await self._call("Exists", api.NetworkRequest(name), ExistsReply)).exists

    async def remove(self, name: str, *, force: bool = False, timeout: float | None = None) -> None:
        """`force`: with the containers that are on it, which get `timeout` seconds until SIGKILL."""
        request = api.RemoveNetworksRequest([name], force, timeout)
        reply = await self._call("Remove", request, api.RemovedNetworksReply)
        raise_first(each.error for each in reply.networks)

    async def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> Sequence[str]:
        """The names of those that no container was on."""
        request = api.PruneNetworksRequest(listed(filters))
        reply = await self._call("Prune", request, api.RemovedNetworksReply)
        raise_first(each.error for each in reply.networks)
        return [each.name for each in reply.networks]
