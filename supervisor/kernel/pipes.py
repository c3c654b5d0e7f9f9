"""Pipes and FIFOs: reading without taking, and messages of which only the last one counts."""

from __future__ import annotations

import ctypes
import errno
import os

__all__ = ["make_fifo", "peek", "replace_message"]

_SPLICE_F_NONBLOCK = 2
_CAPACITY = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


def make_fifo(path: str, mode: int = 0o600) -> None:
    """A new, empty FIFO; what was at the path is replaced, and whoever had it open keeps the old one."""
    try:
        os.mkfifo(path, mode)
    except FileExistsError:
        os.unlink(path)
        os.mkfifo(path, mode)


def peek(fd: int) -> bytes:
    """What a pipe holds now, left in it for others."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        copied = _libc.tee(fd, writer, ctypes.c_size_t(_CAPACITY), _SPLICE_F_NONBLOCK)
        if copied < 0:
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return b""
            raise OSError(number, os.strerror(number))
        return os.read(reader, copied) if copied else b""
    finally:
        os.close(reader)
        os.close(writer)


def replace_message(path: str, message: bytes) -> bool:
    """Write a message to a FIFO in place of what its reader has not taken yet; never waits.

    For readers that understand one message a read, of which the last one counts. False: nobody has the FIFO
    open for reading. OSError: there is no such FIFO.
    """
    try:
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    try:
        _drain(path)
        os.write(writer, message)
    finally:
        os.close(writer)
    return True


def _drain(path: str) -> None:
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.read(reader, _CAPACITY)
    except BlockingIOError:
        return  # it is empty
    finally:
        os.close(reader)
