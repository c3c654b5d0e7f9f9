"""A container put on a network, or taken off it, while it exists.

Where it runs, the network is recorded as an intent first, with the interface and the addresses that the container is to
have there. Then it is done, and the definition, the event and the end of the intent are one transaction. Whatever fails
in between is taken back; a supervisor that finds an intent takes it back as well, for nobody was told that it was done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyman.errors import InvalidArgument, NoSuchNetwork, PymanError, WrongState
from pyman.names import STATES_WITH_PROCESS, EventStatus, EventType, State
from supervisor.logging import log
from supervisor.runtime.networks.creation import choosing
from supervisor.runtime.networks.wired.bridged import Bridged
from supervisor.runtime.networks.wired.rewiring import Rewiring
from supervisor.runtime.records import replaced
from supervisor.state.database import EventDraft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pyman.api.network import Network
    from pyman.api.spec import NetworkWish
    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.life import requests as rq
    from supervisor.runtime.life.worker import Worker
    from supervisor.runtime.records import Definition, Observed

__all__ = ["connect", "disconnect", "reload", "renamed", "take_back"]


async def connect(worker: Worker, request: rq.Connect) -> None:
    """The answer is whether that is a change. InvalidArgument, WrongState, NoSuchNetwork, AddressInUse, NetworkFailed,
    NotSupported: it is not, and nothing is left of it."""
    await _settle(worker)
    who = _named(worker)
    wiring = _wiring(worker, f"connect {who} to network '{request.network}'")
    definition, book = worker.container.definition, worker.services.networks
    known = await book.known()
    network = known.find(request.network)
    if network.name in definition.spec.networks:
        if _init(worker) is not None:
            raise _refusal(worker, f"connect {who} to network '{network.name}'", "it is on it")
        request.answer.give(False)  # as Podman
        return
    settings = worker.services.settings
    as_device, rootless = bool(settings.containers.interface_name), settings.rootless
    taken = choosing.on_host(known, book.containers(), definition.name) if request.wish.options else {}
    networks = choosing.further(
        definition.spec.networks, network, request.wish, as_device=as_device, rootless=rootless, taken=taken
    )
    new, event = _changed(worker, networks), _event(worker, EventStatus.CONNECT, network.name, request)
    init = _init(worker)
    try:
        more = (
            {} if init is None else await _further(wiring, worker.observed, network, networks[network.name])
        )
        # Who removes a network looks at what is committed here.
        async with book.locked() as known:
            if (found := known.find(network.name)).id != network.id:
                raise NoSuchNetwork(f"cannot find network '{found.name}': it was removed", subject=found.name)
            if init is None:
                await worker.redefine(new, [event])
            else:
                await worker.note(rewiring=network.name, **more)
    except PymanError:
        wiring.give_up()
        raise
    if init is not None:
        await _carry_out(worker, lambda: wiring.put_on(network.name, init), new, event)
    request.answer.give(True)


async def _further(
    wiring: Rewiring, observed: Observed, network: Network, wish: NetworkWish
) -> dict[str, Any]:
    """What the record of a run on one more network says."""
    attachment = await wiring.allot(network, wish)
    return {
        "attachments": [*observed.attachments, attachment],
        "networks": [*observed.networks, wiring.plan_of(network)],
    }


async def disconnect(worker: Worker, request: rq.Disconnect) -> None:
    """InvalidArgument, WrongState: it is not on it, or cannot be taken off; NoSuchNetwork; NetworkFailed: it is put back on
    it."""
    await _settle(worker)
    doing = f"disconnect {_named(worker)} from network '{request.network}'"
    wiring = _wiring(worker, doing)
    on = worker.container.definition.spec.networks
    name = await _name_of(worker, request)
    if name not in on:
        raise _refusal(worker, doing, "it is not on it")
    new = _changed(worker, {key: wish for key, wish in on.items() if key != name})
    event, init = _event(worker, EventStatus.DISCONNECT, name, request), _init(worker)
    if init is None:
        await worker.redefine(new, [event])
    else:
        await worker.note(rewiring=name)
        former = worker.observed
        await _carry_out(worker, lambda: wiring.take_off(name, init), new, event, **wiring.without(name))
        wiring.give_back(former)
    request.answer.give(None)


async def _name_of(worker: Worker, request: rq.Disconnect) -> str:
    """By force it may be one whose definition is gone, or damaged."""
    try:
        return (await worker.services.networks.known()).find(request.network).name
    except PymanError:
        if request.force and request.network in worker.container.definition.spec.networks:
            return request.network
        raise


async def reload(worker: Worker, request: rq.ReloadNetworks) -> None:
    """What a running container has on its networks is made again where it is missing. InvalidArgument, WrongState;
    NetworkFailed: something is missing still."""
    doing = f"reload the networks of {_named(worker)}"
    wiring = _wiring(worker, doing)
    init = _init(worker)
    if init is None:
        raise _refusal(worker, doing, f"it is {worker.observed.state}")
    await _settle(worker)
    await wiring.mend(init)
    if worker.observed.leased:
        from supervisor.runtime.life import leasing

        await leasing.follow(worker)
    request.answer.give(None)


# ---------------------------------------------------------------------- carrying it out


async def _carry_out(
    worker: Worker,
    work: Callable[[], Awaitable[dict[str, Any]]],
    new: Definition,
    event: EventDraft,
    **changes: Any,
) -> None:
    try:
        changes |= await work()
        await worker.redefine(new, [event], rewiring="", **changes)
        worker.watch_leases()
    except PymanError:
        if _init(worker) is not None:
            await take_back(worker)
            raise
        # It has ended meanwhile: the next run is as was asked for.
        await worker.redefine(new, [event], rewiring="")


async def take_back(worker: Worker) -> None:
    """A change that was begun, and not told. Where that fails it is tried again after a while."""
    try:
        await _settle(worker)
    except PymanError as error:
        log.warning("networks not taken back", container=worker.container.id, error=str(error))
        worker.take_up_later()


async def _settle(worker: Worker) -> None:
    """Nothing is begun. Of a container that has ended, all that is recorded is about to be taken down."""
    name, init = worker.observed.rewiring, _init(worker)
    if not name or init is None:
        return
    wiring = _wiring(worker, f"settle the networks of {_named(worker)}")
    if name in worker.container.definition.spec.networks:
        await wiring.put_back(name, init)
        await worker.note(rewiring="")
    else:
        former = worker.observed
        await wiring.take_off(name, init)
        await worker.note(rewiring="", **wiring.without(name))
        wiring.give_back(former)


async def renamed(worker: Worker) -> None:
    """One that is on networks, where it is found by its new name from now on. That it has it is recorded already."""
    wiring = worker.body.wiring
    if isinstance(wiring, Bridged):
        try:
            await wiring.name_again()
        except PymanError as error:
            log.warning("cannot tell a container's new name", container=worker.container.id, error=str(error))


# ---------------------------------------------------------------------- small parts


def _wiring(worker: Worker, doing: str) -> Rewiring:
    """Only of a container that is on networks, or may be. InvalidArgument, WrongState."""
    if worker.observed.state is State.REMOVING:
        raise _refusal(worker, doing, "it is being removed")
    wiring = worker.body.wiring
    if isinstance(wiring, Bridged):
        return Rewiring(worker.services, worker.container, wiring)
    spec, name = worker.container.definition.spec, worker.container.name
    mode = f"{spec.netns.nsmode or 'none'}{f':{spec.netns.value}' if spec.netns.value else ''}"
    raise InvalidArgument(
        f"cannot {doing}: it was created with --network {mode}",
        subject=name,
        hint="it takes a container that was created on a network",
    )


def _refusal(worker: Worker, doing: str, reason: str) -> WrongState:
    return WrongState(f"cannot {doing}: {reason}", subject=worker.container.name)


def _named(worker: Worker) -> str:
    return f"container '{worker.container.name}'"


def _init(worker: Worker) -> ProcessRef | None:
    """The first process of a run that is not over."""
    pidfd = worker.init_fd
    alive = pidfd is not None and not pidfd.exited() and worker.observed.state in STATES_WITH_PROCESS
    return pidfd.ref if alive and pidfd is not None else None


def _changed(worker: Worker, networks: Mapping[str, NetworkWish]) -> Definition:
    definition = worker.container.definition
    return replaced(definition, spec=replaced(definition.spec, networks=dict(networks)))


def _event(
    worker: Worker, status: EventStatus, network: str, request: rq.Connect | rq.Disconnect
) -> EventDraft:
    return EventDraft(
        type=EventType.NETWORK.value,
        status=status.value,
        id=worker.container.id,
        name=worker.container.name,
        attributes={"network": network},
        actor=request.actor,
    )
