"""Who has a UDP port: for errors that name whoever is in the way."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

__all__ = ["holder_of"]

_IPV4, _IPV6 = "/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"
_LOCAL, _INODE = 1, 9
"""Columns."""
_ANY = ("0" * 8, "0" * 32)


def holder_of(address: str, port: int, *, but: int = 0) -> str:
    """`process 7 (name)`, in the network namespace of the calling thread; empty: nobody, or who is not seen. `but`: the pid
    of one that does not count. Looks through all processes."""
    wanted = {f"{where}:{port:04X}" for where in (_written(address), *_ANY)}
    sockets = {
        f"socket:[{words[_INODE]}]"
        for table in (_IPV4, _IPV6)
        for words in _lines(table)
        if words[_LOCAL] in wanted
    }
    for name in os.listdir("/proc") if sockets else ():
        if name.isdigit() and int(name) != but and _has(name, sockets):
            return f"process {name} ({_name_of(name)})"
    return ""


def _written(address: str) -> str:
    """As the kernel does: words of four bytes, each as a number."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    return "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", packed))


def _lines(table: str) -> list[list[str]]:
    try:
        with open(table, encoding="ascii") as file:
            return [line.split() for line in file][1:]
    except OSError:  # a host without that family
        return []


def _has(pid: str, sockets: set[str]) -> bool:
    directory = f"/proc/{pid}/fd"
    with suppress(OSError):  # it has ended, or is somebody else's
        for name in os.listdir(directory):
            with suppress(OSError):
                if os.readlink(f"{directory}/{name}") in sockets:
                    return True
    return False


def _name_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "it has ended"
