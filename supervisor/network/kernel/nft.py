"""nftables, by the library that the program nft is made of: text commands, each call one transaction.

A call takes a tenth of a millisecond, a process would take five. Calls block, and act in the network namespace of the
thread that makes them.
"""

from __future__ import annotations

import ctypes
from functools import cache

from pyman.errors import NetworkFailed, NotSupported

__all__ = ["run"]

_LIBRARY = "libnftables.so.1"


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NotSupported(
            "cannot set up a network: this host has no libnftables", hint="install nftables"
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = (ctypes.c_uint32,)
    library.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_get_error_buffer", "nft_ctx_free"):
        getattr(library, name).argtypes = (ctypes.c_void_p,)
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    return library


def run(commands: str) -> None:
    """All of the commands, or none. NetworkFailed: the kernel, or the library, refuses one. NotSupported: there is no
    such library."""
    library = _library()
    context = library.nft_ctx_new(0)
    if not context:
        raise NetworkFailed("cannot set up the packet filter: there is no memory for it")
    try:
        library.nft_ctx_buffer_output(context)  # which else would go to this process's
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, commands.encode()):
            said: bytes = library.nft_ctx_get_error_buffer(context) or b""
            raise NetworkFailed(f"cannot set up the packet filter: {_reason(said.decode(errors='replace'))}")
    finally:
        library.nft_ctx_free(context)


def _reason(said: str) -> str:
    """The first line has it, after the place."""
    line = said.strip().partition("\n")[0]
    return line.partition("Error: ")[2].partition("; ")[0] or line or "it does not say why"
