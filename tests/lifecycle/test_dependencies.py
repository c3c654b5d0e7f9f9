"""Containers that depend on one another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

SLEEP = ("sleep", "1000")
"""A first process that ends at SIGTERM only under an init; so a stop has `-t 0`."""


def create(engine: Engine, rootfs: Path, name: str, *options: str, command: tuple[str, ...] = SLEEP) -> None:
    engine.cli("create", "--name", name, *options, "--rootfs", f"{rootfs}:O", *command)


def told(engine: Engine, *statuses: str, since: int = 0) -> list[tuple[str, str]]:
    return [(event["Name"], event["Status"]) for event in engine.events(since, event=list(statuses))]


def last(engine: Engine) -> int:
    events = engine.events()
    return int(events[-1]["Seq"]) if events else 0


def test_what_is_required_is_started_first_and_stopped_last(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    create(engine, rootfs, "db")
    create(engine, rootfs, "app", "--requires", "db")
    create(engine, rootfs, "web", "--requires", "app,db")
    shown = engine.inspect("web")
    assert sorted(shown["Dependencies"]) == sorted(engine.inspect(name)["Id"] for name in ("app", "db"))

    since = last(engine)
    engine.cli("start", "web")
    assert told(engine, "start", since=since) == [("db", "start"), ("app", "start"), ("web", "start")]
    triggers = [event["Attributes"]["trigger"] for event in engine.events(since, event=["start"])]
    assert triggers == ["dependency", "dependency", "user"]

    since = last(engine)
    engine.cli("stop", "-t", "0", "db", "app", "web")
    assert [name for name, _ in told(engine, "died", since=since)] == ["web", "app", "db"]

    since = last(engine)
    engine.cli("start", "--all")
    assert [name for name, _ in told(engine, "start", since=since)] == ["db", "app", "web"]

    engine.cli("stop", "-t", "0", "web", "app", "db")
    since = last(engine)
    engine.cli("restart", "app")
    assert [name for name, _ in told(engine, "start", since=since)] == ["db", "app"]

    refused = engine.call("io.pyman.Container.Start", {"selection": {"names": ["web"]}, "recursive": False})
    assert refused["results"][0].get("error") is None, "both are running"
    engine.cli("stop", "-t", "0", "web", "db")
    refused = engine.call("io.pyman.Container.Start", {"selection": {"names": ["web"]}, "recursive": False})
    assert "container 'db', which it depends on, is not running" in refused["results"][0]["error"]["message"]


def test_run_starts_what_it_requires(shared_engine: Engine, rootfs: Path) -> None:
    create(shared_engine, rootfs, "db")
    assert (
        shared_engine.out("run", "--rm", "--requires", "db", "--rootfs", f"{rootfs}:O", "echo", "hello")
        == "hello"
    )
    assert shared_engine.inspect("db")["State"]["Running"]


def test_what_is_needed_is_not_removed(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    create(engine, rootfs, "db")
    create(engine, rootfs, "app", "--requires", "db")
    create(engine, rootfs, "web", "--after", "app")
    for options in ((), ("--force",)):
        done = engine.cli("rm", *options, "db", check=False)
        assert done.returncode == 2
        assert "container 'app' depends on it" in done.stderr
    engine.cli("rm", "--depend", "db")
    assert engine.out("ps", "-aq") == ""


def test_a_container_waits_for_what_has_to_be_completed(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    create(engine, rootfs, "init", command=("sh", "-c", "sleep 0.3"))
    create(engine, rootfs, "app", "--after", "init:completed")
    assert engine.inspect("app")["After"] == [
        {"Container": engine.inspect("init")["Id"], "Condition": "completed"}
    ]
    since = last(engine)
    engine.cli("start", "app")
    order = told(engine, "start", "died", since=since)
    assert order == [("init", "start"), ("init", "died"), ("app", "start")]

    # What is completed stays so: it is not run again.
    engine.cli("restart", "-t", "0", "app")
    assert told(engine, "start", since=since).count(("init", "start")) == 1


def test_a_condition_that_cannot_come_any_more_is_an_error(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    create(engine, rootfs, "init", command=("sh", "-c", "exit 3"))
    create(engine, rootfs, "app", "--after", "init:completed")
    done = engine.cli("start", "app", check=False)
    assert done.returncode == 125
    assert "container 'init', which it depends on, ended with exit code 3" in done.stderr
    assert engine.inspect("app")["State"]["Status"] == "created"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--requires", "nobody"), "--requires nobody: there is no such"),
        (("--name", "me", "--requires", "me"), "me → me"),
        (("--after", "db:happy"), "--after cannot be 'db:happy'"),
        (("--after", "db:healthy"), "it has no health check"),
        (("--after", "db:completed", "--name", "db", "--replace"), "db → db"),
        (("--requires", "web", "--name", "db", "--replace"), "db → web → app → db"),
    ],
)
@pytest.mark.oci_runtime("runc")
def test_what_cannot_be_depended_on_is_refused(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], complaint: str
) -> None:
    engine = shared_engine
    create(engine, rootfs, "db")
    create(engine, rootfs, "app", "--requires", "db")
    create(engine, rootfs, "web", "--requires", "app")
    done = engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert complaint in done.stderr
    listed: list[Any] = json.loads(engine.out("ps", "-a", "--format", "json"))
    assert len(listed) == 3


def test_a_restart_by_policy_waits_for_what_it_needs(shared_engine: Engine, rootfs: Path) -> None:
    """The dependency is down when the policy's time comes: it is started first."""
    engine = shared_engine
    create(engine, rootfs, "db")
    create(
        engine,
        rootfs,
        "app",
        *("--requires", "db", "--restart", "always", "--restart-delay", "0.1"),
        command=("sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; exit 1"),
    )
    engine.cli("start", "app")
    engine.cli("stop", "-t", "0", "db")
    since = last(engine)
    engine.cli("exec", "app", "touch", "/go")
    events = engine.follow(since, 20, event=["start"])
    assert [next(events)["Name"] for _ in range(2)] == ["db", "app"]
    engine.cli("rm", "-ft", "0", "app")


@pytest.mark.engine_config('[pyman]\non_stop = "stop"\n')
def test_a_supervisor_that_ends_stops_what_is_needed_last(engine: Engine, rootfs: Path) -> None:
    create(engine, rootfs, "db", "--stop-timeout", "0", "--restart", "always")
    create(engine, rootfs, "app", "--requires", "db", "--stop-timeout", "0", "--restart", "always")
    engine.cli("start", "app")
    assert engine.stop() == 0
    engine.start()
    assert [name for name, _ in told(engine, "died")] == ["app", "db"]
    events = engine.follow(0, 20, event=["restart"])
    assert [next(events)["Name"] for _ in range(2)] == ["db", "app"]
