"""Events in the journal of a real journald."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.machine import Machine

_CONFIGURATION = '[engine]\nevents_logger = "journald"\n'


@pytest.fixture
def journaling(user: Machine) -> Iterator[Machine]:
    """journald runs, and the user's engine tells it."""
    directory = f"{user.home}/.config/containers"
    user.root("systemctl", "start", "systemd-journald.service")
    user.user("sh", "-c", f"mkdir -p {directory}; printf '{_CONFIGURATION}' >{directory}/containers.conf")
    yield user
    user.user("pyman", "system", "reset", "--force")
    user.user("rm", f"{directory}/containers.conf")


def entries(machine: Machine) -> list[dict[str, Any]]:
    machine.root("journalctl", "--sync")
    told = machine.root("journalctl", "--output=json", "--no-pager", "SYSLOG_IDENTIFIER=podman").stdout
    return [json.loads(line) for line in told.splitlines()]


def test_a_container_s_life_is_there_for_journalctl_and_for_podman(journaling: Machine) -> None:
    words = ("--label", "app=one", "--name", "told", "--rootfs", f"{journaling.rootfs}:O")
    journaling.user("pyman", "run", "--rm", *words, "sh", "-c", "exit 3", check=False)
    seen = {entry["PODMAN_EVENT"]: entry for entry in entries(journaling)}
    assert {"create", "init", "start", "died", "remove"} <= seen.keys()
    died = seen["died"]
    assert (died["PODMAN_NAME"], died["PODMAN_EXIT_CODE"]) == ("told", "3")
    assert json.loads(died["PODMAN_LABELS"])["app"] == "one"
    assert died["_UID"] == str(journaling.owner.uid)
    numbers = [int(entry["PYMAN_SEQ"]) for entry in entries(journaling)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    reading = (
        "--events-backend=journald",
        "events",
        "--stream=false",
        "--format={{.Type}} {{.Status}} {{.Name}}",
    )
    told = journaling.root("podman", *reading).stdout.splitlines()
    assert "container died told" in told
