"""The daemon killed again and again while containers with volumes come and go: nothing is left, each event told once."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.engine import Engine

KILLS = 6
STEP = 0.025
"""Seconds by which each kill comes later than the one before it."""


@pytest.mark.oci_runtime("runc")
def test_a_daemon_that_is_killed_leaves_no_volume_and_doubles_no_event(engine: Engine, rootfs: Path) -> None:
    engine.cli("volume", "create", "--opt", "type=tmpfs", "held")
    line = ["--volume", "/anonymous", "--volume", "held:/held", "--rootfs", f"{rootfs}:O", "true"]
    for number in range(KILLS):
        with engine.spawn("run", "--rm", "--name", f"box{number}", *line) as client:
            time.sleep(STEP * number)
            engine.kill()
            client.communicate(timeout=30)
    until(lambda: not settled(engine), "every container has come to its end")
    root = Path(str(engine.root)) / "volumes"
    until(lambda: named(root) == ["held"] and own_of(root) == [], "what was removed is deleted")
    assert engine.call("io.pyman.System.Check", {}).get("problems", []) == []
    (held,) = engine.call("io.pyman.Volume.List", {})["volumes"]
    assert held["MountCount"] == 0
    assert not any(f"{root}/" in text for text in Path("/proc/self/mountinfo").read_text().splitlines())
    events = engine.events(type=["volume"])
    told = Counter((event["Name"], event["Status"]) for event in events if event["Name"] != "held")
    names = {name for name, _ in told}
    assert told == {(name, status): 1 for name in names for status in ("create", "remove")}
    holders: dict[str, list[str]] = {}
    for event in events:
        if event["Name"] == "held" and event["Status"] != "create":
            holders.setdefault(event["Attributes"]["container"], []).append(event["Status"])
    assert holders
    # One whose start was interrupted is begun anew.
    for statuses in holders.values():
        assert statuses == ["mount", "unmount"] * (len(statuses) // 2)


def settled(engine: Engine) -> list[str]:
    """The containers that are still there. What was created and never started is removed: its client is gone."""
    found = engine.call("io.pyman.Container.List", {"all": True})["containers"]
    for one in found:
        if one["State"] == "created":
            engine.cli("rm", "--volumes", "--force", one["Id"], check=False)
    names = [one["Names"][0] for one in found]
    return names + [
        one["Name"] for one in engine.call("io.pyman.Volume.List", {})["volumes"] if one["Anonymous"]
    ]


def named(root: Path) -> list[str]:
    return sorted(name for name in os.listdir(root) if not name.startswith("."))


def own_of(root: Path) -> list[str]:
    return [entry for own in root.glob(".pyman-*") for entry in os.listdir(own)]
