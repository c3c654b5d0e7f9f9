"""The daemon killed again and again while networks come and go."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")

KILLS = 6
STEP = 0.02
"""Seconds by which each kill comes later than the one before it."""


def test_a_daemon_that_is_killed_tells_of_each_network_once(engine: Engine) -> None:
    words = " ".join(map(str, engine.command("network")))
    line = f"for i in 1 2; do {words} create word; {words} rm word; done"
    for number in range(KILLS):
        with subprocess.Popen(
            ["sh", "-c", line], env=engine.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client:
            time.sleep(0.05 + STEP * number)
            engine.kill()
            client.wait(timeout=30)
    # What one that was killed had begun, the next may have to find out.
    until(lambda: is_told(engine), "it is not told once")
    there = networks(engine)
    kept = {name.removesuffix(".json") for name in os.listdir(engine.path / "networks")}
    assert kept - {"netavark.lock"} == set(there) - {"podman"}
    for name in set(there) - {"podman"}:
        engine.cli("network", "rm", name)


def networks(engine: Engine) -> dict[str, str]:
    return {one["name"]: one["id"] for one in json.loads(engine.out("network", "ls", "--format=json"))}


def is_told(engine: Engine) -> bool:
    """Of each network that it was made, and of those that are not there that they were removed."""
    there = networks(engine).values()
    told: dict[str, Counter[str]] = {}
    for event in engine.events(type=["network"]):
        told.setdefault(event["ID"], Counter())[event["Status"]] += 1
    return bool(told) and all(
        statuses == ({"create": 1} if id in there else {"create": 1, "remove": 1})
        for id, statuses in told.items()
    )
