"""What the verbs of `secret` and the option `--secret` ask for, and what they refuse by themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli import secret
from pyman.cli.main import main
from pyman.cli.options import parse
from pyman.cli.secret_option import SECRET_OPTIONS, secret_settings
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor

DOCUMENT = {
    "ID": "0123456789abcdef012345678",
    "CreatedAt": "2026-01-02T03:04:05.6Z",
    "UpdatedAt": "2026-01-02T03:04:05.6Z",
    "Spec": {"Labels": {"a": "b", "c": ""}, "Driver": {"Options": {"path": "/p"}, "Name": "file"}, "Name": "word"},
}  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["secret", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_create_passes_on_what_was_asked_for_and_the_data_by_a_descriptor(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"data")
    fake.answers["Secret.Create"] = {"id": "i", "created": True}
    line = ["create", "-d", "pass", "--driver-opts", "key=k,root=rel", "-l", "a=b", "--replace", "word"]
    assert run(capsys, *line, str(tmp_path / "file")) == (0, "i\n", "")
    assert fake.asked("Secret.Create") == {
        "name": "word",
        "driver": "pass",
        "driver_options": {"key": "k", "root": f"{os.getcwd()}/rel"},
        "labels": {"a": "b"},
        "replace": True,
        "ignore": False,
    }
    assert "data" not in str(fake.calls)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("create x", "'pyman secret create' needs NAME FILE|-"),
        ("create --ignore --replace x -", "cannot use --ignore together with --replace"),
        ("create x /not/there", "cannot read '/not/there': No such file"),
        ("create x /", "cannot read '/': Is a directory"),
        ("create x /dev/null", "cannot make a secret of '/dev/null': it is empty"),
        ("create x /dev/zero", "cannot make a secret of '/dev/zero': it has 512000 bytes or more"),
        ("create --env x NO_SUCH_VARIABLE_THERE", "environment variable 'NO_SUCH_VARIABLE_THERE': it is not set"),
        ("create --driver-opts x y -", "option --driver-opts cannot be 'x'"),
        ("ls -f name", "cannot use the filter 'name'"),
        ("inspect", "needs SECRET..."),
        ("rm", "cannot tell which secrets are meant"),
        ("rm -a x", "cannot tell which secrets are meant: give either names or --all"),
        ("exists", "needs SECRET"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    status, out, err = run(capsys, *line.split(" "))
    assert (status, out) == (125, "")
    assert said in err
    assert fake.calls == []


def test_listings_are_podmans(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Secret.List"] = {"secrets": [DOCUMENT]}
    _, out, _ = run(capsys, "ls")
    assert out.splitlines()[0].split() == ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]
    assert out.splitlines()[1].split()[:3] == [DOCUMENT["ID"], "word", "file"]
    assert run(capsys, "ls", "--noheading", "--format", "table {{.Name}}")[1] == "word\n"
    assert run(capsys, "list", "--quiet")[1] == f"{DOCUMENT['ID']}\n"
    assert '"Name": "word"' in run(capsys, "ls", "--format", "json")[1]


def test_inspect_in_words_is_podmans(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Secret.Inspect"] = {"secrets": [DOCUMENT]}
    assert run(capsys, "inspect", "--pretty", "word")[1].splitlines() == [
        "ID:              0123456789abcdef012345678",
        "Name:              word",
        "Labels:",
        " - a=b",
        " - c",
        "Driver:            file",
        "Created at:        2026-01-02 03:04:05.6 +0000 UTC",
        "Updated at:        2026-01-02 03:04:05.6 +0000 UTC",
    ]
    assert (
        run(capsys, "inspect", "--format", "{{.Spec.Driver.Options.path}}|{{.SecretData}}", "word")[1]
        == "/p|\n"
    )
    keys = [
        line.strip().split(":")[0] for line in run(capsys, "inspect", "word")[1].splitlines() if ":" in line
    ]
    assert keys == ['"ID"', '"CreatedAt"', '"UpdatedAt"', '"Spec"', '"Name"', '"Driver"', '"Name"', '"Options"', '"path"', '"Labels"', '"a"', '"c"']  # fmt: skip


def test_rm_tells_what_could_not_be_removed(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": "NoSuchSecret", "message": "cannot find secret 'x'", "subject": "x", "hint": ""}
    fake.answers["Secret.Remove"] = {"secrets": [{"id": "i"}, {"id": "x", "error": error}]}
    assert run(capsys, "rm", "y", "x") == (125, "i\n", "Error: cannot find secret 'x'\n")
    assert run(capsys, "rm", "--ignore", "y", "x") == (0, "i\n", "")


def test_the_command_line_and_the_supervisor_have_one_limit() -> None:
    from supervisor.runtime.secrets.records import LIMIT

    assert secret._LIMIT == LIMIT


def settings(*texts: str) -> dict[str, Any]:
    return secret_settings(parse([f"--secret={text}" for text in texts], SECRET_OPTIONS, command="run"))


def test_the_option_is_read_as_podman_reads_it() -> None:
    assert settings() == {}
    assert settings("a", "b,uid=1,GID=2,mode=0440,target=/x", "source=c,type=mount") == {
        "secrets": [
            {"source": "a"},
            {"source": "b", "uid": 1, "gid": 2, "mode": 0o440, "target": "/x"},
            {"source": "c"},
        ]
    }
    assert settings("a,type=env", "b,type=env,target=B") == {"secret_env": {"a": "a", "B": "b"}}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["type=env"], "it names no secret"),
        ([""], "it names no secret"),
        (["a,b"], "'b' is none of source=, type="),
        (["a,size=3"], "'size=3' is none of"),
        (["a,type=tmpfs"], "type is mount or env, not 'tmpfs'"),
        (["a,type=env,type=env"], "it has two of type"),
        (["a,source=b"], "it has two of source"),
        (["a,uid=-1"], "uid is a number, not '-1'"),
        (["a,uid=4294967296"], "uid is a number"),
        (["a,mode=888"], "mode is an octal number"),
        (["a,mode=10000"], "mode is an octal number"),
        (["a,type=env,mode=444"], "mode is for type=mount only"),
        (["a,type=env,target=X", "b,type=env,target=X"], "there is another one for the variable 'X'"),
    ],
)
def test_what_the_option_cannot_be_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(InvalidArgument, match="option --secret cannot be") as caught:
        settings(*texts)
    assert said in caught.value.message
