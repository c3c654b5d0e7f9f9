"""Options about registries and platforms: what they make of a request."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.options import parse
from pyman.cli.registry_options import (
    AUTHFILE,
    CERT_DIR,
    CONTENT_TRUST,
    CREDS,
    DECRYPTION_KEY,
    PLATFORM_OPTIONS,
    RETRY_OPTIONS,
    SIGNATURE_POLICY,
    TLS_VERIFY,
    access_of,
    platform_of,
    pull_policy,
)
from pyman.errors import InvalidArgument, NotSupported
from tests.support.pseudoterminal import PseudoTerminal

if TYPE_CHECKING:
    from pathlib import Path

    from pyman.cli.options import Parsed

TABLE = (
    AUTHFILE, CERT_DIR, CREDS, TLS_VERIFY, *RETRY_OPTIONS, *PLATFORM_OPTIONS, CONTENT_TRUST, DECRYPTION_KEY,
    SIGNATURE_POLICY,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)


def parsed(*words: str) -> Parsed:
    return parse(words, TABLE, command="pull")


@pytest.mark.parametrize(
    "words, access",
    [
        ([], {}),
        (["--creds", "me:a:b"], {"username": "me", "password": "a:b"}),
        (["--tls-verify"], {"tls_verify": True}),
        (["--tls-verify=false"], {"tls_verify": False}),
        (["--retry", "0", "--retry-delay", "500ms"], {"retry": 0, "retry_delay": 0.5}),
        (["--cert-dir", "/etc/certs"], {"cert_dir": "/etc/certs"}),
        (["--disable-content-trust"], {}),
    ],
)
def test_a_request_says_only_what_was_asked_for(words: list[str], access: dict[str, Any]) -> None:
    assert access_of(parsed(*words)) == access


def test_paths_are_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auth.json").touch()
    words = ["--authfile", "auth.json", "--cert-dir", "certs"]
    expected = {"auth_file": str(tmp_path / "auth.json"), "cert_dir": str(tmp_path / "certs")}
    assert access_of(parsed(*words)) == expected
    with pytest.raises(InvalidArgument, match="cannot use the authentication file 'none'"):
        access_of(parsed("--authfile", "none"))


@pytest.mark.parametrize(
    "environ, path",
    [
        ({"REGISTRY_AUTH_FILE": "/a/auth.json", "DOCKER_CONFIG": "/d"}, "/a/auth.json"),
        ({"DOCKER_CONFIG": "/d"}, "/d/config.json"),
    ],
)
def test_the_callers_environment_names_the_logins(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], path: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert access_of(parsed()) == {"auth_file": path}


@pytest.mark.parametrize(
    "words, platform",
    [
        ([], {}),
        (["--arch", "arm64", "--variant", "v8"], {"arch": "arm64", "variant": "v8"}),
        (["--platform", "linux/arm/v7"], {"os": "linux", "arch": "arm", "variant": "v7"}),
        (["--platform", "linux"], {"os": "linux"}),
        (["--platform", "linux/arm", "--variant", "v6"], {"os": "linux", "arch": "arm", "variant": "v6"}),
    ],
)
def test_a_platform_is_given_in_one_word_or_in_several(words: list[str], platform: dict[str, str]) -> None:
    assert platform_of(parsed(*words)) == platform


@pytest.mark.parametrize("words", [["--platform", "linux/arm", "--os", "linux"], ["--platform", "a/b/c/d"]])
def test_a_platform_that_says_two_things_is_refused(words: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="--platform"):
        platform_of(parsed(*words))


@pytest.mark.parametrize(
    "word, policy", [("Always", "always"), ("ifnewer", "newer"), ("missing", "missing"), ("never", "never")]
)
def test_policies_have_podmans_names(word: str, policy: str) -> None:
    assert pull_policy(word, "--policy") == policy


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="option --pull cannot be 'sometimes'"):
        pull_policy("sometimes", "--pull")


@pytest.mark.parametrize(
    "words", [["--decryption-key", "k"], ["--decryption-key=k"], ["--signature-policy=x"]]
)
def test_what_is_not_there_is_refused_with_its_reason(words: list[str]) -> None:
    with pytest.raises(NotSupported, match=r"cannot use --\S+: "):
        parsed(*words)


@pytest.mark.parametrize("words", [["--creds", "me"], ["--creds", "me:"]])
def test_a_password_is_not_asked_for_where_there_is_no_terminal(words: list[str]) -> None:
    code = (
        "from tests.cli.test_registry_options import *\n"
        f"try: access_of(parsed(*{words!r}))\n"
        "except InvalidArgument as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert done.stdout == "cannot ask for 'Password': this is no terminal: give it as --creds USER:PASSWORD\n"


def test_a_password_is_typed_blindly() -> None:
    code = "from tests.cli.test_registry_options import *; print(access_of(parsed('--creds', ':')))"

    def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", *arguments], **options)

    with PseudoTerminal() as terminal:
        program = terminal.spawn(start, code)
        terminal.expect(b"Username: ")
        terminal.type(b"me\n")
        terminal.expect(b"Password: ")
        terminal.type(b"geheim\n")
        terminal.expect(b"{'username': 'me', 'password': 'geheim'}")
        assert program.wait(20) == 0
        assert terminal.seen.count(b"geheim") == 1
