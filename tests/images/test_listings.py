"""Manifest lists in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyman.errors import InvalidArgument
from supervisor.images.formats import listings
from supervisor.images.formats.config import ImageConfig
from supervisor.images.formats.manifests import (
    DOCKER_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    MemberPlatform,
    decode_index,
)
from supervisor.images.transports.transport import Blob

if TYPE_CHECKING:
    from supervisor.images.formats.manifests import (
        Member,
    )

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
ARM = ImageConfig(architecture="arm64", os="linux", variant="v8")


def _member(digest: str) -> Member:
    return listings.member_of(Blob(digest, 7, OCI_MANIFEST), ARM)


def test_a_member_is_for_the_machine_that_its_image_is_for() -> None:
    assert str(_member(ONE).platform) == "linux/arm64/v8"
    assert listings.member_of(Blob(ONE, 7, OCI_MANIFEST), None).platform == MemberPlatform()


def test_a_member_that_is_added_again_is_there_once() -> None:
    index = listings.added(listings.added(listings.EMPTY, [_member(ONE), _member(TWO)]), [_member(ONE)])
    assert [member.blob.digest for member in index.members] == [TWO, ONE]


def test_what_a_list_says_decides_its_form() -> None:
    index = listings.added(listings.EMPTY, [_member(ONE)])
    assert listings.written(listings.EMPTY).media_type == DOCKER_LIST
    assert listings.written(index).media_type == OCI_INDEX
    features = MemberPlatform(features=["sse4"])
    docker = listings.annotated(index, ONE, "l", platform=features, annotations={})
    assert listings.written(docker).media_type == DOCKER_LIST
    both = listings.annotated(docker, ONE, "l", platform=MemberPlatform(), annotations={"a": "b"})
    assert listings.written(both).media_type == OCI_INDEX


def test_an_annotation_changes_what_it_names_alone() -> None:
    index = listings.added(listings.EMPTY, [_member(ONE), _member(TWO)])
    wish = MemberPlatform(variant="v9", os_version="7")
    changed = listings.annotated(index, TWO, "l", platform=wish, annotations={"a": "b"})
    assert changed.members[0] == index.members[0]
    assert str(changed.members[1].platform) == "linux/arm64/v9"
    assert changed.members[1].platform.os_version == "7"
    written = decode_index(listings.written(changed))
    assert written.members[1].blob.annotations == {"a": "b"}
    shown = listings.described(changed)
    assert shown["manifests"][1]["annotations"] == {"a": "b"}
    assert shown["manifests"][1]["platform"]["os.version"] == "7"


def test_a_member_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidArgument, match=f"{ONE} in the manifest list 'l'"):
        listings.removed(listings.EMPTY, ONE, "l")
    left = listings.removed(listings.added(listings.EMPTY, [_member(ONE), _member(TWO)]), ONE, "l")
    assert [member.blob.digest for member in left.members] == [TWO]
