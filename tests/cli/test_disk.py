"""`system df`, `system prune` and `port`, from canned answers; and that every verb of Podman's has an answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.main import ALIASES, COMMANDS, GROUPS, LATER, NEVER, main
from tests.cli.fake import IDENTITY, IMAGE

if TYPE_CHECKING:
    from tests.cli.fake import FakeSupervisor

USED: dict[str, Any] = {
    "images_size": 281_000_000,
    "images_reclaimable": 168_000_000,
    "images": [
        {
            "id": IMAGE, "names": ["docker.io/library/alpine:latest", "localhost/mine:1"], "created": 999_000_000,
            "size": 5_790_000, "shared_size": 790_000, "unique_size": 5_000_000, "containers": 2,
        },
        {
            "id": IMAGE[::-1], "names": [], "created": 999_000_000, "size": 1, "shared_size": 0, "unique_size": 1,
            "containers": 0,
        },
    ],
    "containers": [
        {
            "id": IDENTITY, "name": "web", "image": IMAGE, "command": ["sleep", "100"], "volumes": 1, "rw_size": 5520,
            "created": 999_990_000, "state": "running",
        },
        {
            "id": IDENTITY[::-1], "name": "job", "image": "", "command": [], "volumes": 0, "rw_size": 480,
            "created": 999_990_000, "state": "exited",
        },
    ],
    "volumes": [{"name": "data", "links": 2, "size": 30}, {"name": "old", "links": 0, "size": 10}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is always the second 1 000 000 000."""
    monkeypatch.setattr(time, "time", lambda: 1e9)


def printed(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], *words: str, **more: Any) -> str:
    fake.answers["System.DiskUsage"] = {**USED, **more}
    assert main(["system", "df", *words]) == 0
    return capsys.readouterr().out


def test_the_table_has_podmans_columns(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(fake, capsys) == (
        "TYPE           TOTAL       ACTIVE      SIZE        RECLAIMABLE\n"
        "Images         3           1           281MB       168MB (60%)\n"
        "Containers     2           1           6kB         480B (8%)\n"
        "Local Volumes  2           1           40B         10B (25%)\n"
    )


def test_every_one_is_shown_if_asked_for(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(fake, capsys, "-v") == (
        "Images space usage:\n\n"
        "REPOSITORY                TAG         IMAGE ID      CREATED     SIZE        SHARED SIZE  UNIQUE SIZE  CONTAINERS\n"
        "docker.io/library/alpine  latest      9167761d6a6e  11 days     5.79MB      790kB        5MB          2\n"
        "localhost/mine            1           9167761d6a6e  11 days     5.79MB      790kB        5MB          2\n"
        "<none>                    <none>      1b6c6593475a  11 days     1B          0B           1B           0\n"
        "\nContainers space usage:\n\n"
        "CONTAINER ID  IMAGE         COMMAND     LOCAL VOLUMES  SIZE        CREATED     STATUS      NAMES\n"
        "6c866e400574  9167761d6a6e  sleep 100   1              5.52kB      3 hours     running     web\n"
        "34a6de110199                            0              480B        3 hours     exited      job\n"
        "\nLocal Volumes space usage:\n\n"
        "VOLUME NAME  LINKS       SIZE\n"
        "data         2           30B\n"
        "old          0           10B\n"
    )


def test_json_and_templates(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(fake, capsys, "--format", "json"))
    assert found[0] == {
        "Type": "Images", "Total": 3, "Active": 1, "RawSize": 281_000_000, "RawReclaimable": 168_000_000,
        "TotalCount": 3, "Size": "281MB", "Reclaimable": "168MB (60%)",
    }  # fmt: skip
    text = printed(fake, capsys, "--format", "{{.Type}}: {{.RawSize}} {{.Active}}")
    assert text == "Images: 281000000 1\nContainers: 6000 1\nLocal Volumes: 40 1\n"
    assert main(["system", "df", "-v", "--format", "json"]) == 125


def test_what_could_not_be_measured_is_said(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["System.DiskUsage"] = {**USED, "warnings": ["cannot look into the volume 'x'"]}
    assert main(["system", "df"]) == 0
    assert capsys.readouterr().err == "Warning: cannot look into the volume 'x'\n"


def test_a_prune_tells_what_went(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["System.Prune"] = {
        "containers": [{"id": IDENTITY, "size": 5}],
        "images": [{"id": IMAGE, "error": {"code": "ImageInUse", "message": "cannot remove it"}}],
        "volumes": [{"id": "data"}],
        "networks": [{"id": "web"}],
        "reclaimed": 5_000_000,
    }
    assert main(["system", "prune", "-af", "--volumes", "--filter", "label=a", "--filter", "until=1h"]) == 125
    shown = capsys.readouterr()
    gone = f"Deleted Containers\n{IDENTITY}\nDeleted Volumes\ndata\nDeleted Networks\nweb\n"
    assert shown.out == f"{gone}Total reclaimed space: 5MB\n"
    assert shown.err == "Error: cannot remove it\n"
    assert fake.asked("System.Prune") == {
        "all": True,
        "volumes": True,
        "filters": {"label": ["a"], "until": ["1h"]},
    }


def test_ports_of_the_host_are_shown(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    ports = {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "81"}],
        "53/udp": [{"HostIp": "10.0.0.1", "HostPort": "53"}],
        "90/tcp": None,
    }
    one = {"Id": IDENTITY, "Name": "web", "State": {"Running": True}, "NetworkSettings": {"Ports": ports}}
    fake.answers["Container.Inspect"] = {"containers": [one]}
    fake.answers["Container.List"] = {"containers": [{"Id": IDENTITY}]}
    lines = ["80/tcp -> 0.0.0.0:8080", "80/tcp -> ::1:81", "53/udp -> 10.0.0.1:53"]
    for words, expected in (
        (["web"], lines),
        (["web", "80"], ["0.0.0.0:8080", "::1:81"]),
        (["web", "53/udp"], ["10.0.0.1:53"]),
        (["--all"], [f"{IDENTITY[:12]}\t{line}" for line in lines]),
        (["-l", "80/tcp"], ["0.0.0.0:8080", "::1:81"]),
    ):
        assert main(["port", *words]) == 0, words
        assert capsys.readouterr().out.splitlines() == expected
    assert main(["port", "web", "90"]) == 125
    assert "'90' of container 'web': it is not published" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("podman"), reason="needs Podman to know its verbs")
@pytest.mark.parametrize("group", ["", "container", "healthcheck", "image", "manifest", "system", "volume"])
def test_every_verb_of_podmans_is_there_or_refused_with_its_reason(group: str) -> None:
    words = group.split()
    text = subprocess.run(["podman", *words, "--help"], capture_output=True, text=True, check=True).stdout
    section = text.partition("Available Commands:\n")[2].partition("\n\n")[0]
    verbs = [" ".join([*words, line.split()[0]]) for line in section.splitlines()]
    assert verbs
    known = {*COMMANDS, *ALIASES, *GROUPS, *NEVER}
    assert [verb for verb in verbs if verb not in known and verb.split()[-1] not in LATER] == []


@pytest.mark.parametrize("verb", [*NEVER])
def test_what_is_not_meant_to_come_says_why(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main(verb.split()) == 125
    assert NEVER[verb] in capsys.readouterr().err
