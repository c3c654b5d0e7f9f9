"""`org.varlink.service`: what the socket says of itself. Part of Varlink, so it is not in the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

import pyman
from pyman.api.method import Access, Interface, Method, Nothing
from supervisor.rpc import idl
from supervisor.rpc.dispatch import VarlinkError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.rpc.dispatch import Call, Handler

__all__ = ["INTERFACE", "introspected"]


class GetInfoReply(msgspec.Struct, frozen=True):
    vendor: str
    product: str
    version: str
    url: str
    interfaces: list[str]


class GetInterfaceDescriptionRequest(msgspec.Struct, frozen=True):
    interface: str


class GetInterfaceDescriptionReply(msgspec.Struct, frozen=True):
    description: str


INTERFACE = Interface(
    name="org.varlink.service",
    doc="What a Varlink service says of itself.",
    methods=(
        Method("GetInfo", Nothing, GetInfoReply, "Who answers, and its interfaces.", access=Access.EVENTS),
        Method(
            "GetInterfaceDescription",
            GetInterfaceDescriptionRequest,
            GetInterfaceDescriptionReply,
            "The description of an interface.",
            access=Access.EVENTS,
        ),
    ),
)


def introspected(
    interfaces: Sequence[Interface], handlers: Mapping[str, Handler]
) -> tuple[Sequence[Interface], Mapping[str, Handler]]:
    """The interfaces and handlers, with introspection added."""
    descriptions: dict[str, str] = {}
    everything = (INTERFACE, *interfaces)

    async def get_info(_request: Nothing, _call: Call) -> GetInfoReply:
        names = [idl.ERRORS_INTERFACE, *(interface.name for interface in everything)]
        return GetInfoReply(
            vendor="pyman", product="pyman", version=pyman.__version__, url="", interfaces=names
        )

    async def describe(request: GetInterfaceDescriptionRequest, _call: Call) -> GetInterfaceDescriptionReply:
        if not descriptions:
            # Made once, at first use: it reads the contract's source for its comments.
            descriptions.update(await trio.to_thread.run_sync(idl.descriptions, everything))
        text = descriptions.get(request.interface)
        if text is None:
            raise VarlinkError("InvalidParameter", parameter="interface")
        return GetInterfaceDescriptionReply(text)

    own: dict[str, Handler] = {
        f"{INTERFACE.name}.GetInfo": get_info,
        f"{INTERFACE.name}.GetInterfaceDescription": describe,
    }
    return everything, {**handlers, **own}
