"""Which image a name means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyman.errors import AmbiguousId, InvalidArgument, NoSuchImage
from supervisor.images.names import Names, local_candidates, normalized
from supervisor.registry import reference
from supervisor.storage.records import Image

if TYPE_CHECKING:
    from supervisor.registry.reference import Reference

DIGEST = "sha256:" + "d" * 64


def image(letters: str, *names: str, digest: str = "") -> Image:
    return Image(id=letters.ljust(64, "0"), names=names, digest=digest)


def candidates(short: Reference) -> list[Reference]:
    alias = reference.parse("registry.example/org/aliased") if short.path == "known" else None
    return local_candidates(short, alias=alias, search=["quay.example"])


def names_of(*images: Image) -> Names:
    return Names(images, candidates)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("library/alpine", "docker.io/library/alpine:latest"),
        ("own", "localhost/own:latest"),
        ("app", "quay.example/app:latest"),
        ("known:2", "registry.example/org/aliased:2"),
        ("app:1", "localhost:5000/team/app:1"),
        ("team/app:1", "localhost:5000/team/app:1"),
        ("localhost:5000/team/app:1", "localhost:5000/team/app:1"),
        (f"localhost:5000/team/app:1@{DIGEST}", "localhost:5000/team/app:2"),
        (f"team/app@{DIGEST}", "localhost:5000/team/app:2"),
        ("containers-storage:alpine", "docker.io/library/alpine:latest"),
    ],
)
def test_a_name_is_found_in_every_form(text: str, there: str) -> None:
    wanted = image("a1", there, digest=DIGEST)
    names = names_of(image("b1", "registry.example/other:latest", digest=DIGEST), wanted)
    assert names.find(text).image == wanted


def test_localhost_comes_before_the_registries_and_docker_io_last() -> None:
    local, searched, docker = (
        image("a", "localhost/x:latest"),
        image("b", "quay.example/x:latest"),
        image("c", "docker.io/library/x:latest"),
    )
    assert names_of(docker, searched, local).find("x").image == local
    assert names_of(docker, searched).find("x").image == searched
    assert names_of(docker).find("x").name == "docker.io/library/x:latest"


def test_a_full_name_is_looked_for_nowhere_else() -> None:
    with pytest.raises(NoSuchImage):
        names_of(image("a", "localhost/x:latest")).find("quay.example/x")


def test_a_digest_of_another_repository_is_not_taken() -> None:
    with pytest.raises(NoSuchImage):
        names_of(image("a", "localhost/x:latest", digest=DIGEST)).find(f"localhost/y@{DIGEST}")


def test_ids_are_found_whole_by_their_beginning_and_after_names() -> None:
    one, two = image("abc1"), image("abd2", "localhost/abc:latest")
    names = names_of(one, two)
    assert names.find(one.id).image == one
    assert names.find(f"sha256:{one.id}").image == one
    assert names.find("abc1").by_id
    assert names.find("abc").image == two
    assert not names.find("abc").by_id


def test_a_beginning_that_fits_several_ids_is_ambiguous() -> None:
    with pytest.raises(AmbiguousId, match="2 ids begin so") as caught:
        names_of(image("abc1"), image("abc2")).find("abc")
    assert caught.value.hint == "abc100000000, abc200000000"


@pytest.mark.parametrize("text", ["nothing", "Capitals", "f" * 64, f"sha256:{'f' * 64}", "a//b", "é"])
def test_what_is_not_there_is_said_so(text: str) -> None:
    with pytest.raises(NoSuchImage, match="cannot find the image"):
        names_of(image("a", "localhost/x:latest")).find(text)


def test_a_short_digest_is_no_name() -> None:
    with pytest.raises(InvalidArgument, match="64 digits"):
        names_of().find("sha256:abc")


def test_names_in_the_store_that_are_none_do_no_harm() -> None:
    odd = image("a", "NOT A NAME", "localhost/x:latest")
    assert names_of(odd).find("x").image == odd
    with pytest.raises(NoSuchImage):
        names_of(odd).find("zzz")


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("x", "localhost/x:latest"),
        ("org/x:1", "localhost/org/x:1"),
        ("docker.io/x", "docker.io/library/x:latest"),
        ("registry.example:5000/x", "registry.example:5000/x:latest"),
        (f"registry.example/x:1@{DIGEST}", f"registry.example/x@{DIGEST}"),
    ],
)
def test_a_new_name_is_made_full(text: str, full: str) -> None:
    assert str(normalized(text)) == full


@pytest.mark.parametrize("text", ["", "X", DIGEST, "a b"])
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        normalized(text)
