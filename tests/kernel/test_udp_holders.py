"""Who has a UDP port."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from supervisor.kernel.udp_holders import holder_of


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2"), ("::1", "::1"), ("::", "127.0.0.1")],  # noqa: S104
)
def test_one_is_named_by_its_process(bound: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as holder:
        holder.bind((bound, 0))
        port = holder.getsockname()[1]
        name = Path("/proc/self/comm").read_text().strip()
        assert holder_of(asked, port) == f"process {os.getpid()} ({name})"
        assert holder_of(asked, port, but=os.getpid()) == ""
    assert holder_of(asked, port) == ""


def test_another_address_of_the_port_does_not_count() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        assert holder_of("127.0.0.2", holder.getsockname()[1]) == ""
