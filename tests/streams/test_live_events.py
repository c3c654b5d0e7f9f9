"""events of a real supervisor, in every form, across its death."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.support.engine import Engine

NET = ("--network", "none")
pytestmark = pytest.mark.oci_runtime("crun")  # events are told alike of each


@pytest.fixture
def root(rootfs: Path) -> tuple[str, str]:
    return ("--rootfs", f"{rootfs}:O")


def told(engine: Engine, *options: str) -> list[dict[str, Any]]:
    lines = engine.out("events", "--stream=false", "--format", "json", *options).splitlines()
    return [json.loads(line) for line in lines]


def test_events_have_podman_s_lines(engine: Engine, root: tuple[str, str]) -> None:
    engine.cli("run", "--rm", "--name", "web", *NET, *root, "sh", "-c", "exit 3", check=False)
    lines = engine.out("events", "--stream=false", "--filter", "container=web").splitlines()
    begin = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})? [+-]\d{4} \w+ container"
    for status in ("create", "init", "start", "died", "remove"):
        (line,) = [line for line in lines if f" container {status} " in line]
        assert re.match(rf"{begin} {status} [0-9a-f]{{64}} \(image=, name=web", line), line
    short = engine.out("events", "--stream=false", "--no-trunc=false", "-f", "event=died")
    assert re.match(rf"{begin} died [0-9a-f]{{12}} \(image=, name=web, containerExitCode=3\)$", short)


def test_json_has_podman_s_keys_and_templates_its_fields(engine: Engine, root: tuple[str, str]) -> None:
    engine.cli("run", "--rm", "--name", "web", "-l", "a=b", *NET, *root, "sh", "-c", "exit 3", check=False)
    (died,) = told(engine, "-f", "event=died")
    assert {"ID", "Image", "Name", "Status", "Time", "Type", "Attributes", "Seq"} <= died.keys()
    assert (died["Status"], died["Type"], died["Name"], died["ContainerExitCode"]) == (
        "died",
        "container",
        "web",
        3,
    )
    text = engine.out(
        "events", "--stream=false", "-f", "event=died", "--format", "{{.Name}} {{.Status}} {{.Type}}"
    )
    assert text == "web died container"
    assert (
        json.loads(engine.out("events", "--stream=false", "-f", "event=died", "--format", "{{json .}}"))
        == died
    )


def test_filters_and_times_choose_events(engine: Engine, root: tuple[str, str]) -> None:
    for name in ("one", "two"):
        engine.cli("run", "--rm", "--name", name, "-l", f"l={name}", *NET, *root, "true")
    assert {event["Name"] for event in told(engine, "-f", "label=l=one")} == {"one"}
    both = told(engine, "-f", "event=start", "-f", "event=died", "-f", "container=two")
    assert [(event["Name"], event["Status"]) for event in both] == [("two", "start"), ("two", "died")]
    whole = told(engine)
    assert [event["Seq"] for event in whole] == sorted(event["Seq"] for event in whole)
    later = told(engine, "--since-seq", str(whole[3]["Seq"]))
    assert later == whole[4:]
    assert told(engine, "--since", whole[5]["Time"]) == whole[5:]
    assert told(engine, "--until", "2001-01-01") == []
    assert told(engine, "--since", "1h", "--until", "0s") == whole
    done = engine.cli("events", "--filter", "nonsense", check=False)
    assert done.returncode == 125
    assert "option --filter cannot be 'nonsense'" in done.stderr


def _line(follower: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert follower.stdout is not None
    event: dict[str, Any] = json.loads(follower.stdout.readline())
    return event


def test_a_follower_sees_every_event_once_although_the_supervisor_is_killed(
    engine: Engine, root: tuple[str, str]
) -> None:
    last = max((event["Seq"] for event in told(engine)), default=0)
    with engine.spawn("events", "--format", "json", "--since-seq", str(last)) as follower:
        for turn in range(3):
            engine.cli("run", "--rm", "--name", f"c{turn}", *NET, *root, "true")
            engine.kill()
        engine.cli("run", "--rm", "--name", "last", *NET, *root, "true")
        seen = [_line(follower)]
        while (seen[-1]["Name"], seen[-1]["Status"]) != ("last", "remove"):
            seen.append(_line(follower))
        follower.send_signal(signal.SIGINT)
        follower.wait(20)
    assert seen == told(engine, "--since-seq", str(last))
    assert [event["Seq"] for event in seen] == list(range(last + 1, last + 1 + len(seen)))


def test_a_follower_waits_for_the_next_supervisor_without_starting_one(
    engine: Engine, root: tuple[str, str]
) -> None:
    last = max((event["Seq"] for event in told(engine)), default=0)
    with engine.spawn("events", "--format", "json", "--since-seq", str(last)) as follower:
        engine.cli("run", "--rm", "--name", "before", *NET, *root, "true")
        assert _line(follower)["Name"] == "before"
        assert engine.stop() == 0
        assert follower.stderr is not None
        assert b"the supervisor went away: waiting" in follower.stderr.readline()
        engine.start()
        engine.cli("run", "--rm", "--name", "after", *NET, *root, "true")
        names = ["before"]
        while names[-1] != "after":
            names.append(_line(follower)["Name"])
        follower.send_signal(signal.SIGINT)
        follower.wait(20)
