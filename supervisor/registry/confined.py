"""The rights that the registry program gives up before it does anything: all that reading files and a network need not.

What stays for root: to pass over the permissions of files, as an authentication file may be another user's. In a
user namespace the same holds for what is root there. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct

__all__ = ["confine"]

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_KEPT = 1 << _CAP_DAC_OVERRIDE
_FILES = 4096


def confine(parent: int) -> None:
    """Also: die with the parent, leave no core dump, start nothing that gains rights. OSError: it cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(0)
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    os.umask(0o077)
    _drop_capabilities(libc)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(64):
        if not _KEPT >> number & 1:
            libc.prctl(
                _PR_CAPBSET_DROP, number, 0, 0, 0
            )  # it fails past the last one, and without CAP_SETPCAP
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    old = ctypes.create_string_buffer(24)
    if libc.capget(header, old) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = struct.unpack("=6I", old.raw)
    kept = [_KEPT & words[0], _KEPT & words[1], 0, 0, 0, 0]
    if libc.capset(header, struct.pack("=6I", *kept)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
