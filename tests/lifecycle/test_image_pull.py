"""`run` and `create` bring an image here that is not here yet."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER

if TYPE_CHECKING:
    from tests.support.engine import Engine
    from tests.support.registry import RealRegistry

pytestmark = pytest.mark.oci_runtime(*BY_USER)


def test_a_run_pulls_what_is_missing_and_says_so(engine: Engine, away: str) -> None:
    done = engine.cli("run", "--rm", "--tls-verify=false", away)
    assert done.stdout == "pulled\n"
    assert f"Trying to pull {away}..." in done.stderr
    assert "Copying blob" in done.stderr
    again = engine.cli("run", "--rm", "--tls-verify=false", away)
    assert (again.stdout, again.stderr) == ("pulled\n", "")
    told = [(event["Type"], event["Status"]) for event in engine.events() if event["Type"] != "system"]
    assert told[:2] == [("image", "pull"), ("container", "create")]
    assert told.count(("image", "pull")) == 1


def test_policies_decide_whether_a_registry_is_asked(engine: Engine, away: str) -> None:
    done = engine.cli("run", "--rm", "--pull", "never", away, check=False)
    assert done.returncode == 125
    assert "cannot find the image" in done.stderr
    assert engine.out("create", "--quiet", "--tls-verify=false", away)
    done = engine.cli("create", "--pull", "always", "--tls-verify=false", away)
    assert "Trying to pull" in done.stderr
    done = engine.cli("run", "--pull", "sometimes", away, check=False)
    assert "it must be always, missing, newer or never" in done.stderr


def test_what_no_registry_has_leaves_no_container(engine: Engine, registry: RealRegistry) -> None:
    name = f"{registry.host}/away/nothing"
    done = engine.cli("run", "--name", "none", "--tls-verify=false", name, check=False)
    assert done.returncode == 125
    assert done.stderr.splitlines()[-1].startswith("Error: cannot ")
    assert engine.out("ps", "--all", "--quiet") == ""


def test_a_detached_run_shows_its_id_alone_on_standard_output(engine: Engine, away: str) -> None:
    done = engine.cli("run", "-d", "--tls-verify=false", away, "sleep", "1000")
    assert len(done.stdout.strip()) == 64
    assert "Trying to pull" in done.stderr


def test_whoever_interrupts_a_pull_gives_the_container_up(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"127.0.0.1:{silent.getsockname()[1]}/away/slow:latest"
        with engine.spawn("run", "--rm", "--tls-verify=false", name) as command:
            assert command.stderr is not None
            assert b"Trying to pull" in command.stderr.readline()
            command.send_signal(signal.SIGINT)
            assert command.wait(10) == -signal.SIGINT
    assert engine.out("ps", "--all", "--quiet") == ""
