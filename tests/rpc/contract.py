"""A small contract of the tests' own: one method for each thing that a server can do."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.api import Access, Interface, Method, Nothing, Vanish
from pyman.errors import NoSuchContainer

if TYPE_CHECKING:
    from supervisor.rpc.dispatch import Call, Handler

NAME = "io.pyman.Trial"


class Inner(msgspec.Struct, frozen=True):
    number: int = 7
    maybe: str | None = None


class Echo(msgspec.Struct, frozen=True):
    text: str
    inner: Inner = Inner()
    many: list[Inner] = []
    table: dict[str, Inner] = {}


class Count(msgspec.Struct, frozen=True):
    number: int
    padding: str = ""


class Who(msgspec.Struct, frozen=True):
    pid: int
    uid: int


INTERFACE = Interface(
    name=NAME,
    doc="Trials.",
    methods=(
        Method("Echo", Echo, Echo, "Gives back what came.", access=Access.READ),
        Method("Who", Nothing, Who, "Who calls.", access=Access.EVENTS),
        Method("Change", Nothing, Nothing, "Counts its calls.", access=Access.OWNER),
        Method("Secret", Nothing, Nothing, "Nobody may."),
        Method("Fail", Nothing, Nothing, "Raises a known error.", access=Access.READ),
        Method("Bug", Nothing, Nothing, "Raises an unknown error.", access=Access.READ),
        Method("WrongReply", Nothing, Who, "Answers with another type.", access=Access.READ),
        Method("Wait", Nothing, Nothing, "Until told to go on.", access=Access.READ, vanish=Vanish.CANCEL),
        Method("Work", Nothing, Nothing, "Also until then, but is finished.", access=Access.READ),
        Method("Stream", Count, Count, "As many replies.", access=Access.READ, streaming=True),
        Method("Flood", Count, Count, "Replies without end.", access=Access.READ, streaming=True),
        Method(
            "Pass",
            Count,
            Count,
            "Takes descriptors, and gives as many new ones with each of two replies.",
            access=Access.OWNER,
            streaming=True,
            descriptors_in=16,
            descriptors_out=True,
        ),
        Method("Careless", Nothing, Nothing, "Leaves what it got.", access=Access.OWNER, descriptors_in=3),
        Method("Missing", Nothing, Nothing, "Has no handler.", access=Access.READ),
    ),
)


class Trial:
    """The handlers, and what they have seen."""

    def __init__(self) -> None:
        self.changes = 0
        self.flooded = 0
        self.entered = trio.Event()
        self.go_on = trio.Event()
        self.outcome: str = ""
        self.ended = trio.Event()
        self.received: list[bytes] = []

    def handlers(self) -> dict[str, Handler]:
        own: dict[str, Handler] = {
            "Echo": self.echo,
            "Who": self.who,
            "Change": self.change,
            "Secret": self.change,
            "Fail": self.fail,
            "Bug": self.bug,
            "WrongReply": self.wrong,
            "Wait": self.wait,
            "Work": self.wait,
            "Stream": self.stream,
            "Flood": self.flood,
            "Pass": self.pass_on,
            "Careless": self.change,
        }
        return {f"{NAME}.{name}": handler for name, handler in own.items()}

    async def echo(self, request: Echo, _call: Call) -> Echo:
        return request

    async def who(self, _request: Nothing, call: Call) -> Who:
        return Who(call.caller.pid, call.caller.uid)

    async def change(self, _request: Nothing, _call: Call) -> Nothing:
        self.changes += 1
        return Nothing()

    async def fail(self, _request: Nothing, _call: Call) -> Nothing:
        raise NoSuchContainer("cannot find the container 'x'", subject="x", hint="look at the list")

    async def bug(self, _request: Nothing, _call: Call) -> Nothing:
        raise ZeroDivisionError("the inner secret")

    async def wrong(self, _request: Nothing, _call: Call) -> Nothing:
        return Nothing()

    async def wait(self, _request: Nothing, call: Call) -> Nothing:
        self.entered.set()
        try:
            await self.go_on.wait()
            self.outcome = "finished"
        except trio.Cancelled:
            self.outcome = "caller gone" if call.gone else "supervisor ends"
            raise
        finally:
            self.ended.set()
        return Nothing()

    async def stream(self, request: Count, call: Call) -> Count:
        for number in range(request.number):
            await call.send(Count(number, request.padding))
        return Count(request.number)

    async def flood(self, request: Count, call: Call) -> Count:
        self.entered.set()
        try:
            while True:
                await call.send(Count(request.number, request.padding))
                self.flooded += 1
        finally:
            self.ended.set()

    async def pass_on(self, request: Count, call: Call) -> Count:
        for descriptor in call.take_descriptors():
            self.received.append(os.read(descriptor, 100))
            os.close(descriptor)
        made = [self._pipe_with(f"first {number}") for number in range(request.number)]
        try:
            await call.send(Count(1, request.padding), made)
        finally:
            for descriptor in made:
                os.close(descriptor)
        call.final_descriptors = [self._pipe_with(f"last {number}") for number in range(request.number)]
        return Count(2, request.padding)

    @staticmethod
    def _pipe_with(text: str) -> int:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.write(writing, text.encode())
        os.close(writing)
        return reading


def listening_socket(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    made.bind(path)
    made.listen(128)
    return made
