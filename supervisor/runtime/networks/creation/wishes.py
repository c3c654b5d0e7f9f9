"""What a create request says of networks, settled for the container's life: a mode in one word, networks that there are by
their names, and ports that do not contradict one another.

What others change later is looked at again by each start: a network may have been removed, an address or a port taken.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from pyman.api.spec import Namespace, NetworkWish
from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.namespaces import JOINED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pyman.api.spec import ContainerSpec
    from supervisor.runtime.services import Services
    from supervisor.settings.model import Settings

__all__ = ["check_user_mode", "locked", "settle"]

_DEFAULT = "default"
"""Stands for the default network, whatever it is called."""
_PUBLISHING = ("bridge", "pasta", "slirp4netns")
"""Modes in which ports of the host can lead into a container."""
_OPTIONED = ("pasta", "slirp4netns")


async def settle(services: Services, spec: ContainerSpec, image_ports: Sequence[str]) -> ContainerSpec:
    """`image_ports`: as its image exposes them. InvalidArgument, NotSupported, NoSuchNetwork, AmbiguousId, StorageFailed,
    DeadlineExceeded."""
    settings = services.settings
    mode = _mode(spec, settings)
    _check(spec, mode)
    changed: dict[str, object] = {}
    if mode != spec.netns.nsmode:
        changed["netns"] = Namespace(mode)
    if mode == "bridge":
        changed["networks"] = await _networks(services, spec)
    if spec.portmappings or spec.publish_image_ports:
        from supervisor.runtime.networks.creation.publishing import settled  # only now: most publish nothing

        changed["portmappings"] = settled(spec, image_ports, settings.network.default_host_ips)
    spec = msgspec.structs.replace(spec, **changed) if changed else spec
    if mode in _OPTIONED:
        check_user_mode(spec, settings)
    elif settings.rootless:
        _check_rootless_ports(spec)
    return spec


@asynccontextmanager
async def locked(services: Services, spec: ContainerSpec) -> AsyncIterator[None]:
    """Nobody removes the networks of a container while it is recorded: who removes one looks at the records. NoSuchNetwork:
    somebody has, StorageFailed, DeadlineExceeded."""
    names = [name for name in spec.networks if name != services.settings.network.default_network]
    if not names:  # the default one is never removed
        yield
        return
    async with services.networks.locked() as known:
        for name in names:
            known.find(name)
        yield


def _mode(spec: ContainerSpec, settings: Settings) -> str:
    """In one word. Who asks for networks means bridge."""
    asked = spec.netns.nsmode
    if asked not in ("", "private"):
        return asked
    if spec.networks:
        return "bridge"
    configured = asked or settings.containers.netns
    if configured != "private":
        return configured
    return settings.network.default_rootless_network_cmd if settings.rootless else "bridge"


def _check(spec: ContainerSpec, mode: str) -> None:
    told = f"--network {mode}{f':{spec.netns.value}' if spec.netns.value else ''}"
    if spec.netns.nsmode != mode:
        told += ", as configured"
    if spec.netns.value and mode not in JOINED:
        raise InvalidArgument(
            f"cannot use {told}: only container and ns take a value",
            subject=told,
            hint="networks are named in Networks, options of pasta and slirp4netns in network_options",
        )
    if spec.networks and mode != "bridge":
        raise InvalidArgument(
            f"cannot use the network '{next(iter(spec.networks))}' together with {told}", subject=told
        )
    for word in spec.network_options:
        if word != mode or word not in _OPTIONED:
            raise InvalidArgument(f"cannot use options of {word} together with {told}", subject=told)
    if mode not in _PUBLISHING and (spec.portmappings or spec.publish_image_ports):
        option = "--publish" if spec.portmappings else "--publish-all"
        raise InvalidArgument(
            f"cannot use {option} together with {told}",
            subject=option,
            hint=_hint(mode, spec),
        )


def _hint(mode: str, spec: ContainerSpec) -> str:
    if mode == "host":
        return "its ports are the host's"
    if mode == "container":
        return f"ports are published by '{spec.netns.value}', whose network it is"
    return f"use --network {', '.join(_PUBLISHING[:-1])} or {_PUBLISHING[-1]}"


async def _networks(services: Services, spec: ContainerSpec) -> dict[str, NetworkWish]:
    """By the networks' names, in their order."""
    settings = services.settings
    default, as_device = settings.network.default_network, bool(settings.containers.interface_name)
    wishes = [(default if name == _DEFAULT else name, wish) for name, wish in spec.networks.items()]
    wishes = wishes or [(default, NetworkWish())]
    if wishes == [(default, NetworkWish())] and not as_device:  # which is always there
        return {default: NetworkWish(interface_name="eth0")}
    from supervisor.runtime.networks.creation import (
        choosing,  # only now: most are on the default network alone
    )

    known = await services.networks.known()
    taken: Mapping[str, str] = {}
    if any(wish.options for _, wish in wishes):
        # One of the same name is about to be replaced.
        taken = choosing.on_host(known, services.networks.containers(), spec.name)
    return choosing.settled(wishes, known, as_device=as_device, rootless=settings.rootless, taken=taken)


def check_user_mode(spec: ContainerSpec, settings: Settings) -> None:
    """What the program that is the network can be told, and which ports it leads. InvalidArgument, NotSupported."""
    # Only now: root's containers mostly do without.
    from supervisor.network.plans import Port

    ports = [
        Port(mapping.host_port, mapping.container_port, mapping.protocol, mapping.host_ip)
        for mapping in spec.portmappings
    ]
    if spec.netns.nsmode == "slirp4netns":
        from supervisor.network.user_mode import slirp4netns
        from supervisor.runtime.networks.wired import by_slirp4netns

        slirp4netns.check_ports(slirp4netns.parse(by_slirp4netns.options_of(spec, settings)), ports)
        return
    from supervisor.network.user_mode import pasta
    from supervisor.runtime.networks.wired import by_pasta

    if not settings.rootless:
        raise NotSupported(
            "cannot use --network pasta as root: pasta works for ordinary users alone",
            subject="--network pasta",
            hint="use --network bridge",
        )
    pasta.check(by_pasta.options_of(spec, settings))
    pasta.check_ports(ports)


def _check_rootless_ports(spec: ContainerSpec) -> None:
    """What leads an ordinary user's ports to bridges. InvalidArgument."""
    for port in spec.portmappings:
        if port.protocol == "sctp":
            raise InvalidArgument(
                f"cannot publish port {port.container_port}/sctp: without root ports are tcp and udp alone",
                subject=f"{port.container_port}/sctp",
            )
