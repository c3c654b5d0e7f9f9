"""Verbs on containers and on the engine: what they ask, what they print, how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.main import main
from pyman.errors import EngineStopped, EngineUnavailable, NoSuchContainer, WrongState
from tests.cli.fake import IDENTITY, IMAGE, container, results

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor

NOPE = {
    "code": "NoSuchContainer",
    "message": "cannot find the container 'nope'",
    "subject": "nope",
    "hint": "",
}
RUNS = {
    "code": "WrongState",
    "message": "cannot remove web: it runs",
    "subject": "web",
    "hint": "use --force",
}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


ALL_SELECTION: dict[str, Any] = {"selection": {"all": True}}


@pytest.mark.parametrize(
    "line, method, request_",
    [
        ("init a b", "Init", {"selection": {"names": ["a", "b"]}}),
        ("init --all", "Init", ALL_SELECTION),
        ("start a", "Start", {"selection": {"names": ["a"]}}),
        ("start --all", "Start", ALL_SELECTION),
        ("start -f label=x", "Start", {"selection": {"filters": {"label": ["x"]}}}),
        ("stop -t 0 a", "Stop", {"selection": {"names": ["a"]}, "timeout": 0.0, "signal": "", "ignore": False}),
        ("stop -al", "", {}),
        ("stop -l -s INT -i", "Stop",
         {"selection": {"latest": True}, "timeout": None, "signal": "INT", "ignore": True}),
        ("restart --timeout 1m a", "Restart", {"selection": {"names": ["a"]}, "timeout": 60.0, "running": False}),
        ("restart --running", "Restart", {"selection": {"all": True}, "timeout": None, "running": True}),
        ("kill a", "Kill", {"selection": {"names": ["a"]}, "signal": "KILL"}),
        ("kill -s HUP -a", "Kill", {"selection": {"all": True}, "signal": "HUP"}),
        ("pause -a", "Pause", ALL_SELECTION),
        ("unpause a", "Unpause", {"selection": {"names": ["a"]}}),
        ("rm -fv --depend -t 2 a", "Remove",
         {"selection": {"names": ["a"]}, "force": True, "ignore": True, "timeout": 2.0, "volumes": True,
          "depend": True}),
        ("container rm a", "Remove",
         {"selection": {"names": ["a"]}, "force": False, "ignore": False, "timeout": None, "volumes": False,
          "depend": False}),
    ],
)  # fmt: skip
def test_options_become_the_request(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], line: str, method: str, request_: dict[str, Any]
) -> None:
    fake.answers[f"Container.{method}"] = results(("a", IDENTITY))
    status, _, err = run(capsys, *line.split())
    if method:
        assert (status, err) == (0, "")
        assert fake.asked(f"Container.{method}") == request_
    else:
        assert (status, err) == (125, "Error: cannot use --all together with --latest\n")


def test_each_success_is_a_line_and_each_failure_an_error_of_its_own(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Stop"] = results(
        ("web", IDENTITY), ("nope", "", {"error": NOPE}), ("6c86", IDENTITY)
    )
    assert run(capsys, "stop", "web", "nope", "6c86") == (
        125, "web\n6c86\n", "Error: cannot find the container 'nope'\n",
    )  # fmt: skip


def test_where_no_name_was_given_ids_are_printed(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Stop"] = results(("web", IDENTITY))
    assert run(capsys, "stop", "--all") == (0, f"{IDENTITY}\n", "")


@pytest.mark.parametrize(
    "rows, status",
    [
        ([("nope", "", {"error": NOPE})], 1),
        ([("web", IDENTITY, {"error": RUNS})], 2),
        ([("nope", "", {"error": NOPE}), ("web", IDENTITY, {"error": RUNS})], 2),
        ([("web", "", {"error": {**RUNS, "code": "StorageFailed"}}), ("nope", "", {"error": NOPE})], 125),
        ([("nope", "", {"changed": False})], 0),
    ],
)
def test_rm_tells_by_its_exit_status_why_it_could_not(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], rows: list[Any], status: int
) -> None:
    fake.answers["Container.Remove"] = results(*rows)
    assert run(capsys, "rm", "web", "nope")[0] == status


def test_rm_of_the_latest_where_there_is_none_has_the_same_status(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Remove"] = NoSuchContainer("cannot find the latest container: there is none")
    assert run(capsys, "rm", "-l") == (1, "", "Error: cannot find the latest container: there is none\n")
    assert run(capsys, "rm", "-fl") == (0, "", "")


def test_rm_takes_ids_from_files(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.answers["Container.Remove"] = results((IDENTITY, IDENTITY))
    (tmp_path / "cid").write_text(f"{IDENTITY}\n")
    assert run(capsys, "rm", "--cidfile", str(tmp_path / "cid"))[:2] == (0, f"{IDENTITY}\n")
    assert fake.asked("Container.Remove")["selection"] == {"names": [IDENTITY]}


def test_a_missing_cidfile_is_a_mistake_unless_missing_containers_are_none(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "cid")
    assert run(capsys, "rm", "--cidfile", path) == (
        125, "", f"Error: cannot read the cidfile '{path}': No such file or directory\n",
    )  # fmt: skip
    assert run(capsys, "rm", "-i", "--cidfile", path) == (0, "", "")
    assert fake.calls == []


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("stop", "'pyman stop' needs a container: give names or ids, or --all or --latest"),
        ("stop -a web", "cannot use --all together with names"),
        ("rm -l web", "cannot use --latest together with names"),
        ("rm -t 0 web", "cannot use --time without --force: only what is forced is stopped first"),
        ("rm --filter a=b web", "cannot use --filter together with names or --latest"),
        ("wait", "'pyman wait' needs a container: give names or ids, or --latest"),
        ("rename a", "'pyman rename' needs CONTAINER NAME: see 'pyman rename --help'"),
        (
            "rename a b c",
            "'pyman rename' takes CONTAINER NAME, but got also 'c': see 'pyman rename --help'",
        ),
        ("inspect", "'pyman inspect' needs a container or an image: give names or ids, or --latest"),
        ("inspect --type pod x", "cannot inspect objects of the type 'pod': this version has none"),
        (
            "inspect --type box x",
            "option --type cannot be 'box': it must be container, image, network, volume or all",
        ),
        ("update a", "cannot update a container: nothing to change was given: see 'pyman update --help'"),
        ("start -a x y", "cannot attach to several containers at once: start them without --attach"),
        ("why", "cannot tell which container is meant: give its name or id, or --latest"),
        ("system events prune", "cannot tell which events to forget: give --keep, --until or both"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    assert run(capsys, *line.split()) == (125, "", f"Error: {sentence}\n")


def test_wait_prints_exit_codes(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Container.Wait"] = results(
        ("a", IDENTITY, {"exit_code": 3}), ("nope", "", {"error": NOPE}), ("b", IDENTITY, {"exit_code": None})
    )
    words = ["wait", "--condition", "running,exited", "a", "nope", "b"]
    assert run(capsys, *words) == (125, "3\n-1\n", "Error: cannot find the container 'nope'\n")
    assert fake.asked("Container.Wait") == {
        "selection": {"names": ["a", "nope", "b"]}, "conditions": ["running", "exited"], "ignore": False,
    }  # fmt: skip


@pytest.mark.parametrize("there", [True, False])
def test_exists_answers_by_its_exit_status(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    fake.answers["Container.Exists"] = {"exists": there}
    assert run(capsys, "container", "exists", "web") == (0 if there else 1, "", "")


def test_rename_is_silent(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Container.Rename"] = {}
    assert run(capsys, "rename", "a", "b") == (0, "", "")
    assert fake.asked("Container.Rename") == {"name": "a", "new_name": "b"}


def test_update_changes_the_restart_policy(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Container.Update"] = {"id": IDENTITY, "name": "web"}
    assert run(capsys, "update", "--restart", "on-failure:2", "web") == (0, f"{IDENTITY}\n", "")
    assert fake.asked("Container.Update") == {
        "name": "web", "restart_policy": "on-failure", "restart_tries": 2,
    }  # fmt: skip


def test_update_changes_limits_and_the_rest_at_once(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKEN", "1")
    fake.answers["Container.Update"] = {"id": IDENTITY, "name": "web"}
    words = [
        "-m",
        "0",
        "--env",
        "TAKEN",
        "--unsetenv",
        "B",
        "--ulimit",
        "core=0",
        "--health-startup-retries",
        "3",
    ]
    assert run(capsys, "update", *words, "web") == (0, f"{IDENTITY}\n", "")
    assert fake.asked("Container.Update") == {
        "name": "web", "resource_limits": {"memory": {"limit": 0}}, "env": {"TAKEN": "1"}, "unsetenv": ["B"],
        "r_limits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}], "startupHealthConfig": {"Retries": 3},
    }  # fmt: skip


def test_why_tells_the_chain_of_events(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"time": "2001-09-09T01:46:40Z", "seq": 7, "status": "died", "text": "it ended with 3"}
    reply = {"id": IDENTITY, "name": "web", "summary": "restarted by its policy", "steps": [step]}
    fake.answers["Container.Why"] = reply
    assert run(capsys, "why", "web") == (
        0, "web: restarted by its policy\n  2001-09-09T01:46:40Z  died                it ended with 3\n", "",
    )  # fmt: skip
    assert json.loads(run(capsys, "why", "--format", "json", "web")[1]) == reply
    assert run(capsys, "why", "-f", "{{range .steps}}{{.seq}}{{end}}", "web")[1] == "7\n"


def test_prune_asks_and_removes_what_does_not_run(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["n\n", "y\n", ""])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(answers), raising=False)
    fake.answers["Container.Prune"] = {"containers": [{"id": IDENTITY}]}
    question = (
        "WARNING! This will remove all containers that do not run.\nAre you sure you want to continue? [y/N] "
    )
    assert run(capsys, "container", "prune") == (0, question, "")
    assert fake.calls == []
    assert run(capsys, "container", "prune") == (0, f"{question}{IDENTITY}\n", "")
    assert run(capsys, "container", "prune") == (0, f"{question}\n", "")
    assert run(capsys, "container", "prune", "-f", "--filter", "until=1h") == (0, f"{IDENTITY}\n", "")
    assert fake.calls[-1][1] == {"filters": {"until": ["1h"]}}
    error = {"code": "WrongState", "message": "cannot remove it"}
    fake.answers["Container.Prune"] = {"containers": [{"id": IDENTITY}, {"id": IMAGE, "error": error}]}
    assert run(capsys, "container", "prune", "-f") == (125, f"{IDENTITY}\n", "Error: cannot remove it\n")


# -- inspect ------------------------------------------------------------------------------------

INSPECTED = {
    "Id": IDENTITY,
    "State": {"Running": True, "Pid": 4},
    "Config": {"Labels": {"b": "c"}},
    "SizeRw": None,
}


def test_inspect_prints_a_list_and_an_error_for_what_was_not_found(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Inspect"] = {"containers": [INSPECTED], "errors": [NOPE]}
    fake.answers["Image.Inspect"] = {"images": [], "errors": [{**NOPE, "code": "NoSuchImage"}]}
    fake.answers["Volume.List"] = {"volumes": []}
    fake.answers["Network.Inspect"] = {"networks": [], "errors": [{**NOPE, "code": "NoSuchNetwork"}]}
    status, out, err = run(capsys, "inspect", "web", "nope")
    sentence = "cannot find 'nope': no container, image, volume or network has that name or id"
    assert (status, err) == (125, f"Error: {sentence}\n")
    assert out.startswith('[\n     {\n          "Id": "6c86')
    assert json.loads(out) == [{key: value for key, value in INSPECTED.items() if key != "SizeRw"}]
    fake.answers["Container.Inspect"] = {"containers": [], "errors": [NOPE]}
    assert run(capsys, "container", "inspect", "nope")[:2] == (125, "[]\n")


def test_inspect_finds_images_among_containers_and_keeps_the_order(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {**NOPE, "message": "cannot look at 'odd'", "code": "WrongState", "subject": "odd"}
    missing = [{**NOPE, "subject": name} for name in ("one", "nope", "two")]
    fake.answers["Container.Inspect"] = {
        "containers": [{"Id": "c1"}, {"Id": "c2"}],
        "errors": [*missing, gone],
    }
    fake.answers["Image.Inspect"] = {
        "images": [{"Id": "i1"}, {"Id": "i2"}],
        "errors": [{**NOPE, "code": "NoSuchImage"}],
    }
    fake.answers["Volume.List"] = {"volumes": []}
    fake.answers["Network.Inspect"] = {"networks": [], "errors": [{**NOPE, "code": "NoSuchNetwork"}]}
    names = ["one", "c1", "nope", "odd", "two", "c2"]
    status, out, err = run(capsys, "inspect", "-f", "{{.Id}}", *names)
    assert (status, out) == (125, "i1\nc1\ni2\nc2\n")
    assert [line.split(":")[1] for line in err.splitlines()] == [
        " cannot find 'nope'",
        " cannot look at 'odd'",
    ]
    assert fake.asked("Image.Inspect") == {"names": ["one", "nope", "two"]}


def test_inspect_of_one_kind_asks_for_nothing_else(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.Inspect"] = {"images": [{"Id": "i1", "Created": "2001-09-09T01:46:40.5Z"}]}
    assert run(capsys, "inspect", "-t", "image", "-f", "{{.ID}} {{.Created.Year}}", "one")[0] == 125
    assert run(capsys, "image", "inspect", "-f", "{{.ID}} {{.Created}}", "one")[1].startswith("i1 2001-09-0")
    assert [name for name, _ in fake.calls if name.startswith("Container")] == []
    assert (
        run(capsys, "image", "inspect")[2]
        == "Error: 'pyman image inspect' needs an image: give names or ids\n"
    )
    sentence = "Error: cannot use --size together with --type image\n"
    assert run(capsys, "inspect", "-s", "-t", "image", "one") == (125, "", sentence)


def test_inspect_by_template(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Container.Inspect"] = {"containers": [INSPECTED, INSPECTED]}
    form = "{{.ID}} {{.State.Running}} {{.Config.Labels}} {{.Config.Labels.nope}}"
    assert run(capsys, "inspect", "-f", form, "a", "b")[1] == f"{IDENTITY} true map[b:c] <no value>\n" * 2
    status, out, err = run(capsys, "inspect", "-f", "{{.State.Foo}}", "a")
    assert (status, out) == (125, "")
    assert err == (
        "Error: cannot use the template: 1:3: there is no field .Foo; the fields are .Pid .Running\n"
    )
    assert json.loads(run(capsys, "inspect", "-f", "{{ json . }}", "a")[1])[0]["Id"] == IDENTITY


def test_a_template_shows_times_as_podman_does(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = "2026-11-22T12:20:57.454809025Z"
    state = {"StartedAt": stamp, "FinishedAt": "0001-01-01T00:00:00Z"}
    fake.answers["Container.Inspect"] = {"containers": [{"Id": IDENTITY, "Created": stamp, "State": state}]}
    monkeypatch.setenv("TZ", "UTC")
    form = "{{.Created}} {{.State.StartedAt}} {{.State.FinishedAt}} {{json .Created}} {{json .State}}"
    shown = "2026-11-22 12:20:57.454809025 +0000 UTC"
    assert run(capsys, "inspect", "-f", form, "a")[1] == (
        f'{shown} {shown} 0001-01-01 00:00:00 +0000 UTC "{stamp}" '
        f'{{"StartedAt":"{stamp}","FinishedAt":"0001-01-01T00:00:00Z"}}\n'
    )


# -- the engine ---------------------------------------------------------------------------------

VERSION = {
    "Version": "9.9", "ApiVersion": "1", "PythonVersion": "3.11.2", "Os": "linux", "Arch": "amd64", "Kernel": "6.1",
    "Built": "",
}  # fmt: skip


def test_version_shows_both_sides(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["System.Version"] = VERSION
    status, out, _ = run(capsys, "version")
    client, _, server = out.partition("\n\n")
    assert status == 0
    assert client.startswith("Client:         pyman\nVersion:        ")
    assert server.startswith("Server:         pyman supervisor\nVersion:        9.9\nAPI Version:    1\n")
    assert run(capsys, "version", "-f", "{{.Server.Version}} {{.Client.Os}}")[1] == "9.9 linux\n"
    assert json.loads(run(capsys, "version", "-f", "json")[1])["Server"]["APIVersion"] == "1"
    assert run(capsys, "--version")[1] == f"pyman version {run(capsys, 'version', '-f', '{{.Version}}')[1]}"


def test_version_shows_the_client_where_no_supervisor_answers(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["System.Version"] = EngineUnavailable("cannot reach a supervisor")
    status, out, err = run(capsys, "version")
    assert (status, err) == (125, "Error: cannot reach a supervisor\n")
    assert "Client:" in out
    assert "Server:" not in out


def test_info_is_yaml_json_or_a_template(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    reply = {
        "host": {"cpus": 2, "os": "linux", "cgroupVersion": "v2"},
        "store": {"graphOptions": {}},
        "supervisor": {"pid": 7},
    }
    fake.answers["System.Info"] = reply
    assert run(capsys, "info")[1] == (
        "host:\n  cpus: 2\n  os: linux\n  cgroupVersion: v2\nstore:\n  graphOptions: {}\nsupervisor:\n  pid: 7\n"
    )
    assert json.loads(run(capsys, "system", "info", "--format", "json")[1]) == reply
    assert run(capsys, "info", "-f", "{{.Host.CPUs}} {{.supervisor.pid}}")[1] == "2 7\n"
    assert run(capsys, "info", "-f", "{{.Host.CgroupsVersion}} {{json .Host}}")[1] == (
        'v2 {"cpus":2,"os":"linux","cgroupVersion":"v2","security":{}}\n'
    )


def test_locks_are_a_table(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    lock = {"number": 3, "kind": "container", "id": IDENTITY, "name": "web"}
    fake.answers["System.Locks"] = {"size": 2048, "free": 2047, "locks": [lock], "conflicts": []}
    assert run(capsys, "system", "locks")[:2] == (
        0, ("LOCK        KIND        ID            NAME\n3           container   6c866e400574  web\n"
            "\n1 lock in use, 2047 of 2048 free\n"),
    )  # fmt: skip
    fake.answers["System.Locks"] = {
        "size": 1,
        "free": 0,
        "locks": [lock],
        "conflicts": ["3 is claimed twice"],
    }
    status, _, err = run(capsys, "system", "locks")
    assert (status, err) == (125, "Warning: 3 is claimed twice\n")


def test_reload_says_what_is_in_force(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["System.Reload"] = {"changed": ["engine.x"], "after_restart": ["engine.y"]}
    fake.answers["System.Info"] = {"supervisor": {"warnings": ["f: the unknown key 'z' is ignored"]}}
    assert run(capsys, "system", "reload") == (
        0,
        "engine.x: in force\nengine.y: in force when the supervisor is started again\n",
        "Warning: f: the unknown key 'z' is ignored\n",
    )
    fake.answers["System.Info"] = {"supervisor": {}}
    fake.answers["System.Reload"] = {"changed": []}
    assert run(capsys, "system", "reload")[1] == "Nothing has changed\n"


def test_check_ends_with_1_where_something_is_left_to_repair(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"subject": "web", "text": "its mount is gone", "repaired": False}
    fake.answers["System.Check"] = {"problems": [problem]}
    status, out, err = run(capsys, "system", "check")
    assert (status, out) == (1, "web: its mount is gone\n")
    assert "--repair" in err
    fake.answers["System.Check"] = {"problems": [{**problem, "repaired": True}]}
    assert run(capsys, "system", "check", "-r") == (0, "web: its mount is gone (repaired)\n", "")
    fake.answers["System.Check"] = {"problems": []}
    assert run(capsys, "system", "check") == (0, "No problems found\n", "")


def test_events_prune_says_how_many_are_gone(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Event.Prune"] = {"removed": 12}
    words = ["system", "events", "prune", "-f", "--keep", "5", "--until", "1970-01-01T00:00:02Z"]
    assert run(capsys, *words) == (0, "12\n", "")
    assert fake.asked("Event.Prune") == {"keep": 5, "until": 2_000_000_000}
    assert "option --until cannot be 'soon'" in run(capsys, "system", "events", "prune", "--until", "soon")[2]


def test_the_first_error_of_a_call_ends_the_command(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Rename"] = NoSuchContainer(
        "cannot find the container 'a'", hint="see 'pyman ps -a'"
    )
    assert run(capsys, "rename", "a", "b") == (
        125, "", "Error: cannot find the container 'a': see 'pyman ps -a'\n",
    )  # fmt: skip
    fake.answers["Container.Stop"] = EngineStopped("cannot stop containers: the supervisor is ending")
    assert run(capsys, "stop", "a")[0] == 125
    fake.answers["Container.Stop"] = WrongState("cannot stop a:\nit has\ntwo lines")
    assert run(capsys, "stop", "a")[2] == "Error: cannot stop a: it has two lines\n"


def test_the_namespace_is_said_once_for_the_connection(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.List"] = {"containers": [container()]}
    assert run(capsys, "--namespace", "mine", "container", "ls", "-q") == (0, f"{IDENTITY[:12]}\n", "")
    assert fake.asked("System.Match") == {"namespace": "mine"}
