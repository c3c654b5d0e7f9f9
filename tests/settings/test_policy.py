"""policy.json: what it permits, what it refuses, and that it never guesses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyman.errors import InvalidConfig
from supervisor.settings import policy
from supervisor.settings.policy import refusal, scopes_of

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.settings.policy import Policy

ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
SIGNED = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/key"}]


def _policy(path: Path, content: Any) -> Policy:
    file = path / "policy.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return policy.load([str(path / "none.json"), str(file)])


def _refusal(found: Policy, name: str, tag: str = ":1", transport: str = "docker") -> str:
    return refusal(found, transport, name, f"{name}{tag}")


def test_the_default_counts_where_nothing_else_is_said(tmp_path: Path) -> None:
    assert _refusal(_policy(tmp_path, {"default": ACCEPT}), "a.example/x") == ""
    assert "rejects it by default" in _refusal(_policy(tmp_path, {"default": REJECT}), "a.example/x")


def test_the_narrowest_scope_counts(tmp_path: Path) -> None:
    found = _policy(
        tmp_path,
        {
            "default": REJECT,
            "transports": {
                "docker": {
                    "a.example": REJECT,
                    "a.example/team": ACCEPT,
                    "a.example/team/secret": REJECT,
                    "a.example/team/secret:public": ACCEPT,
                    "*.wild.example": ACCEPT,
                },
                "docker-archive": {"": ACCEPT},
            },
        },
    )
    assert _refusal(found, "a.example/x")
    assert not _refusal(found, "a.example/team/x")
    assert _refusal(found, "a.example/team/secret")
    assert not _refusal(found, "a.example/team/secret", ":public")
    assert not _refusal(found, "b.wild.example/x")
    assert not _refusal(found, "c.b.wild.example:5000/x")
    assert _refusal(found, "wild.example/x")
    assert not _refusal(found, "/srv/x.tar", "", "docker-archive")
    assert _refusal(found, "/srv/x.tar", "", "oci-archive")


@pytest.mark.parametrize("kind", ["signedBy", "sigstoreSigned", "signedBaseLayer"])
def test_what_wants_a_signature_is_refused_with_file_and_kind(tmp_path: Path, kind: str) -> None:
    found = _policy(tmp_path, {"default": [{"type": kind, "keyPath": "/key"}]})
    said = _refusal(found, "a.example/x")
    assert kind in said
    assert str(tmp_path / "policy.json") in said


def test_all_requirements_of_a_list_have_to_be_met(tmp_path: Path) -> None:
    assert "signedBy" in _refusal(_policy(tmp_path, {"default": ACCEPT + SIGNED}), "a.example/x")
    assert "rejects" in _refusal(_policy(tmp_path, {"default": ACCEPT + REJECT}), "a.example/x")


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "not a JSON object"),
        ({}, "'default'"),
        ({"default": []}, "'default'.*at least one"),
        ({"default": ACCEPT, "wild": 1}, "'wild'"),
        ({"default": [{"type": "wild"}]}, "'default'"),
        ({"default": ["reject"]}, "'default'"),
        ({"default": [{"type": "reject", "more": 1}]}, "'default'.*nothing beside"),
        ({"default": ACCEPT, "transports": []}, "'transports'"),
        ({"default": ACCEPT, "transports": {"docker": []}}, "'transports.docker'"),
        ({"default": ACCEPT, "transports": {"docker": {"a": []}}}, "'transports.docker.a'"),
    ],
)
def test_a_policy_that_is_not_right_permits_nothing(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(InvalidConfig, match=complaint):
        _policy(tmp_path, content)


def test_without_a_policy_nothing_is_permitted(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot find a signature policy") as caught:
        policy.load([str(tmp_path / "a"), str(tmp_path / "b")])
    assert "insecureAcceptAnything" in caught.value.hint


def test_the_scopes_of_an_image_go_from_the_tag_to_the_domain() -> None:
    assert scopes_of("docker", "b.a.example:5000/x/y", "b.a.example:5000/x/y:1") == [
        "b.a.example:5000/x/y:1",
        "b.a.example:5000/x/y",
        "b.a.example:5000/x",
        "b.a.example:5000",
        "*.a.example",
        "*.example",
    ]
    assert scopes_of("containers-storage", "[overlay@/g]b.example/x", "[overlay@/g]b.example/x:1") == [
        "[overlay@/g]b.example/x:1",
        "[overlay@/g]b.example/x",
        "[overlay@/g]b.example",
        "[overlay@/g]",
        "[/g]",
    ]
    assert scopes_of("dir", "/srv/images/x", "/srv/images/x") == ["/srv/images/x", "/srv/images", "/srv"]
