"""Who one is for a registry: files, keys, credential programs; and that secrets stay where they belong."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from pyman.errors import InvalidArgument, InvalidConfig, RegistryFailed, StorageFailed
from supervisor.registry.credentials import Credentials, forget, forget_all, lookup, store
from supervisor.registry.messages import AuthFile, Context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registry.support import Home

PROGRAM = """#!/usr/bin/python3
import json, os, sys
path = os.path.join(os.path.dirname(__file__), "kept.json")
kept = json.load(open(path)) if os.path.exists(path) else {}
said = sys.stdin.read().strip()
with open(os.path.join(os.path.dirname(__file__), "calls"), "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "get":
    if said not in kept:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps({"ServerURL": said, "Username": kept[said][0], "Secret": kept[said][1]}))
elif sys.argv[1] == "store":
    new = json.loads(said)
    kept[new["ServerURL"]] = [new["Username"], new["Secret"]]
elif sys.argv[1] == "erase":
    if said not in kept:
        print("credentials not found in native keychain")
        sys.exit(1)
    del kept[said]
elif sys.argv[1] == "list":
    print(json.dumps({key: value[0] for key, value in kept.items()}))
json.dump(kept, open(path, "w"))
"""


def _auth(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def _file(path: Path, content: Any) -> AuthFile:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return AuthFile(str(path))


@pytest.fixture
def program(home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential program `docker-credential-keep` on the PATH."""
    monkeypatch.setenv("PATH", f"{home.bin}:/usr/bin:/bin")
    return home.write("bin/docker-credential-keep", PROGRAM, 0o755)


async def test_the_longest_key_counts(tmp_path: Path) -> None:
    auths = {
        "a.example": {"auth": _auth("host", "1")},
        "a.example/team": {"auth": _auth("team", "2")},
        "a.example/team/app": {"auth": _auth("app", "3")},
    }
    context = Context(auth_files=(_file(tmp_path / "auth.json", {"auths": auths}),))
    for key, username in (
        ("a.example", "host"),
        ("a.example/other", "host"),
        ("a.example/team/x", "team"),
        ("a.example/team/app", "app"),
        ("a.example/team/app/deep", "app"),
        ("a.example/teams", "host"),
        ("b.example", ""),
    ):
        assert (await lookup(context, key)).username == username


async def test_the_first_file_that_knows_counts(tmp_path: Path) -> None:
    one = _file(tmp_path / "1", {"auths": {"b.example": {"auth": _auth("first", "1")}}})
    two = _file(
        tmp_path / "2",
        {"auths": {"a.example": {"auth": _auth("second", "2")}, "b.example": {"auth": _auth("x", "y")}}},
    )
    context = Context(auth_files=(AuthFile(str(tmp_path / "none")), one, two))
    assert (await lookup(context, "a.example/x")).username == "second"
    assert (await lookup(context, "b.example/x")).username == "first"


@pytest.mark.parametrize(
    "key, asked",
    [
        ("https://index.docker.io/v1/", "docker.io/library/alpine"),
        ("docker.io", "docker.io/library/alpine"),
        ("https://a.example/v2/", "a.example/x"),
        ("http://a.example", "a.example/x"),
    ],
)
async def test_keys_that_are_addresses_are_understood(tmp_path: Path, key: str, asked: str) -> None:
    context = Context(auth_files=(_file(tmp_path / "f", {"auths": {key: {"auth": _auth("u", "p:q")}}}),))
    found = await lookup(context, asked)
    assert (found.username, found.password) == ("u", "p:q")


async def test_the_old_file_of_docker_is_read(tmp_path: Path) -> None:
    path = tmp_path / ".dockercfg"
    path.write_text(json.dumps({"https://a.example/v1/": {"auth": _auth("u", "p")}}))
    context = Context(auth_files=(AuthFile(str(path), legacy=True),))
    assert (await lookup(context, "a.example/x")).username == "u"


async def test_the_requests_own_name_comes_first_but_not_for_another_registry(tmp_path: Path) -> None:
    file = _file(tmp_path / "f", {"auths": {"a.example": {"auth": _auth("kept", "p")}}})
    context = Context(username="given", password="g", auth_files=(file,))
    assert (await lookup(context, "a.example/x")).username == "given"
    assert (await lookup(context, "a.example/x", foreign=True)).username == "kept"


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"auths": []}', "'auths'"),
        ('{"auths": {"a.example": 5}}', "'auths.a.example'"),
        ('{"auths": {"a.example": {"auth": "s3cret!"}}}', "not base64"),
        ('{"credHelpers": []}', "'credHelpers'"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_without_its_content(
    tmp_path: Path, content: str, complaint: str
) -> None:
    context = Context(auth_files=(_file(tmp_path / "auth.json", content),))
    with pytest.raises(InvalidConfig, match=complaint) as caught:
        await lookup(context, "a.example/x")
    assert str(tmp_path / "auth.json") in caught.value.message
    assert "s3cret" not in str(caught.value)


async def test_an_empty_file_and_an_empty_entry_know_nobody(tmp_path: Path) -> None:
    for content in (
        "",
        '{"auths": {"a.example": {}}}',
        '{"auths": null}',
        '{"auths": {"a.example": {"auth": ""}}}',
    ):
        context = Context(auth_files=(_file(tmp_path / "auth.json", content),))
        assert not await lookup(context, "a.example/x")


async def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="not a file"):
        await lookup(Context(auth_files=(AuthFile(str(tmp_path)),)), "a.example")


# Programs


async def test_a_program_is_asked_for_the_host(tmp_path: Path, program: Path) -> None:
    program.with_name("kept.json").write_text(json.dumps({"a.example": ["u", "s3cret"]}))
    inner = _file(tmp_path / "auth.json", {"credHelpers": {"a.example": "keep"}})
    for context in (Context(auth_files=(inner,)), Context(credential_helpers=("keep",))):
        found = await lookup(context, "a.example/team/app")
        assert (found.username, found.password) == ("u", "s3cret")
        assert not await lookup(context, "b.example/x")


async def test_the_store_of_dockers_file_is_asked_where_nothing_else_is_known(
    tmp_path: Path, program: Path
) -> None:
    program.with_name("kept.json").write_text(json.dumps({"https://index.docker.io/v1/": ["u", "s3cret"]}))
    file = _file(tmp_path / "c", {"auths": {"https://index.docker.io/v1/": {}}, "credsStore": "keep"})
    assert (await lookup(Context(auth_files=(file,)), "docker.io/library/alpine")).username == "u"
    missing = _file(tmp_path / "d", {"credsStore": "desktop-of-another-machine"})
    assert not await lookup(Context(auth_files=(missing,)), "docker.io/library/alpine")


async def test_a_token_from_a_program_is_one(program: Path) -> None:
    program.with_name("kept.json").write_text(json.dumps({"a.example": ["<token>", "s3cret"]}))
    found = await lookup(Context(credential_helpers=("keep",)), "a.example")
    assert (found.username, found.password, found.identity_token) == ("", "", "s3cret")
    assert found


@pytest.mark.parametrize(
    "text, complaint",
    [
        ('#!/bin/sh\necho \'{"Secret": "s3cret"}\'', "does not answer as it should"),
        ("#!/bin/sh\necho s3cret; exit 3", "status 3"),
        ("#!/bin/sh\nkill -9 $$", "status -9"),
    ],
)
async def test_a_program_that_fails_is_named_without_what_it_said(
    program: Path, text: str, complaint: str
) -> None:
    program.write_text(text)
    with pytest.raises(RegistryFailed, match=complaint) as caught:
        await lookup(Context(credential_helpers=("keep",)), "a.example")
    assert "s3cret" not in str(caught.value)


async def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RegistryFailed, match="not installed"):
        await lookup(Context(credential_helpers=("nowhere",)), "a.example")


async def test_a_program_is_never_a_path(tmp_path: Path) -> None:
    file = _file(tmp_path / "auth.json", {"credHelpers": {"a.example": "../../evil"}})
    with pytest.raises(InvalidConfig, match="not a name"):
        await lookup(Context(auth_files=(file,)), "a.example")


# Keeping and forgetting


async def test_a_file_in_dockers_form_is_kept_as_docker_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"b.example": {"auth": _auth("b", "1")}}, "psFormat": "table"}))
    context = Context(auth_files=(AuthFile(str(path), docker=True),))
    await store(context, "docker.io", "me", "2")
    await store(context, "a.example:5000", "a", "3")
    with pytest.raises(InvalidArgument, match="in Docker's form"):
        await store(context, "a.example:5000/team", "a", "3")
    content = json.loads(path.read_text())
    assert content["psFormat"] == "table"
    assert content["auths"] == {
        "b.example": {"auth": _auth("b", "1")},
        "https://index.docker.io/v1/": {"auth": _auth("me", "2")},
        "a.example:5000": {"auth": _auth("a", "3")},
    }
    assert (await lookup(context, "docker.io/library/x")).username == "me"
    assert await forget(context, "docker.io")
    assert not await forget(context, "docker.io")
    assert set(json.loads(path.read_text())["auths"]) == {"b.example", "a.example:5000"}


async def test_a_login_is_kept_beside_what_else_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "auth.json"
    context = Context(auth_files=(AuthFile(str(path)),))
    assert await store(context, "a.example", "u", "pä:ss") == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    content = json.loads(path.read_text())
    content["psFormat"] = "wide"
    content["auths"]["b.example"] = {"auth": _auth("x", "y"), "email": "x@y"}
    path.write_text(json.dumps(content))
    await store(context, "a.example/team", "t", "2")
    after = json.loads(path.read_text())
    assert after["psFormat"] == "wide"
    assert after["auths"]["b.example"] == content["auths"]["b.example"]
    assert (await lookup(context, "a.example/x")).password == "pä:ss"
    assert (await lookup(context, "a.example/team/x")).username == "t"
    assert await forget(context, "a.example")
    assert not await forget(context, "a.example")
    assert await forget_all(context) == ["a.example/team", "b.example"]
    assert json.loads(path.read_text()) == {"auths": {}, "psFormat": "wide"}


async def test_dockers_own_key_is_used_again(tmp_path: Path) -> None:
    file = _file(
        tmp_path / "config.json", {"auths": {"https://index.docker.io/v1/": {"auth": _auth("old", "1")}}}
    )
    context = Context(auth_files=(file,))
    await store(context, "docker.io", "new", "2")
    auths = json.loads((tmp_path / "config.json").read_text())["auths"]
    assert list(auths) == ["https://index.docker.io/v1/"]
    assert (await lookup(context, "docker.io/library/x")).username == "new"
    assert await forget(context, "docker.io")
    assert not await lookup(context, "docker.io/library/x")


async def test_a_link_to_a_file_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "auth.json").symlink_to("real.json")
    context = Context(auth_files=(AuthFile(str(tmp_path / "auth.json")),))
    await store(context, "a.example", "u", "p")
    assert (tmp_path / "auth.json").is_symlink()
    assert "a.example" in json.loads((tmp_path / "real.json").read_text())["auths"]


async def test_a_program_keeps_where_it_is_the_one_to(tmp_path: Path, program: Path) -> None:
    file = _file(tmp_path / "auth.json", {"credHelpers": {"a.example": "keep"}})
    before = (tmp_path / "auth.json").read_text()
    for context in (Context(auth_files=(file,)), Context(credential_helpers=("keep",), auth_files=(file,))):
        assert await store(context, "a.example", "u", "s3cret") == "credential helper: keep"
        assert (await lookup(context, "a.example")).password == "s3cret"
        assert (tmp_path / "auth.json").read_text() == before
        assert await forget(context, "a.example")
        assert not await lookup(context, "a.example")
    assert "s3cret" not in program.with_name("calls").read_text()


async def test_a_program_that_fails_gives_way_to_the_next(tmp_path: Path) -> None:
    context = Context(
        credential_helpers=("nowhere", "containers-auth.json"),
        auth_files=(AuthFile(str(tmp_path / "auth.json")),),
    )
    assert await store(context, "a.example", "u", "p") == str(tmp_path / "auth.json")


async def test_programs_keep_hosts_alone(program: Path) -> None:
    with pytest.raises(RegistryFailed, match="a repository"):
        await store(Context(credential_helpers=("keep",)), "a.example/team", "u", "p")
    assert not program.with_name("calls").exists()


async def test_everything_is_forgotten_everywhere(tmp_path: Path, program: Path) -> None:
    program.with_name("kept.json").write_text(json.dumps({"a.example": ["u", "p"], "b.example": ["u", "p"]}))
    file = _file(
        tmp_path / "auth.json",
        {"auths": {"c.example": {"auth": _auth("u", "p")}}, "credHelpers": {"a.example": "keep"}},
    )
    context = Context(credential_helpers=("keep", "containers-auth.json"), auth_files=(file,))
    assert {"a.example", "b.example", "c.example"} <= set(await forget_all(context))
    assert program.with_name("kept.json").read_text() == "{}"
    assert json.loads((tmp_path / "auth.json").read_text()) == {"auths": {}, "credHelpers": {}}


async def test_what_the_program_of_a_file_keeps_is_forgotten_with_the_rest(
    tmp_path: Path, program: Path
) -> None:
    context = Context(auth_files=(_file(tmp_path / "auth.json", {"credsStore": "keep"}),))
    await store(context, "a.example", "u", "p")
    assert await forget_all(context) == ["a.example"]
    assert program.with_name("kept.json").read_text() == "{}"
    assert not await lookup(context, "a.example")


async def test_a_login_while_another_is_forgotten_stays(tmp_path: Path, program: Path) -> None:
    path = tmp_path / "auth.json"
    program.with_name("kept.json").write_text(json.dumps({"a.example": ["u", "p"]}))
    context = Context(auth_files=(_file(path, {"auths": {"a.example": {}}, "credsStore": "keep"}),))
    meanwhile = json.dumps({"auths": {"a.example": {}, "b.example": {"auth": _auth("u", "p")}}})
    keeping = program.read_text()
    program.write_text(f"#!/bin/sh\necho '{meanwhile}' > {path}\nexec {program}-real \"$@\"\n")
    real = program.with_name(f"{program.name}-real")
    real.write_text(keeping)
    real.chmod(0o755)
    assert await forget(context, "a.example")
    assert list(json.loads(path.read_text())["auths"]) == ["b.example"]


async def test_a_file_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises((InvalidConfig, StorageFailed), match="/proc/nowhere"):
        await store(Context(auth_files=(AuthFile("/proc/nowhere/auth.json"),)), "a.example", "u", "p")
    with pytest.raises(RegistryFailed, match="no authentication file"):
        await store(Context(), "a.example", "u", "p")
    with pytest.raises(InvalidArgument, match="no authentication file"):
        await forget(Context(), "a.example")


def test_secrets_are_not_in_what_is_printed() -> None:
    assert "s3cret" not in repr(Context(username="u", password="s3cret", identity_token="s3cret"))
    assert "s3cret" not in repr(Credentials("u", "s3cret", "s3cret"))
