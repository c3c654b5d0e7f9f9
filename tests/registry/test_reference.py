"""What users write as the name of an image, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.errors import InvalidArgument
from supervisor.registry.reference import (
    NAME_LIMIT,
    Reference,
    is_digest,
    is_domain,
    is_short,
    parse,
    parse_short,
)

DIGEST = f"sha256:{'0123456789abcdef' * 4}"

domains = st.sampled_from(
    ["docker.io", "localhost", "localhost:5000", "registry.example", "Registry.Example:443", "[::1]:80"]
)
path_parts = st.from_regex(r"\A[a-z0-9]{1,9}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,9}){0,2}\Z")
paths = st.lists(path_parts, min_size=1, max_size=4).map("/".join)
tags = st.just("") | st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
digests = st.sampled_from(["", DIGEST, f"sha512:{'ab' * 64}"])
references = st.builds(Reference, domains, paths, tags, digests)


@pytest.mark.parametrize(
    "text, full, familiar",
    [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("org/app", "docker.io/org/app", "org/app"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("registry.example/app", "registry.example/app", "registry.example/app"),
        ("Registry.Example/app", "Registry.Example/app", "Registry.Example/app"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:1@{DIGEST}", f"docker.io/library/alpine:1@{DIGEST}", f"alpine:1@{DIGEST}"),
        ("a__b/c--d:_x", "docker.io/a__b/c--d:_x", "a__b/c--d:_x"),
        ("host:5000/a", "host:5000/a", "host:5000/a"),
    ],
)
def test_a_name_is_made_full_and_printed_familiar(text: str, full: str, familiar: str) -> None:
    assert str(parse(text)) == full
    assert parse(text).familiar == familiar


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "it is empty"),
        ("Alpine", "lower case"),
        ("registry.example/App", "lower case"),
        ("docker://alpine", "no scheme"),
        (" alpine", "white space"),
        ("alpine:", "PATH"),
        ("alpine:-x", "PATH"),
        (f"alpine:{'x' * 129}", "PATH"),
        ("alpine@sha256:12", "PATH"),
        (f"alpine@sha256:{'A' * 64}", "digest"),
        (f"alpine@md5:{'a' * 32}", "digest"),
        ("a//b", "PATH"),
        ("/a", "PATH"),
        ("a/", "PATH"),
        ("a..b", "PATH"),
        ("a___b", "PATH"),
        ("registry.example:port/a", "PATH"),
        ("alpine\n", "white space"),
        ("ａlpine", "PATH"),
        ("under_score.example/a", "not a host"),
        (f"registry.example/{'a/' * 150}a", "longer than 255"),
        ("x" * 10_000, "too long"),
        ("a" * 64, "id"),
    ],
)
def test_what_is_no_name_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^cannot use ") as caught:
        parse(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["alpine", "org/app:1", f"org/app@{DIGEST}", "a/b/c"])
def test_a_name_without_a_registry_is_short(text: str) -> None:
    assert is_short(text)
    assert str(parse_short(text)) == text
    assert parse_short(text).domain == ""


@pytest.mark.parametrize("text", ["docker.io/alpine", "localhost/a", "host:5000/a", "registry.example/a/b:1"])
def test_a_name_with_a_registry_is_not_short(text: str) -> None:
    assert not is_short(text)


@given(references)
def test_a_full_name_is_read_as_it_is_printed(reference: Reference) -> None:
    if len(reference.name) > NAME_LIMIT:
        return
    full = parse(str(reference))
    assert parse(str(full)) == full
    assert parse_short(str(reference)) == reference


@given(references)
def test_the_familiar_form_means_the_same(reference: Reference) -> None:
    if len(reference.name) > NAME_LIMIT - 20:
        return
    full = parse(str(reference))
    familiar = full.familiar
    directory = full.path.partition("/")[0]
    if full.domain == "docker.io" and ("." in directory or directory == "localhost"):
        return  # a directory that looks like a host; Docker reads that differently, too
    if full.name_only and len(familiar) == 64:
        return
    assert parse(familiar) == full


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except InvalidArgument:
        return
    assert parse(str(found)) == found
    assert found.domain
    assert len(found.name) <= NAME_LIMIT


def test_latest_is_added_only_where_nothing_is_said() -> None:
    assert str(parse("a").tagged()) == "docker.io/library/a:latest"
    assert str(parse("a:1").tagged()) == "docker.io/library/a:1"
    assert str(parse(f"a@{DIGEST}").tagged()) == f"docker.io/library/a@{DIGEST}"
    assert str(parse(f"a:1@{DIGEST}").bare()) == "docker.io/library/a"
    assert str(parse(f"a:1@{DIGEST}").with_tag("2")) == "docker.io/library/a:2"
    assert str(parse("a:1").with_digest(DIGEST)) == f"docker.io/library/a@{DIGEST}"


def test_a_tag_or_digest_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="tag"):
        parse("a").with_tag("-")
    with pytest.raises(InvalidArgument, match="digest"):
        parse("a").with_digest("sha256:1")


def test_digests_and_domains_are_told_from_what_looks_like_them() -> None:
    assert is_digest(DIGEST)
    assert not is_digest(DIGEST.upper())
    assert not is_digest("sha256:")
    assert not is_digest("")
    assert is_domain("registry.example:5000")
    assert not is_domain("registry.example/a")
    assert not is_domain("-x")
