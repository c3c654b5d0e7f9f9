"""Where an archive comes from: a file, standard input, or an address that it is downloaded from first.

The supervisor is given a descriptor of it; what is downloaded goes into a file without a name.
"""

from __future__ import annotations

import os

from pyman.errors import InvalidArgument, RegistryFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from pyman.cli.context import Context

__all__ = ["download", "is_address", "open_archive"]

PATIENCE = 60.0
"""Seconds that a server may be silent."""
_PIECE = 1 << 20


def is_address(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def open_archive(path: str) -> int:
    """A descriptor of the file; the caller closes it. Raises InvalidArgument."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise InvalidArgument(
            f"cannot read '{path}': {problem.strerror or problem}", subject=path
        ) from problem


def download(ctx: Context, address: str, *, quiet: bool) -> IO[bytes]:
    """The content of the address, in an unnamed file that is read from the beginning. Raises RegistryFailed."""
    import http.client
    import tempfile
    import urllib.request

    if not quiet:
        ctx.err(f'Downloading from "{address}"')
    file = tempfile.TemporaryFile(dir=os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108, SIM115 - it has no name, and the caller closes it
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:  # noqa: S310 - http and https only
            expected = answer.headers.get("Content-Length", "")
            while piece := answer.read(_PIECE):
                file.write(piece)
        if expected.isdecimal() and file.tell() != int(expected):
            raise RegistryFailed(f"cannot download '{address}': it ended early", subject=address)
        file.flush()
        file.seek(0)
    except (OSError, ValueError, http.client.HTTPException) as problem:
        file.close()
        raise RegistryFailed(f"cannot download '{address}': {_reason(problem)}", subject=address) from problem
    except BaseException:
        file.close()
        raise
    return file


def _reason(problem: Exception) -> str:
    """In few words: urllib wraps what the system says."""
    inner = getattr(problem, "reason", "")
    if isinstance(inner, OSError):
        return inner.strerror or str(inner)
    return str(problem)
