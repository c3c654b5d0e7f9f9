"""The forwarder from the supervisor's side: how it is started, and told what to lead where.

A message is a JSON object, and one comes back. `key`: whose ports they are.

    {"do": "lead", "key": …, "targets": [[["10.89.0.5", "fd00::5"], 80], …], "mark": …}
        with a bound socket for each target: addresses, a client's family first, and a port. `mark` is the checksum of all
        targets of that key
    {"do": "drop", "key": …}
        no connection is taken, and those that there are end
    {"do": "tell", "key": …} → {"led": [number of ports, the last mark]}, both 0 where there are none
    → {} or {"error": …}

Everything blocks, not longer than `_PATIENCE`, and raises NetworkFailed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pyman.errors import NetworkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Target = tuple[Sequence[str], int]
    """A container's addresses, one of each family at most, and a port of its."""

__all__ = ["Summary", "command", "drop", "lead", "listen", "summary", "summary_of"]

_PROGRAM = (sys.executable, "-I", "-X", "utf8", "-m", "supervisor.network.relay.forwarder")
_AT_ONCE = 200
"""Sockets in a message; the kernel passes 253."""
_ANSWER = 1 << 12
_PATIENCE = 5.0
"""Seconds for one answer."""


class Summary(NamedTuple):
    """What the forwarder leads for a key; two are equal where the targets are."""

    targets: int
    """How many."""
    checksum: int
    """0: there are none."""


def command(path: str, control: int, *, transparent: bool, lifeline: int | None = None) -> list[str]:
    """What starts it, in the sandbox; it needs the descriptor of the socket at the path under this number. `transparent`:
    containers see their clients' own addresses. `lifeline`: one of a pipe whose other end somebody has for as long as it is
    of use."""
    options = ["transparent"] if transparent else []
    if lifeline is not None:
        options.append(f"until={lifeline}")
    return [*_PROGRAM, path, str(control), *options]


def listen(path: str) -> socket.socket:
    """The socket on which one is told. It is there before the program is, so that whoever calls meanwhile waits. An
    earlier one's is replaced."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(path) as address:
            if os.path.lexists(path):
                os.unlink(path)
            control.bind(address)
        control.listen()
    except BaseException:
        control.close()
        raise
    return control


def lead(path: str, key: str, ports: Sequence[socket.socket], targets: Sequence[Target]) -> None:
    """From each of these bound sockets to a container. After an error none is led."""
    mark = summary_of(targets).checksum
    try:
        with _connected(path) as caller:
            for first in range(0, len(ports), _AT_ONCE):
                part = slice(first, first + _AT_ONCE)
                _ask(caller, {"do": "lead", "key": key, "targets": targets[part], "mark": mark}, ports[part])
    except NetworkFailed:
        if len(ports) > _AT_ONCE:
            drop(path, key)
        raise


def drop(path: str, key: str) -> None:
    """It need not lead any."""
    with _connected(path) as caller:
        _ask(caller, {"do": "drop", "key": key})


def summary(path: str, key: str) -> Summary:
    """Of what it leads for one, as it says."""
    with _connected(path) as caller:
        return Summary(*_ask(caller, {"do": "tell", "key": key})["led"])


def summary_of(targets: Sequence[Target]) -> Summary:
    """Of one for whom it leads ports to these."""
    return Summary(len(targets), zlib.crc32(json.dumps(targets).encode()))


@contextmanager
def _short(path: str) -> Iterator[str]:
    """The path as the address of a socket, which has to be short."""
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


@contextmanager
def _connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(_PATIENCE)
        try:
            with _short(path) as address:
                caller.connect(address)
            yield caller
        except OSError as error:
            raise NetworkFailed(
                f"cannot lead ports into a container: the forwarder does not answer: {error.strerror or error}",
                subject=path,
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise NetworkFailed(
                "cannot lead ports into a container: the forwarder's answer is not to be understood",
                subject=path,
            ) from error


def _ask(
    caller: socket.socket, message: dict[str, Any], ports: Sequence[socket.socket] = ()
) -> dict[str, Any]:
    socket.send_fds(caller, [json.dumps(message).encode()], [each.fileno() for each in ports])
    answer = caller.recv(_ANSWER)
    if not answer:
        raise ConnectionResetError("it has ended")
    said: dict[str, Any] = json.loads(answer)
    if "error" in said:
        raise NetworkFailed(
            f"cannot lead ports into a container: {said['error']}", subject=message.get("key", "")
        )
    return said
