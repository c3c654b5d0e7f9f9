"""`stats`: table, JSON and templates, from canned numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.main import main
from pyman.spans import go_duration
from tests.cli.fake import IDENTITY

if TYPE_CHECKING:
    from tests.cli.fake import FakeSupervisor

ONE: dict[str, Any] = {
    "ContainerID": IDENTITY, "Name": "web", "AvgCPU": 12.345, "CPU": 150.0, "CPUNano": 61_500_000_000,
    "CPUSystemNano": 5, "SystemNano": 1, "MemUsage": 3_092_000, "MemLimit": 16_700_000_000, "MemPerc": 0.0185,
    "Network": {"eth0": {"RxBytes": 1000, "TxBytes": 7}, "eth1": {"RxBytes": 234, "TxBytes": 0}},
    "BlockInput": 0, "BlockOutput": 2_500_000, "PIDs": 2, "UpTime": 61_500_000_000, "Duration": 61_500_000_000,
}  # fmt: skip


def printed(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    fake.answers["Container.Stats"] = {"stats": [ONE]}
    assert main(["stats", "--no-stream", *words]) == 0
    return capsys.readouterr().out


def test_the_table_has_podmans_columns(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(fake, capsys) == (
        "ID            NAME        CPU %       MEM USAGE / LIMIT  MEM %       NET IO        BLOCK IO    PIDS        CPU TIME    AVG CPU %\n"
        "6c866e400574  web         150.00%     3.092MB / 16.7GB   0.02%       1.234kB / 7B  0B / 2.5MB  2           1m1.5s      12.35%\n"
    )
    assert fake.asked("Container.Stats") == {
        "names": [], "all": False, "latest": False, "stream": False, "interval": 5.0,
    }  # fmt: skip


def test_json_is_in_words(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = json.loads(printed(fake, capsys, "--format", "json"))
    assert (found["id"], found["cpu_time"], found["pids"]) == (IDENTITY[:12], "1m1.5s", "2")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.ID}} {{.ContainerID}}", f"{IDENTITY[:12]} {IDENTITY}"),
        ("{{.CPU}} {{.AvgCPU}} {{.AVGCPU}}", "150 12.345 12.35%"),
        ("{{.CPUNano}} {{.Duration}} {{.Up}} {{.UpTime}}", "61500000000 61500000000 1m1.5s 1m1.5s"),
        ("{{.MemUsageBytes}}", "2.949MiB / 15.55GiB"),
        ("{{.MemLimit}} {{.ContainerStats.MemUsage}} {{.PIDs}}", "16700000000 3092000 2"),
        ("{{range .}}{{.Name}};{{end}}", "web;"),
        ("table {{.Name}} {{.PIDS}}", "NAME        PIDS\nweb         2"),
    ],
)
def test_templates_have_podmans_fields(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], template: str, expected: str
) -> None:
    assert printed(fake, capsys, "--format", template).rstrip("\n") == expected


def test_no_trunc_and_interval(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(fake, capsys, "--no-trunc", "-i", "500ms", "a", "b").splitlines()[1].startswith(IDENTITY)
    asked = fake.asked("Container.Stats")
    assert (asked["names"], asked["interval"]) == (["a", "b"], 0.5)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (12, "12ns"),
        (1_500, "1.5µs"),
        (350_000_000, "350ms"),
        (1_000_000_000, "1s"),
        (20_386_825_206, "20.386825206s"),
        (60_000_000_000, "1m0s"),
        (3_732_500_000_000, "1h2m12.5s"),
        (-1_500_000_000, "-1.5s"),
    ],
)
def test_lengths_of_time_are_written_as_by_go(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text
