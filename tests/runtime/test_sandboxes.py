"""The end of a sandbox as the engine sees it: what works there first, then the namespace."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyman.errors import DeadlineExceeded
from supervisor.runtime.networks.sandboxes.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from supervisor.runtime.services import Services


class Order:
    """What is ended, one after the other, and whether the namespace was there yet."""

    def __init__(self, place: Path, fails: str) -> None:
        self.place = str(place)
        self.netns = os.open(place, os.O_PATH)
        self.fails = fails
        self.ended: list[tuple[str, bool]] = []

    def is_open(self) -> bool:
        try:
            return os.readlink(f"/proc/self/fd/{self.netns}") == self.place
        except FileNotFoundError:
            return False

    def what(self, name: str) -> Callable[..., Awaitable[None]]:
        async def end(key: str = "") -> None:
            self.ended.append((key or name, self.is_open()))
            if (key or name) == self.fails:
                raise DeadlineExceeded(f"cannot end '{self.fails}': the kernel holds it")

        return end


@pytest.mark.parametrize("fails", ["", "names"])
async def test_nothing_is_begun_in_it_any_more_once_its_descriptor_is_closed(
    tmp_path: Path, fails: str
) -> None:
    order = Order(tmp_path, fails)
    services = SimpleNamespace(
        layout=SimpleNamespace(sandbox=str(tmp_path / "sandbox")),
        settings=SimpleNamespace(network=SimpleNamespace(default_rootless_network_cmd="pasta")),
        spawn=None,
        bridges=SimpleNamespace(tidy_all=order.what("bridges")),
        helpers=SimpleNamespace(end=order.what("helper")),
        naming=SimpleNamespace(end_unused=order.what("names")),
    )
    sandbox: Any = Sandbox(cast("Services", services))
    sandbox._netns = order.netns
    if fails:
        with pytest.raises(DeadlineExceeded):
            await sandbox.end_unused()
    else:
        await sandbox.end_unused()
    assert order.ended == [
        ("bridges", True),
        ("names", True),
        ("sandbox-forwarder", True),
        ("sandbox-network", True),
    ]
    assert not order.is_open()
