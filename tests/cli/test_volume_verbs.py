"""What the verbs of `volume` ask for, and what they refuse by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.main import main

if TYPE_CHECKING:
    from tests.cli.fake import FakeSupervisor


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["volume", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_create_passes_on_what_was_asked_for(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Volume.Create"] = {"name": "v", "created": True}
    words = [
        "-l",
        "a=b",
        "--label",
        "c",
        "-o",
        "type=tmpfs",
        "-o",
        "o=size=1m,uid=3",
        "-o",
        "nocopy",
        "--uid",
        "7",
    ]
    assert run(capsys, "create", *words, "--ignore", "v") == (0, "v\n", "")
    assert fake.asked("Volume.Create") == {
        "name": "v",
        "driver": "",
        "labels": {"a": "b", "c": ""},
        "options": {"type": "tmpfs", "o": "size=1m,uid=3", "nocopy": ""},
        "uid": 7,
        "gid": None,
        "ignore": True,
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("create -o =x", "option --opt cannot be '=x'"),
        ("create -o o=a -o o=b", "option --opt has 'o' twice"),
        ("create --uid x", "option --uid cannot be 'x'"),
        ("create a b", "takes [NAME], but got also 'b'"),
        ("create -l =", "cannot use the label '='"),
        ("ls -q --format json", "cannot use --quiet together with --format"),
        ("ls -f name", "cannot use the filter 'name'"),
        ("inspect", "cannot tell which volumes are meant"),
        ("inspect -a x", "cannot tell which volumes are meant"),
        ("rm", "cannot tell which volumes are meant"),
        ("rm -a x", "cannot tell which volumes are meant"),
        ("rm -t 3 x", "cannot use --time without --force"),
        ("prune -f --dry-run", "cannot use --force together with --dry-run"),
        ("prune -a --filter all=true", "cannot use --all together with --filter all"),
        ("prune --filter all=maybe", "option --filter cannot be all=…"),
        ("export --output= x", "option --output cannot be empty"),
        ("import x", "'pyman volume import' needs VOLUME FILE|-"),
        ("import x /not/there", "cannot read '/not/there'"),
        ("mend x", "unknown command 'volume mend'"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    status, out, err = run(capsys, *line.split(" "))
    assert (status, out) == (125, "")
    assert said in err
    assert fake.calls == []


def failed(name: str, code: str) -> dict[str, Any]:
    return {"name": name, "error": {"code": code, "message": f"cannot {name}", "subject": name, "hint": ""}}


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        ([], 0),
        (["NoSuchVolume"], 1),
        (["VolumeInUse"], 2),
        (["NoSuchVolume", "VolumeInUse"], 2),
        (["StorageFailed"], 125),
        (["StorageFailed", "NoSuchVolume"], 1),
    ],
)
def test_the_exit_status_of_rm_tells_apart(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], codes: list[str], status: int
) -> None:
    removed = [failed(f"v{number}", code) for number, code in enumerate(codes)]
    fake.answers["Volume.Remove"] = {"volumes": [{"name": "done"}, *removed]}
    found, out, err = run(capsys, "rm", "done", *(f"v{number}" for number in range(len(codes))))
    assert (found, out) == (status, "done\n")
    assert err.splitlines() == [f"Error: cannot v{number}" for number in range(len(codes))]


def test_with_force_one_that_is_not_there_is_no_mistake(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Volume.Remove"] = {"volumes": [failed("v", "NoSuchVolume")]}
    assert run(capsys, "rm", "-f", "-t", "2", "v") == (0, "", "")
    assert fake.asked("Volume.Remove") == {"names": ["v"], "all": False, "force": True, "timeout": 2.0}
