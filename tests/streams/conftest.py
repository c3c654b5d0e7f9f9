"""`play`: the real command line as a process of its own, talking to a supervisor that plays a script."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyman.wire import socket_path
from tests.support.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.support.scripted import Talk

__all__ = ["CONTAINER", "Play"]

CONTAINER = "6c866e40057413594371e409637d9bf6f8f6ca624d9caddd0079991011ed6a43"


class Play:
    """A scripted supervisor, the container's end of the attach socket, and clients."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = socket_path(root, "", os.environ, os.geteuid())
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        self.server = Scripted(self.path)
        self.container, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.container.settimeout(20)
        self.clients: list[subprocess.Popen[bytes]] = []

    def handed_over(self) -> list[int]:
        return [self._theirs.fileno()]

    def begin(self, talk: Talk, *, terminal: bool = False) -> None:
        """The replies of a `Run` (or `Attach`, or `Exec`) up to the start; the client alone holds the socket."""
        method = talk.message["method"]
        if method.endswith(".Run"):
            talk.send({"phase": "created", "id": CONTAINER, "name": "web"}, continues=True)
            started: dict[str, Any] = {"phase": "started", "id": CONTAINER}
        elif method.endswith(".Exec"):
            started = {"phase": "started", "id": CONTAINER, "exec_id": "e" * 64}
        else:
            started = {"phase": "attached", "id": CONTAINER, "terminal": terminal}
        talk.send(started, self.handed_over(), continues=True)
        self._theirs.close()

    def end(self, talk: Talk, code: int) -> None:
        self.container.close()
        talk.send({"phase": "exited", "id": CONTAINER, "exec_id": "e" * 64, "exit_code": code})

    def write(self, data: bytes, stream: int = 2) -> None:
        """As conmon does: a packet of at most 8 KiB and the byte that names the stream."""
        for at in range(0, len(data), 8192):
            self.container.sendall(bytes([stream]) + data[at : at + 8192])

    def read_input(self) -> bytes:
        """Everything the client sends, to its end."""
        found = bytearray()
        while packet := self.container.recv(32768):
            found += packet
        return bytes(found)

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / "pyman"), f"--root={self.root}", *arguments]

    def spawn(
        self,
        *arguments: str,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        client = subprocess.Popen(
            self.command(*arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            pass_fds=descriptors,
            **options,
        )
        self.clients.append(client)
        return client

    def run(
        self,
        *arguments: str,
        input: bytes | None = None,  # noqa: A002 - as in subprocess.run
    ) -> tuple[int, bytes, bytes]:
        """Exit status, standard output, standard error."""
        client = self.spawn(*arguments, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
        out, err = client.communicate(input, timeout=30)
        return client.returncode, out, err

    def close(self) -> None:
        for client in self.clients:
            if client.poll() is None:
                client.kill()
            client.wait()
            for pipe in (client.stdin, client.stdout, client.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self.container.close()
        self._theirs.close()
        self.server.close()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    made = Play(str(tmp_path / "root"))
    try:
        yield made
    finally:
        made.close()
