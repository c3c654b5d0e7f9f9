"""The pause process is in a scope of its own: nothing that ends takes the user's namespaces along."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from supervisor.rootless.entering import NO_HANDLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.machine import Machine

ENV = {NO_HANDLES: "1"}


@pytest.fixture
def paused(user: Machine) -> Iterator[Machine]:
    yield user
    user.user("pyman", "system", "reset", "-f", env=ENV)
    assert not scopes(user)


def pause(machine: Machine) -> int:
    return int(machine.root("cat", f"{machine.runtime_dir}/pyman/pause.pid").stdout.split()[0])


def scopes(machine: Machine) -> list[str]:
    listed = machine.manager("list-units", "--no-legend", "--plain", "pyman-pause-*")
    return [line.split()[0] for line in listed.splitlines()]


def namespace(machine: Machine) -> str:
    return machine.out("pyman", "unshare", "readlink", "/proc/self/ns/user", env=ENV)


def test_it_outlives_the_session_that_it_comes_from(paused: Machine) -> None:
    before = namespace(paused)
    pid = pause(paused)
    [scope] = scopes(paused)
    assert paused.cgroup_of(pid).endswith(f"/user@{paused.owner.uid}.service/user.slice/{scope}")
    assert namespace(paused) == before
    assert pause(paused) == pid


def test_it_outlives_the_service_that_it_comes_from(paused: Machine) -> None:
    paused.user("pyman", "system", "service", "install")
    paused.user("sh", "-c", "mkdir -p ~/.config/systemd/user/pyman.service.d")
    text = f"[Service]\\nEnvironment={NO_HANDLES}=1\\nKillMode=control-group\\n"
    paused.user("sh", "-c", f"printf '{text}' >~/.config/systemd/user/pyman.service.d/no.conf")
    paused.manager("daemon-reload")
    paused.manager("start", "pyman.service")
    pid, before = pause(paused), namespace(paused)
    paused.manager("stop", "pyman.socket", "pyman.service")
    assert paused.cgroup_of(pid)
    assert namespace(paused) == before
    paused.user("pyman", "system", "service", "uninstall")
    paused.user("rm", "-r", f"{paused.home}/.config/systemd")


def test_a_killed_one_is_replaced_whoever_has_started_it(paused: Machine) -> None:
    before = namespace(paused)
    first = pause(paused)
    paused.user("pyman", "ps", env=ENV)  # its keeper is not the parent
    paused.root("kill", "-9", str(first))
    deadline = time.monotonic() + 20
    while (second := pause(paused)) == first or not scopes(paused):
        assert time.monotonic() < deadline, "nobody has brought it back"
    assert namespace(paused) == before
    assert paused.cgroup_of(second).rsplit("/", 1)[1] in scopes(paused)
