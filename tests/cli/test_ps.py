"""`ps`: table, ids, JSON, templates, sorting, from canned containers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli import ps
from pyman.cli.main import main
from tests.cli.fake import IDENTITY, container

if TYPE_CHECKING:
    from tests.cli.fake import FakeSupervisor

OTHER = "0a26f50e30b7ef0c17518dba38d6ac7fd2521976761631b405d9418a66548ac7"
EXITED = container(
    Id=OTHER, Names=["job"], Command=["true"], Created=999_992_800, CreatedAt="2001-09-08T23:46:40Z", State="exited",
    Exited=True, ExitCode=3, ExitedAt=999_992_800, Pid=0, Labels={}, Namespaces={},
    Size={"rwSize": 1_982_256, "rootFsSize": 5},
)  # fmt: skip


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is always the second 1 000 000 000."""
    monkeypatch.setattr("pyman.cli.ps.time.time", lambda: 1e9)


def listing(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    fake.answers["Container.List"] = {"containers": [container(), EXITED]}
    assert main(["ps", *words]) == 0
    return capsys.readouterr().out


def test_the_table_has_podmans_columns_oldest_first(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert listing(fake, capsys, "-a") == (
        "CONTAINER ID  IMAGE       COMMAND               CREATED             STATUS                  PORTS       NAMES\n"
        "0a26f50e30b7              true                  2 hours ago         Exited (3) 2 hours ago              job\n"
        "6c866e400574              sh -c echo hello ...  About a minute ago  Up About a minute                   web\n"
    )
    assert fake.asked("Container.List") == {
        "all": True, "last": 0, "size": False, "filters": {}, "namespaces": False,
    }  # fmt: skip


def test_no_trunc_shows_ids_and_commands_in_full(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = listing(fake, capsys, "--no-trunc", "--noheading")
    assert printed.splitlines()[0].startswith(OTHER)
    assert f"{IDENTITY}              sh -c echo hello world; exit 3  " in printed
    assert "CONTAINER ID" not in printed


def test_quiet_prints_ids(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing(fake, capsys, "-q") == f"{OTHER[:12]}\n{IDENTITY[:12]}\n"
    assert listing(fake, capsys, "-aq", "--no-trunc") == f"{OTHER}\n{IDENTITY}\n"
    assert listing(fake, capsys, "-q", "--format", "{{.Names}}") == "job\nweb\n"


def test_sizes_are_a_column(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    printed = listing(fake, capsys, "-as").splitlines()
    assert printed[0].endswith("NAMES       SIZE")
    assert printed[1].endswith("job         1.98MB (virtual 5B)")
    assert fake.asked("Container.List")["size"] is True


def test_namespaces_have_a_table_of_their_own(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = listing(fake, capsys, "--ns").splitlines()
    assert listing(fake, capsys, "--namespace").splitlines() == printed
    assert printed[0].split() == ["CONTAINER", "ID", "NAMES", "PID", *ps._SPACES]
    assert printed[2].split() == [IDENTITY[:12], "web", "4321", "4026532177"]


def test_pods_are_two_columns(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing(fake, capsys, "-p").splitlines()[0].endswith("NAMES       POD ID      PODNAME")


@pytest.mark.parametrize(
    "form, expected",
    [
        ("{{.ID}} {{.Names}} {{.Command}}", f"{OTHER[:12]} job true\n{IDENTITY[:12]} web sh -c echo hello ...\n"),
        ("{{.Status}}|{{.State}}",
         "Exited (3) 2 hours ago|Exited (3) 2 hours ago\nUp About a minute|Up About a minute\n"),
        ("{{.Pid}} {{.ExitCode}} {{.Exited}} {{.Restarts}}", "0 3 true 0\n4321 0 false 0\n"),
        ("{{.Labels}} {{.Label `x`}} {{.Labels.a}}", "map[]  <no value>\nmap[a:b x:y] y b\n"),
        ("{{.CreatedAt}} {{.CreatedHuman}} {{.RunningFor}}",
         ("2001-09-08 23:46:40 +0000 UTC 2 hours ago 2 hours ago\n"
          "2001-09-09 01:45:00 +0000 UTC About a minute ago About a minute ago\n")),
        ("{{.Created}} {{json .Created}}",
         ('2001-09-08 23:46:40 +0000 UTC "2001-09-08T23:46:40Z"\n'
          '2001-09-09 01:45:00 +0000 UTC "2001-09-09T01:45:00.000000000Z"\n')),
        ("table {{.Names}}\\t{{.Label `x`}}", "NAMES       X\njob         \nweb         y\n"),
        ("{{.MNT}},{{.Size}},{{.Networks}},{{.Mounts}}", ",,,[]\n4026532177,,,[]\n"),
        ("{{range .}}{{.Names}} {{end}}", "job web \n"),
        ("table {{.ID}}\\t{{.Names}}", f"CONTAINER ID  NAMES\n{OTHER[:12]}  job\n{IDENTITY[:12]}  web\n"),
        ("table {{.Names}} {{.Labels}} {{.CreatedHuman}}",
         ("NAMES       LABELS        CREATED\njob         map[]         2 hours ago\n"
          "web         map[a:b x:y]  About a minute ago\n")),
        ("{{json .Labels}} {{json .Names}}", '{} "job"\n{"x":"y","a":"b"} "web"\n'),
    ],
)  # fmt: skip
def test_templates(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], form: str, expected: str
) -> None:
    assert listing(fake, capsys, "-a", "--format", form) == expected


@pytest.mark.parametrize("form", ["json", "{{json .}}"])
def test_json_is_a_list_with_podmans_keys(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    told = json.loads(listing(fake, capsys, "-a", "--format", form))
    assert [one["Id"] for one in told] == [OTHER, IDENTITY]
    assert (told[1]["State"], told[1]["Status"], told[1]["Names"]) == (
        "running",
        "Up About a minute",
        ["web"],
    )
    assert (told[1]["CreatedAt"], told[1]["Created"]) == ("About a minute ago", 999_999_900)


def test_an_unknown_field_is_named_together_with_those_there_are(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.List"] = {"containers": [container()]}
    assert main(["ps", "--format", "{{.Foo}}"]) == 125
    assert capsys.readouterr().err.startswith(
        "Error: cannot use the template: 1:3: there is no field .Foo; the fields are .AutoRemove .CGROUPNS .Command"
    )


def test_a_mistaken_template_is_refused_also_where_there_is_nothing_to_list(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.List"] = {"containers": []}
    assert main(["ps", "--format", "{{.Foo"]) == 125
    assert "the action does not end" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key, expected",
    [("names", ["job", "web"]), ("command", ["web", "job"]), ("created", ["job", "web"]), ("id", ["job", "web"]),
     ("status", ["job", "web"]), ("size", ["web", "job"]), ("runningfor", ["job", "web"]), ("image", ["job", "web"])],
)  # fmt: skip
def test_rows_are_sorted(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], key: str, expected: list[str]
) -> None:
    assert listing(fake, capsys, "--sort", key, "--format", "{{.Names}}").split() == expected


@pytest.mark.parametrize(
    "words, expected",
    [
        (["-l"], {"last": 1}),
        (["-al"], {"last": 1}),
        (["-n", "3"], {"last": 3}),
        (["-n", "-1"], {"last": 0}),
        (["-f", "status=exited,name=web", "-f", "name=db", "--filter", "label=a=b"],
         {"filters": {"status": ["exited"], "name": ["web", "db"], "label": ["a=b"]}}),
        (["-f", "label!=a"], {"filters": {"label!": ["a"]}}),
    ],
)  # fmt: skip
def test_options_become_the_request(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], words: list[str], expected: dict[str, Any]
) -> None:
    listing(fake, capsys, *words)
    request = fake.asked("Container.List")
    assert {key: request[key] for key in expected} == expected


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["-q", "--ns"], "cannot use --quiet together with --ns"),
        (["-q", "--size"], "cannot use --quiet together with --size"),
        (["-s", "--ns"], "cannot use --size together with --ns"),
        (["-w", "0"], "cannot use --watch for less than 0.1 seconds"),
        (["-lw", "1"], "cannot use --watch together with --latest"),
        (["-l", "-n", "1"], "cannot use --latest together with --last"),
        (
            ["--sort", "age"],
            "option --sort cannot be 'age': it must be command, created, id, image, names, runningfor, size, status",
        ),
        (["-f", "running"], "cannot use the filter 'running': it must be KEY=VALUE"),
        (["web"], "'pyman ps' takes no arguments, but got 'web': see 'pyman ps --help'"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["ps", *words]) == 125
    assert capsys.readouterr().err == f"Error: {sentence}\n"


def test_watch_shows_it_again_and_again(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("pyman.cli.ps.time.sleep", sleep)
    fake.answers["Container.List"] = {"containers": [container()]}
    assert main(["ps", "-q", "--watch", "2"]) == 130
    assert capsys.readouterr().out.split("\033[H\033[2J\033[3J") == [f"{IDENTITY[:12]}\n"] * 3
    assert slept == [2, 2, 2]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"State": "created"}, "Created"),
        ({"State": "initialized"}, "Initialized"),
        ({"State": "paused"}, "Paused"),
        ({"State": "stopping"}, "Stopping"),
        ({"State": "running", "StartedAt": 999_999_999}, "Up 1 second"),
        ({"State": "stopped", "ExitCode": 137, "ExitedAt": 999_999_997}, "Exited (137) 3 seconds ago"),
        ({"State": "running", "Status": "wedged"}, "Up About a minute (wedged)"),
    ],
)
def test_the_status_says_what_a_person_wants_to_know(changes: dict[str, Any], words: str) -> None:
    assert ps.row(container(**changes), whole=False, size=False)["Status"] == words


def test_what_is_equal_stays_in_the_order_of_its_making(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    third = container(Names=["last"], CreatedAt="2001-09-09T01:45:01Z")
    fake.answers["Container.List"] = {"containers": [third, container(), EXITED]}
    assert main(["ps", "--sort", "status", "--format", "{{.Names}}"]) == 0
    assert capsys.readouterr().out.split() == ["job", "web", "last"]
