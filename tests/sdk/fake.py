"""An engine without containers: the real server with handlers that play what a supervisor would do.

It lives in a thread of its own, so that the client can run under either backend, and can be stopped,
killed and started again; its journal outlives that.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import trio

from pyman.api import Access
from pyman.api.container import (
    AttachReply,
    CreateReply,
    ErrorInfo,
    ExecReply,
    ExistsReply,
    InspectReply,
    ListReply,
    LogsReply,
    Result,
    ResultsReply,
    RunReply,
    WhyReply,
)
from pyman.api.event import Event, Gap, PruneEventsReply, Snapshot, SubscribeReply
from pyman.api.method import Nothing
from pyman.api.system import CheckReply, InfoReply, LocksReply, ReloadReply, VersionReply
from pyman.errors import CommandNotFound, NoSuchContainer
from supervisor.rpc.server import Listener, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyman.api.container import ListContainer
    from supervisor.rpc.dispatch import Call
    from supervisor.rpc.server import Server

ID = "abc" * 20 + "0123"


class FakeEngine:
    def __init__(self, path: str) -> None:
        self.path = path
        self.journal = "journal-1"
        self.journal_events: list[Event] = []
        self.retained_from = 1
        self.requests: list[Any] = []
        self.log_files: list[str] = []
        self.log_ended = True
        self.known = {"web": ID}
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._server: Server | None = None
        self._changed = trio.Event()
        self.resized: list[Any] = []
        self.waiting = threading.Event()
        """Somebody waits for ever."""

    # The supervisor's life

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main, ready), name="fake engine")
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """As on SIGTERM: calls under way are told."""
        self._end(self._scope.cancel)

    def kill(self) -> None:
        """As with SIGKILL: connections just end."""
        self._end(self._sever)

    def _end(self, how: Callable[[], object]) -> None:
        if self._thread is None or self._token is None:
            return
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(how)
        self._thread.join()
        self._thread = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _sever(self) -> None:
        assert self._server is not None
        for connection in self._server._connections.values():
            connection._socket.shutdown(socket.SHUT_RDWR)
        self._scope.cancel()

    async def _main(self, ready: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._scope, self._changed = trio.CancelScope(), trio.Event()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(self.path)
        listening.listen(64)
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._server = await nursery.start(self._serve, listening)
                ready.set()

    async def _serve(self, listening: socket.socket, task_status: trio.TaskStatus[Server]) -> None:
        handlers = {
            "System.Version": self.version,
            "System.Info": self.info,
            "System.Reload": self.reload,
            "System.Locks": self.locks,
            "System.Check": self.check,
            "System.Shutdown": self.nothing,
            "Container.Create": self.create,
            "Container.Run": self.run,
            "Container.Attach": self.attach,
            "Container.Exec": self.exec,
            "Container.Wait": self.results,
            "Container.Rename": self.nothing,
            "Container.Resize": self.resize,
            "Container.Update": self.create,
            "Container.Exists": self.exists,
            "Container.Inspect": self.inspect,
            "Container.List": self.list,
            "Container.Why": self.why,
            "Container.Logs": self.logs,
            "Event.Subscribe": self.subscribe,
            "Event.Prune": self.prune,
        }
        for verb in ("Init", "Start", "Stop", "Restart", "Kill", "Pause", "Unpause", "Remove"):
            handlers[f"Container.{verb}"] = self.results
        await serve(
            [Listener(listening, Access.OWNER)],
            {f"io.pyman.{name}": handler for name, handler in handlers.items()},
            complete=False,
            task_status=task_status,
        )

    def call_soon(self, function: Callable[[], object]) -> None:
        assert self._token is not None
        self._token.run_sync_soon(function)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # Handlers

    async def version(self, _request: Nothing, _call: Call) -> VersionReply:
        return VersionReply("1.0", "1", "3.11", "linux", "amd64", "6")

    async def info(self, _request: Nothing, call: Call) -> InfoReply:
        return InfoReply({"os": "linux"}, {}, {}, {}, {}, {"pid": call.caller.pid})

    async def reload(self, _request: Nothing, _call: Call) -> ReloadReply:
        return ReloadReply(["engine.stop_timeout"])

    async def locks(self, _request: Nothing, _call: Call) -> LocksReply:
        return LocksReply(2048, [], 2048)

    async def check(self, _request: Any, _call: Call) -> CheckReply:
        return CheckReply([])

    async def nothing(self, request: Any, _call: Call) -> Nothing:
        self.requests.append(request)
        return Nothing()

    async def resize(self, request: Any, _call: Call) -> Nothing:
        self.resized.append(request)
        return Nothing()

    async def create(self, request: Any, _call: Call) -> CreateReply:
        self.requests.append(request)
        return CreateReply(ID, "web", ["beware"])

    async def exists(self, request: Any, _call: Call) -> ExistsReply:
        return ExistsReply(request.name in self.known)

    async def inspect(self, request: Any, _call: Call) -> InspectReply:
        return InspectReply([], [ErrorInfo("NoSuchContainer", "cannot find it", request.names[0])])

    async def list(self, request: Any, _call: Call) -> ListReply:
        self.requests.append(request)
        listed: list[ListContainer] = []
        return ListReply(listed)

    async def why(self, request: Any, _call: Call) -> WhyReply:
        return WhyReply(ID, request.name, "it was stopped by its user", [])

    async def results(self, request: Any, _call: Call) -> ResultsReply:
        self.requests.append(request)
        found = []
        for name in request.selection.names:
            if name == "for-ever":
                self.waiting.set()
                await trio.sleep_forever()
            known = self.known.get(name)
            error = None if known else ErrorInfo("NoSuchContainer", f"cannot find '{name}'", name, "look")
            found.append(Result(name, known or "", error, exit_code=7 if known else None))
        return ResultsReply(found)

    async def run(self, request: Any, call: Call) -> RunReply:
        self.requests.append(request)
        spec = request.spec
        if spec.command == ["nowhere"]:
            raise CommandNotFound("cannot find the command 'nowhere'", subject="web")
        for descriptor in call.take_descriptors():
            os.write(descriptor, b"given")
            os.close(descriptor)
        await call.send(RunReply("created", ID, spec.name, ["beware"]))
        if request.detach:
            return RunReply("started", ID, spec.name)
        if not request.attach:
            await call.send(RunReply("started", ID, spec.name))
            return RunReply("exited", ID, exit_code=await play(spec.command, None))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                await call.send(RunReply("started", ID, spec.name), [theirs.fileno()])
            code = await play(spec.command, trio.socket.from_stdlib_socket(ours))
        return RunReply("exited", ID, exit_code=code)

    async def attach(self, request: Any, call: Call) -> AttachReply:
        if request.name not in self.known:
            raise NoSuchContainer(f"cannot find '{request.name}'", subject=request.name)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                await call.send(AttachReply("attached", ID), [theirs.fileno()])
            code = await play(["echo", "attached"], trio.socket.from_stdlib_socket(ours))
        return AttachReply("exited", ID, exit_code=code)

    async def exec(self, request: Any, call: Call) -> ExecReply:
        if request.detach:
            return ExecReply("started", "e1", ID)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                await call.send(ExecReply("started", "e1", ID), [theirs.fileno()])
            code = await play(request.command, trio.socket.from_stdlib_socket(ours))
        return ExecReply("exited", "e1", ID, exit_code=code)

    async def logs(self, request: Any, call: Call) -> LogsReply:
        sent = 0
        while True:
            changed = self._changed
            while sent < len(self.log_files):
                descriptor = os.open(self.log_files[sent], os.O_RDONLY | os.O_CLOEXEC)
                try:
                    await call.send(LogsReply("file", ID, "web", "k8s-file"), [descriptor])
                finally:
                    os.close(descriptor)
                sent += 1
            if not request.follow:
                return LogsReply("backlog-end")
            await call.send(LogsReply("backlog-end"))
            if self.log_ended and sent == len(self.log_files):
                return LogsReply("ended", ID)
            await changed.wait()

    def rotate(self, path: str) -> None:
        def rotate() -> None:
            self.log_files.append(path)
            self._wake()

        self.call_soon(rotate)

    def end_log(self) -> None:
        def end() -> None:
            self.log_ended = True
            self._wake()

        self.call_soon(end)

    # The journal

    def emit(
        self,
        count: int = 1,
        *,
        status: str = "start",
        attributes: dict[str, str] | None = None,
        time: int | None = None,
    ) -> None:
        """Append events; safe from any thread, also while the supervisor is away."""
        for _ in range(count):
            seq = len(self.journal_events) + 1
            self.journal_events.append(
                Event(
                    id=ID,
                    image="",
                    name="web",
                    status=status,
                    time="2024-01-01T00:00:00Z",
                    time_nano=seq * 1000 if time is None else time,
                    type="container",
                    attributes=attributes or {},
                    seq=seq,
                )
            )
        if self._thread is not None:
            self.call_soon(self._wake)

    async def subscribe(self, request: Any, call: Call) -> SubscribeReply:
        self.requests.append(request)
        last = len(self.journal_events)
        snapshot = Snapshot([], last) if request.snapshot else None
        await call.send(SubscribeReply(self.journal, last, snapshot))
        position = last
        if request.since is not None or not request.stream:
            position = sum(event.time_nano < (request.since or 0) for event in self.journal_events)
        if request.since_seq is not None:
            position = request.since_seq
            if request.journal != self.journal:
                await call.send(SubscribeReply(gap=Gap(position + 1, position + 1, "journal")))
                position = 0
        if position + 1 < self.retained_from:
            await call.send(SubscribeReply(gap=Gap(position + 1, self.retained_from - 1, "retention")))
            position = self.retained_from - 1
        while True:
            changed = self._changed
            while position < len(self.journal_events):
                event = self.journal_events[position]
                position += 1
                if event.status in request.filters.get("event", [event.status]):
                    await call.send(SubscribeReply(event=event))
            if not request.stream:
                return SubscribeReply()
            await changed.wait()

    async def prune(self, request: Any, _call: Call) -> PruneEventsReply:
        return PruneEventsReply(len(self.journal_events) - request.keep)


async def play(command: list[str], stream: trio.socket.SocketType | None) -> int:
    """A container's command, with its end of the attach socket."""
    name, *arguments = command
    match name:
        case "echo":
            if stream is not None:
                await stream.send(b"\x02" + " ".join(arguments).encode() + b"\n")
        case "both":
            assert stream is not None
            await stream.send(b"\x02to stdout")
            await stream.send(b"\x03to stderr")
        case "cat":
            assert stream is not None
            while data := await stream.recv(1 << 15):
                await stream.send(b"\x02" + data)
        case "fill":
            assert stream is not None
            for _ in range(int(arguments[0])):
                await stream.send(b"\x02" + b"x" * 8192)
        case "sleep":
            await trio.sleep_forever()
        case "exit":
            return int(arguments[0])
        case _:
            raise AssertionError(command)
    return 3
