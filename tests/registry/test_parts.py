"""The small parts: challenges, proxies, delays, certificates, media types, foreign text."""

from __future__ import annotations

import datetime
import email.utils
import json
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from pyman.errors import InvalidConfig, NotSupported
from supervisor.registry import challenge as challenges
from supervisor.registry.certificates import directory_for, found_in, tls_context
from supervisor.registry.challenge import Challenge
from supervisor.registry.manifests import MEDIA_TYPES, media_type_of
from supervisor.registry.proxies import proxy_for
from supervisor.registry.retrying import LONGEST_DELAY, delay_before, retry_after
from supervisor.registry.trouble import Trouble, line

if TYPE_CHECKING:
    from pathlib import Path


# Challenges


@pytest.mark.parametrize(
    "header, expected",
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a.example/token",service="a b",scope="repository:x:pull,push"',
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a.example/token", "service": "a b", "scope": "repository:x:pull,push"},
                )
            ],
        ),
        (
            'Negotiate, Basic realm="say \\"x\\"", Bearer realm=y',
            [
                Challenge("negotiate"),
                Challenge("basic", {"realm": 'say "x"'}),
                Challenge("bearer", {"realm": "y"}),
            ],
        ),
        ("BEARER Realm = z", [Challenge("bearer", {"realm": "z"})]),
        ("", []),
        ('"', []),
    ],
)
def test_a_challenge_is_read(header: str, expected: list[Challenge]) -> None:
    assert challenges.read([header]) == expected


def test_the_first_challenge_that_can_be_answered_is_chosen() -> None:
    found = challenges.read(["Negotiate", "Bearer realm=a", "Basic realm=b"])
    assert challenges.chosen(found) == Challenge("bearer", {"realm": "a"})
    assert challenges.chosen([]) is None
    assert Challenge("basic")["realm"] == ""


@given(st.text(max_size=200))
def test_any_challenge_is_read_or_left(header: str) -> None:
    challenges.read([header, f"Bearer {header}", f'Basic realm="{header}'])


# Proxies


@pytest.mark.parametrize(
    "host, port, exceptions, through",
    [
        ("a.example", 443, "", True),
        ("localhost", 443, "", False),
        ("127.0.0.9", 443, "", False),
        ("::1", 443, "", False),
        ("a.example", 443, "*", False),
        ("a.example", 443, "b.example, a.example", False),
        ("sub.a.example", 443, "a.example", False),
        ("a.example", 443, ".a.example", True),
        ("sub.a.example", 443, ".a.example", False),
        ("sub.a.example", 443, "*.a.example", False),
        ("xa.example", 443, "a.example", True),
        ("A.Example", 443, "a.example", False),
        ("a.example", 443, "a.example:443", False),
        ("a.example", 444, "a.example:443", True),
        ("10.1.2.3", 443, "10.0.0.0/8", False),
        ("11.1.2.3", 443, "10.0.0.0/8", True),
        ("10.1.2.3", 443, "10.1.2.3", False),
        ("fd00::1", 443, "fd00::/8", False),
        ("a.example", 443, "nonsense/x, ,", True),
    ],
)
def test_who_is_asked_through_the_proxy(host: str, port: int, exceptions: str, through: bool) -> None:
    environ = {"HTTPS_PROXY": "proxy.example:3128", "no_proxy": exceptions}
    expected = "http://proxy.example:3128" if through else ""
    assert proxy_for("https", host, port, environ) == expected
    assert proxy_for("http", host, port, environ) == ""


def test_a_proxy_is_used_by_its_scheme() -> None:
    environ = {"http_proxy": "http://p.example:1", "HTTPS_PROXY": "https://q.example:2"}
    assert proxy_for("http", "a.example", 80, environ) == "http://p.example:1"
    assert proxy_for("https", "a.example", 443, environ) == "https://q.example:2"


# Delays


def test_delays_double_unless_one_is_given() -> None:
    assert [delay_before(attempt, None) for attempt in (1, 2, 3, 4, 20)] == [1, 2, 4, 8, LONGEST_DELAY]
    assert delay_before(3, 0.5) == 0.5
    assert delay_before(1, 0.5, 7.0) == 7.0
    assert delay_before(4, None, 1.0) == 8.0
    assert delay_before(1, None, 1e9) == LONGEST_DELAY


def test_what_a_registry_asks_to_wait_is_a_number_or_a_date() -> None:
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    assert retry_after({"retry-after": "5"}) == 5
    date = email.utils.format_datetime(now + datetime.timedelta(seconds=9), usegmt=True)
    assert retry_after({"retry-after": date}, now.timestamp()) == 9
    assert retry_after({"retry-after": date}, now.timestamp() + 100) == 0
    for nonsense in ("", "soon", "-5", "1e9", "٣", "9" * 400):
        found = retry_after({"retry-after": nonsense})
        assert found is None or found <= 999_999_999
    assert retry_after({}) is None


# Certificates


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def test_a_directory_has_authorities_and_pairs(tmp_path: Path, authority: trustme.CA) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    issued = authority.issue_cert("client.example")
    issued.private_key_pem.write_to_path(str(tmp_path / "me.key"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "me.cert"))
    (tmp_path / "README").write_text("what this is")
    found = found_in(str(tmp_path))
    assert found.authorities == (str(tmp_path / "ca.crt"),)
    assert found.pairs == ((str(tmp_path / "me.cert"), str(tmp_path / "me.key")),)
    context = tls_context(found, verify=True)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert authority.cert_pem.bytes() in [
        ssl.DER_cert_to_PEM_cert(der).encode() for der in context.get_ca_certs(True)
    ]
    assert tls_context(found, verify=False).verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("name, other", [("me.cert", "me.key"), ("me.key", "me.cert")])
def test_half_of_a_pair_is_refused(tmp_path: Path, name: str, other: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InvalidConfig, match=f"no '{other}' beside it"):
        found_in(str(tmp_path))


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(InvalidConfig, match="not a certificate"):
        tls_context(found_in(str(tmp_path)), verify=True)
    (tmp_path / "ca.crt").unlink()
    for name in ("me.cert", "me.key"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(InvalidConfig, match="damaged"):
        tls_context(found_in(str(tmp_path)), verify=True)
    with pytest.raises(InvalidConfig, match="cannot read the certificates"):
        found_in(str(tmp_path / "none"))


def test_the_first_directory_for_a_registry_counts(tmp_path: Path) -> None:
    roots = [str(tmp_path / name) for name in ("none", "one", "two")]
    for root in roots[1:]:
        (tmp_path / root / "a.example:5000").mkdir(parents=True)
    assert directory_for("a.example:5000", roots) == f"{roots[1]}/a.example:5000"
    assert directory_for("a.example", roots) == ""
    assert directory_for("../one", roots) == ""
    assert directory_for("..", roots) == ""
    assert found_in("").authorities == ()


# Manifests and foreign text


@pytest.mark.parametrize("kind", MEDIA_TYPES)
def test_a_manifest_says_what_it_is(kind: str) -> None:
    content: dict[str, object] = (
        {"manifests": []} if "index" in kind or "list" in kind else {"layers": [], "config": {}}
    )
    data = json.dumps({"schemaVersion": 2, "mediaType": kind, **content}).encode()
    assert media_type_of(data, "", "pull") == kind
    assert media_type_of(data, "text/plain; charset=utf-8", "pull") == kind
    bare = json.dumps({"schemaVersion": 2, **content}).encode()
    assert media_type_of(bare, f"{kind}; charset=utf-8", "pull") == kind


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    found: object = NotSupported
    try:
        found = media_type_of(data, "", "pull")
    except Trouble as trouble:
        found = type(trouble.error)
    assert found in (*MEDIA_TYPES, NotSupported)


def test_an_index_that_calls_itself_a_manifest_is_taken_for_what_it_is() -> None:
    data = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPES[1], "manifests": []}).encode()
    assert media_type_of(data, "", "pull") == MEDIA_TYPES[0]


@given(st.text())
def test_foreign_text_becomes_one_short_line(text: str) -> None:
    found = line(text)
    assert len(found) <= 200
    assert found.isprintable()


def test_secrets_are_taken_out_of_foreign_text() -> None:
    assert line("the word is s3cret, s3cret", ["s3cret", ""]) == "the word is ***, ***"
