"""Which ways into the kernel there are besides the native one."""

from __future__ import annotations

import ctypes
import os

__all__ = ["has_x32"]

_X32_BIT = 0x4000_0000
_GETPID = 39


def has_x32() -> bool:
    """Whether a program of the x32 ABI (32-bit pointers on x86-64) can run here; True where that is unknown.

    Most kernels are built without it, or start with it switched off. It is tried; not, however, where a seccomp
    filter might end this process for it.
    """
    if os.uname().machine != "x86_64":
        return False
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        unfiltered = "\nSeccomp:\t0\n" in file.read()
    return not unfiltered or int(ctypes.CDLL(None).syscall(_X32_BIT | _GETPID)) == os.getpid()
