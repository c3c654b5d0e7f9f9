"""From a call on the wire to the handler of its row in the contract.

Handlers are written against `Call` and `Handler`::

    async def stop(request: StopRequest, call: Call) -> ResultsReply: ...

- The request is decoded and complete; the caller's right to the method has been checked.
- Errors of `pyman.errors` that a handler raises are answered as they are; anything else is a bug, logged
  and answered with InternalError.
- When the caller's connection ends, the handler is cancelled. Work that must be finished is not done in
  the handler but in a task of the runtime that the handler waits for.
- `call.send` answers with one reply of a stream; the reply that the handler returns is the last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.api import Access
from pyman.errors import NotSupported, PermissionDenied
from supervisor.rpc.descriptors import DESCRIPTOR_LIMIT
from supervisor.rpc.framing import encode_reply
from supervisor.rpc.parameters import BadParameter, Parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyman.api import Interface, Method
    from supervisor.rpc.framing import Request
    from supervisor.rpc.peer import Peer

__all__ = ["Call", "Handler", "Route", "Routes", "VarlinkError"]

_SERVICE = "org.varlink.service"
_RANK = {Access.EVENTS: 0, Access.READ: 1, Access.OWNER: 2}
"""A socket of one rank serves the rows of the same and of lower ranks; NOBODY has none."""


class VarlinkError(Exception):
    """An error of Varlink itself, by its name in `org.varlink.service`."""

    def __init__(self, name: str, **parameters: str) -> None:
        super().__init__(name, parameters)
        self.name = f"{_SERVICE}.{name}"
        self.parameters: dict[str, Any] = dict(parameters)


class Call:
    """One call while it is being answered.

    `caller`: who asks, in the host's ids. `more`: replies may be streamed. `oneway`: nobody waits for a reply.
    `descriptors`: what the request brought; take them with `take_descriptors`, or they are closed when the
    handler ends. `session`: what earlier calls of the same connection have settled. `final_descriptors`: set by the handler to go with the reply that it returns; they are
    closed once sent, and on every other path. `gone`: the caller has closed the connection; a handler that is
    cancelled without it is cancelled because the supervisor ends.
    """

    __slots__ = (
        "_transmit",
        "caller",
        "descriptors",
        "final_descriptors",
        "gone",
        "method",
        "more",
        "oneway",
        "session",
    )

    def __init__(
        self,
        method: str,
        caller: Peer,
        *,
        more: bool,
        oneway: bool,
        descriptors: list[int],
        transmit: Callable[[bytearray, Sequence[int]], Awaitable[None]],
        session: dict[str, str] | None = None,
    ) -> None:
        self.method = method
        self.caller = caller
        self.more = more
        self.oneway = oneway
        self.descriptors = descriptors
        self.final_descriptors: list[int] = []
        self.session = {} if session is None else session
        self.gone = False
        self._transmit = transmit

    def take_descriptors(self) -> list[int]:
        """The descriptors of the request; the handler owns them from here."""
        taken, self.descriptors = self.descriptors, []
        return taken

    def take_final(self) -> list[int]:
        taken, self.final_descriptors = self.final_descriptors, []
        return taken

    async def send(self, reply: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Answer with a reply that others follow.

        The descriptors are only lent: the handler closes its own. Blocks while the caller does not read;
        cancels the handler where the caller has gone.
        """
        if self.oneway:
            return
        if not self.more:
            raise RuntimeError(f"{self.method} streams to a caller who did not ask for more")
        check_descriptors(descriptors)
        message = encode_reply(reply, continues=True, descriptors=len(descriptors))
        await self._transmit(message, descriptors)


Handler = Callable[[Any, Call], Awaitable[msgspec.Struct]]
"""Takes the request Struct of the row and the call; returns the last (or only) reply."""


def check_descriptors(descriptors: Sequence[int]) -> None:
    if len(descriptors) > DESCRIPTOR_LIMIT:
        raise RuntimeError(f"{len(descriptors)} descriptors in one reply, {DESCRIPTOR_LIMIT} are the most")


class Route:
    """One row of the contract with its handler."""

    def __init__(self, name: str, method: Method, handler: Handler) -> None:
        self.name = name
        self.method = method
        self.handler = handler

    @cached_property
    def parameters(self) -> Parameters:
        """Made for the first call: for all rows together it takes as long as starting a container does."""
        return Parameters(self.method.request)

    def admit(self, request: Request, access: Access, descriptors: int) -> None:
        """Raises what the caller is told where this call is not permitted."""
        if _RANK.get(self.method.access, 3) > _RANK.get(access, -1):
            raise PermissionDenied(
                f"cannot call {self.name} through this socket",
                subject=self.name,
                hint=f"it is for {access.value} calls",
            )
        if request.upgrade:
            raise NotSupported("cannot upgrade the connection to another protocol", subject=self.name)
        if self.method.streaming and not request.more:
            raise VarlinkError("ExpectedMore")
        if descriptors > self.method.descriptors_in:
            raise VarlinkError(
                "InvalidParameter",
                parameter="descriptors",
                reason=f"{self.name} takes at most {self.method.descriptors_in}, {descriptors} came",
            )

    def decode(self, request: Request) -> msgspec.Struct:
        try:
            return self.parameters.decode(request.parameters)
        except BadParameter as error:
            raise VarlinkError("InvalidParameter", parameter=error.parameter, reason=error.reason) from error


class Routes:
    """Every method that is answered.

    `complete`: refuse to be made (ValueError) where a row has no handler; otherwise such a method is answered
    with MethodNotImplemented. A handler without a row is always refused.
    """

    def __init__(
        self, interfaces: Iterable[Interface], handlers: Mapping[str, Handler], *, complete: bool = True
    ) -> None:
        self._routes: dict[str, Route] = {}
        self._interfaces = {interface.name: interface for interface in interfaces}
        missing, left = [], dict(handlers)
        for interface in self._interfaces.values():
            for method in interface.methods:
                name = f"{interface.name}.{method.name}"
                handler = left.pop(name, None)
                if handler is None:
                    missing.append(name)
                else:
                    self._routes[name] = Route(name, method, handler)
        if left:
            raise ValueError(f"handlers without a row in the contract: {', '.join(sorted(left))}")
        if missing and complete:
            raise ValueError(f"rows of the contract without a handler: {', '.join(missing)}")

    def find(self, name: str) -> Route:
        """Raises VarlinkError where there is no such method."""
        route = self._routes.get(name)
        if route is not None:
            return route
        interface_name, _, method_name = name.rpartition(".")
        interface = self._interfaces.get(interface_name)
        if interface is None:
            raise VarlinkError("InterfaceNotFound", interface=interface_name)
        if interface.method(method_name) is None:
            raise VarlinkError("MethodNotFound", method=name)
        raise VarlinkError("MethodNotImplemented", method=name)
