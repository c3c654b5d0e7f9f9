"""What every archive program does besides its work: read its job, report, and end.

The job comes from the daemon on the standard input, in Python's own notation (`marshal`), and the answer leaves as JSON
lines on the standard output: `progress` now and then, and last either `done` or `error`. The programs import little,
since a layer waits for them to start: no `json`, for instance, which is a third of what they need otherwise.
"""

from __future__ import annotations

import ctypes
import marshal
import os
from _json import encode_basestring_ascii

from pyman.errors import ArchiveRefused, DiskFull, PymanError, StorageFailed
from supervisor.archive.failures import FULL, KINDS, Broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["end_with", "main", "report"]

_PR_SET_PDEATHSIG, _SIGKILL, _SIGTERM = 1, 9, 15
_NICE = 5
"""A container that starts goes first: its user waits for milliseconds, that of a layer for seconds."""


def main(work: Callable[[dict[str, Any]], dict[str, Any]], doing: str, *, gently: bool = False) -> int:
    """`doing`: what a sentence says of the work ("unpack the layer"). `gently`: it ends by SIGTERM when the daemon does,
    and has something to take back then. The exit status."""
    job = marshal.loads(_everything(0))  # noqa: S302 - from the daemon alone
    end_with(job["parent"], _SIGTERM if gently else _SIGKILL)
    os.nice(_NICE)
    os.set_blocking(1, False)
    try:
        answer = {"done": work(job)}
    except PymanError as error:
        answer = _failure(error)
    except Broken as error:
        answer = _failure(ArchiveRefused(f"cannot {doing}: {error}"))
    except OSError as error:
        kind = DiskFull if error.errno in FULL else StorageFailed
        answer = _failure(kind(f"cannot {doing}: {error.strerror}"))
    except MemoryError:
        answer = _failure(ArchiveRefused(f"cannot {doing}: it needs more memory than it may have"))
    os.set_blocking(1, True)
    _write(_json(answer).encode() + b"\n")
    return 0 if "done" in answer else 1


def end_with(parent: int, number: int = _SIGKILL) -> None:
    """Get that signal when that process, which is the parent, ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it has ended before


def report(size: int) -> None:
    """Bytes so far. Who does not read them misses some."""
    try:
        os.write(1, b'{"progress":%d}\n' % size)
    except BlockingIOError:
        return


def _failure(error: PymanError) -> dict[str, Any]:
    code = error.code if error.code in KINDS else StorageFailed.__name__
    return {"error": {"code": code, "message": error.message, "hint": error.hint, "subject": error.subject}}


def _everything(fd: int) -> bytes:
    parts = []
    while piece := os.read(fd, 1 << 16):
        parts.append(piece)
    return b"".join(parts)


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def _json(value: Any) -> str:
    """Of what answers consist of."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(key)}:{_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_json, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(int(value))
