"""A supervisor that says what it is told to say: Varlink on a socket, a reply per method, calls recorded."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

import msgspec

from pyman.api import INTERFACES
from pyman.errors import PymanError, to_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = dict[str, Any] | PymanError | Callable[[dict[str, Any]], dict[str, Any] | PymanError]

__all__ = ["IMAGE", "FakeSupervisor", "check_calls", "container", "image", "results"]

IDENTITY = "6c866e40057413594371e409637d9bf6f8f6ca624d9caddd0079991011ed6a43"

IMAGE = "9167761d6a6eab72c0b89dd8e38995ec229dae3e18dae87cdbb3a5743956c6b1"


class FakeSupervisor:
    """`answers` by short method name (`Container.List`); `calls` are the (method, parameters) that came."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {"System.Match": {}}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._connections:
            connection.close()
        for thread in self._threads[1:]:
            thread.join()

    def asked(self, method: str) -> dict[str, Any]:
        """The parameters of the one call of the method."""
        (found,) = [parameters for name, parameters in self.calls if name == method]
        return found

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                connection.close()
                return
            buffer += data
            while b"\0" in buffer:
                message, _, buffer = buffer.partition(b"\0")
                reply = json.dumps(self._reply(json.loads(message))).encode()
                with contextlib.suppress(OSError):  # a client that was killed meanwhile
                    connection.sendall(reply + b"\0")

    def _reply(self, message: dict[str, Any]) -> dict[str, Any]:
        method = message["method"].removeprefix("io.pyman.")
        parameters = message.get("parameters") or {}
        self.calls.append((method, parameters))
        answer = self.answers.get(method)
        if answer is None:
            return {"error": "org.varlink.service.MethodNotFound", "parameters": {"method": method}}
        if callable(answer) and not isinstance(answer, PymanError):
            answer = answer(parameters)
        if isinstance(answer, PymanError):
            name, told = to_wire(answer)
            return {"error": name, "parameters": told}
        return {"parameters": answer}


def check_calls(calls: list[tuple[str, dict[str, Any]]]) -> None:
    """What was asked is what the contract has a place for."""
    rows = {f"{interface.name}.{row.name}": row for interface in INTERFACES for row in interface.methods}
    for name, parameters in calls:
        row = rows.get(f"io.pyman.{name}")
        if row is not None:
            assert set(parameters) <= set(row.request.__struct_encode_fields__), name
            msgspec.convert(parameters, row.request)


def results(*rows: tuple[str, str] | tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    """A ResultsReply of (name, id) or (name, id, further fields)."""
    return {"results": [{"name": row[0], "id": row[1], **(row[2] if len(row) > 2 else {})} for row in rows]}


def container(**changes: Any) -> dict[str, Any]:
    """A ListContainer as the supervisor sends it, running for 90 seconds at the moment 1000000000."""
    return {
        "Id": IDENTITY,
        "Names": ["web"],
        "Image": "",
        "ImageID": "",
        "Command": ["sh", "-c", "echo hello world; exit 3"],
        "Created": 999_999_900,
        "CreatedAt": "2001-09-09T01:45:00.000000000Z",
        "StartedAt": 999_999_910,
        "Exited": False,
        "ExitedAt": -62135596800,
        "ExitCode": 0,
        "State": "running",
        "Status": "",
        "Pid": 4321,
        "Restarts": 0,
        "AutoRemove": False,
        "Labels": {"x": "y", "a": "b"},
        "Mounts": [],
        "Namespaces": {"mnt": "4026532177"},
        "Networks": [],
        "Ports": [],
        "ExposedPorts": [],
        "Pod": "",
        "PodName": "",
        "IsInfra": False,
        "Size": None,
        **changes,
    }


def image(**changes: Any) -> dict[str, Any]:
    """An ImageSummary as the supervisor sends it, made 100 seconds before the moment 1000000000."""
    return {
        "id": IMAGE,
        "names": ["registry.example/a/one:1", "localhost/two:latest"],
        "repo_digests": [f"registry.example/a/one@sha256:{64 * 'd'}"],
        "digest": f"sha256:{64 * 'd'}",
        "parent_id": "",
        "created": 999_999_900,
        "size": 1_986_633,
        "shared_size": 0,
        "labels": {"who": "me"},
        "containers": 1,
        "dangling": False,
        "read_only": False,
        "is_manifest_list": False,
        "arch": "amd64",
        "os": "linux",
        "history": ["localhost/two:latest", "registry.example/a/one:1"],
        **changes,
    }
