"""What the kernel refuses, as an error of the engine's."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["told"]

_WITHOUT = "without the right to set up networks (CAP_NET_ADMIN) a container can have --network none or host"


@contextmanager
def told(doing: str) -> Iterator[None]:
    """`doing`: what cannot be done then. OSErrors become NetworkFailed, with the kernel's words."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        hint = _WITHOUT if error.errno == errno.EPERM else ""
        raise NetworkFailed(f"cannot {doing}: {said[:1].lower()}{said[1:]}", hint=hint) from error
