"""Searching registries, logging in and out: what is asked, what is shown."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from pyman.cli.main import main
from pyman.errors import NotFound, RegistryDenied

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("search --list-tags -f stars=3 a", "cannot use --filter together with --list-tags"),
        ("search -f stars=x a", "cannot use the filter 'stars=x': it must be stars=N, is-official or is-automated"),
        ("login --secret x -p p r", "cannot use --secret together with --password"),
        ("login --secret x --password-stdin r", "cannot use --secret together with --password-stdin"),
        ("login --password-stdin r", "cannot use --password-stdin without --username"),
        ("login --password-stdin -u u -p p r", "cannot use --password-stdin together with --password"),
        ("logout -a r", "cannot use --all together with a registry"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(capsys: pytest.CaptureFixture[str], line: str, sentence: str) -> None:
    assert run(capsys, *line.split()) == (125, "", f"Error: {sentence}\n")


FOUND = [
    {"index": "registry.example", "name": "registry.example/a", "description": "An image\nof " + "x" * 60, "stars": 7,
     "official": "[OK]", "automated": "", "tag": ""},
    {"index": "registry.example", "name": "registry.example/b", "description": "", "stars": 0, "official": "",
     "automated": "", "tag": ""},
]  # fmt: skip


def test_search_shows_names_and_the_beginning_of_descriptions(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.Search"] = {"results": FOUND, "errors": []}
    assert run(capsys, "search", "-f", "is-official", "-f", "stars=3", "--limit", "5", "a")[1] == (
        f"NAME                DESCRIPTION\nregistry.example/a  An image of {'x' * 32}...\nregistry.example/b  \n"
    )
    assert fake.asked("Image.Search") == {
        "term": "a", "filters": {"is-official": ["true"], "stars": ["3"]}, "list_tags": False, "access": {}, "limit": 5,
    }  # fmt: skip
    out = run(capsys, "search", "--compatible", "--no-trunc", "a")[1].splitlines()
    assert out[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"]
    assert out[1].split()[-2:] == ["7", "[OK]"]
    assert (
        run(capsys, "search", "--format", "{{.Index}} {{.Stars}}", "a")[1]
        == "registry.example 7\nregistry.example 0\n"
    )
    assert '"Name": "registry.example/a"' in run(capsys, "search", "--format", "json", "a")[1]


def test_tags_are_listed_with_their_repository(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = [{"index": "r.example", "name": "r.example/a", "tag": tag} for tag in ("1", "latest")]
    fake.answers["Image.Search"] = {"results": tags, "errors": []}
    assert run(capsys, "search", "--list-tags", "r.example/a")[1] == (
        "NAME         TAG\nr.example/a  1\nr.example/a  latest\n"
    )
    made = run(capsys, "search", "--list-tags", "--format", "json", "r.example/a")[1]
    assert made.replace(" ", "").replace("\n", "") == '[{"Name":"r.example/a","Tags":["1","latest"]}]'


def test_a_registry_that_fails_is_a_warning_where_another_has_answered(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"code": "RegistryFailed", "message": "cannot search r2.example", "subject": "", "hint": ""}
    fake.answers["Image.Search"] = {"results": FOUND, "errors": [failed]}
    status, _, err = run(capsys, "search", "a")
    assert (status, err) == (0, "Warning: cannot search r2.example\n")
    fake.answers["Image.Search"] = {"results": [], "errors": [failed]}
    assert run(capsys, "search", "a") == (125, "", "Error: cannot search r2.example\n")


def test_login_with_name_and_password(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["Image.Login"] = {"username": "me", "stored": "/x/auth.json"}
    words = [
        "login",
        "-u",
        "me",
        "-p",
        "pass",
        "--tls-verify=false",
        "--authfile",
        str(tmp_path / "new.json"),
    ]
    assert run(capsys, *words, "-v", "https://r.example/v2/") == (
        0,
        "Used:  /x/auth.json\nLogin Succeeded!\n",
        "",
    )
    access = {
        "username": "me",
        "password": "pass",
        "tls_verify": False,
        "auth_file": str(tmp_path / "new.json"),
    }
    assert fake.asked("Image.Login") == {"registry": "r.example", "access": access}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from stdin\n")))
    assert run(capsys, "login", "-u", "me", "--password-stdin", "r.example/a")[:2] == (
        0,
        "Login Succeeded!\n",
    )
    assert fake.calls[-1][1] == {
        "registry": "r.example/a",
        "access": {"username": "me", "password": "from stdin"},
    }


def test_login_with_what_is_known_already(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Image.Login"] = {"username": "me", "stored": ""}
    assert run(capsys, "login", "r.example") == (
        0,
        (
            "Authenticating with existing credentials for r.example\n"
            "Existing credentials are valid. Already logged in to r.example\n"
        ),
        "",
    )
    assert run(capsys, "login", "--get-login", "r.example") == (0, "me\n", "")


def test_login_asks_only_on_a_terminal(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.isatty", lambda _: False)
    denied = RegistryDenied("cannot log in to r.example: invalid username or password")
    fake.answers["Image.Login"] = lambda asked: (
        {"username": "me", "stored": ""} if asked.get("get_login") else denied
    )
    status, out, err = run(capsys, "login", "-u", "me", "r.example")
    assert (status, out) == (125, "")
    assert err == "Error: cannot ask for 'Password': this is no terminal: use --password-stdin\n"
    fake.answers["Image.Login"] = NotFound("cannot tell who is logged in to r.example: nobody is")
    assert run(capsys, "login", "--get-login", "r.example")[0] == 125


def test_a_login_that_the_registry_refuses_says_so(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.Login"] = RegistryDenied("cannot log in to r.example: invalid username or password")
    assert run(capsys, "login", "-u", "me", "-p", "x", "r.example") == (
        125, "", "Error: cannot log in to r.example: invalid username or password\n",
    )  # fmt: skip


def test_logout(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Image.Logout"] = {}
    assert run(capsys, "logout", "r.example")[1] == "Removed login credentials for r.example\n"
    assert fake.calls[-1][1] == {"auth_file": "", "all": False, "registry": "r.example"}
    assert run(capsys, "logout", "-a")[1] == "Removed login credentials for all registries\n"
    assert fake.calls[-1][1] == {"auth_file": "", "all": True}
