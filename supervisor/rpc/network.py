"""`io.pyman.Network`: from the rows of the contract to the book of networks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pyman.api import network as api
from pyman.api.container import ExistsReply, Result, ResultsReply
from pyman.api.method import Nothing
from pyman.errors import InvalidArgument, NoSuchNetwork, PymanError
from pyman.names import STATES_WITH_PROCESS
from supervisor.rpc.rootfs import actor_of
from supervisor.runtime import pruning
from supervisor.runtime.life import requests as rq
from supervisor.runtime.many import info_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyman.api.event import Actor
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.container import Container
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.networks.book import NetworkBook
    from supervisor.runtime.registry import Entry, View

__all__ = ["NetworkHandlers"]

T = TypeVar("T")
Removed = list[api.RemovedNetwork]
_TIMEOUT_MOST = 1e9


class NetworkHandlers:
    """Changes are finished without their caller. What only networks need is imported when there is a call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _book(self) -> NetworkBook:
        self._engine.check_valid()
        return self._engine.services.networks

    def _view(self, call: Call) -> View:
        return self._engine.view(call.session.get("namespace", ""))

    async def _finished(self, work: Callable[[], Awaitable[T]]) -> T:
        done: T = await self._engine.background(work).get()
        return done

    # ------------------------------------------------------------------ reading

    async def list(self, request: api.ListNetworksRequest, call: Call) -> api.ListNetworksReply:
        from supervisor.runtime.networks.listing import selected

        known = await self._book.known()
        networks = selected(known.by_name.values(), request.filters, self._book.dangling())
        return api.ListNetworksReply(networks, [info_of(error) for error in known.damaged.values()])

    async def inspect(self, request: api.InspectNetworksRequest, call: Call) -> api.InspectNetworksReply:
        from supervisor.runtime.networks.users import running, shown_on

        _require(request.names)
        known = await self._book.known()
        found, errors = [], []
        containers = running(self._view(call).containers)
        for name in request.names:
            try:
                network = known.find(name)
                on = shown_on(network, containers.get(network.name, ()))
                found.append(api.InspectNetwork(**msgspec.structs.asdict(network), containers=on))
            except PymanError as error:
                errors.append(info_of(error))
        return api.InspectNetworksReply(found, errors)

    async def exists(self, request: api.NetworkRequest, call: Call) -> ExistsReply:
        try:
            (await self._book.known()).find(request.name)
        except NoSuchNetwork:
            return ExistsReply(exists=False)
        return ExistsReply(exists=True)

    # ------------------------------------------------------------------ changing

    async def create(self, request: api.CreateNetworkRequest, call: Call) -> api.CreateNetworkReply:
        work = partial(self._book.create, request, actor_of(call))
        network, created = await self._finished(work)
        return api.CreateNetworkReply(network, created)

    async def update(self, request: api.UpdateNetworkRequest, call: Call) -> api.UpdateNetworkReply:
        work = partial(
            self._book.update,
            request.name,
            request.add_dns_servers,
            request.remove_dns_servers,
            actor_of(call),
        )
        network, changed = await self._finished(work)
        return api.UpdateNetworkReply(network, changed)

    async def connect(self, request: api.ConnectNetworkRequest, call: Call) -> api.ConnectionReply:
        entry = self._view(call).find(request.container)
        wish = rq.Connect(actor=actor_of(call), network=request.name, wish=request.options)
        return api.ConnectionReply(await entry.worker.ask(wish))

    async def disconnect(self, request: api.DisconnectNetworkRequest, call: Call) -> Nothing:
        entry = self._view(call).find(request.container)
        await entry.worker.ask(rq.Disconnect(actor=actor_of(call), network=request.name, force=request.force))
        return Nothing()

    async def reload(self, request: api.ReloadNetworksRequest, call: Call) -> ResultsReply:
        async def work(entry: Entry) -> Result:
            await entry.worker.ask(rq.ReloadNetworks(actor=actor_of(call)))
            return Result(name="", id=entry.container.id)

        results = await self._engine.each(self._view(call), request.selection, work, keep=_is_on_networks)
        return ResultsReply(results=results)

    async def remove(self, request: api.RemoveNetworksRequest, call: Call) -> api.RemovedNetworksReply:
        _require(request.names)
        timeout = request.timeout
        if timeout is not None and not 0 <= timeout <= _TIMEOUT_MOST:
            raise InvalidArgument(f"cannot wait {timeout:g} s before SIGKILL")
        if timeout is not None and not request.force:
            raise InvalidArgument("cannot use a time without force")
        work = partial(self._remove, request, actor_of(call))
        return api.RemovedNetworksReply(await self._finished(work))

    async def _remove(self, request: api.RemoveNetworksRequest, actor: Actor) -> Removed:
        book, removed = self._book, []
        for name in dict.fromkeys(request.names):
            try:
                if request.force:
                    await book.remove_used(name, request.timeout, actor)
                else:
                    await book.remove(name, actor)
                removed.append(api.RemovedNetwork(name))
            except PymanError as error:
                removed.append(api.RemovedNetwork(name, info_of(error)))
        return removed

    async def prune(self, request: api.PruneNetworksRequest, call: Call) -> api.RemovedNetworksReply:
        work = partial(pruning.prune_networks, self._book, request.filters, actor_of(call))
        return api.RemovedNetworksReply(await self._finished(work))


def _is_on_networks(container: Container) -> bool:
    """Not on one of a program's: there is nothing of it that could be made anew."""
    return bool(container.observed.networks) and container.state in STATES_WITH_PROCESS


def _require(names: Sequence[str]) -> None:
    if not names:
        raise InvalidArgument("cannot tell which network is meant", hint="give a name")
