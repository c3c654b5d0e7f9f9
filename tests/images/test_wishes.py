"""What a push compresses with: what was asked for, what containers.conf says, what the place takes."""

from __future__ import annotations

import pytest

from pyman.errors import InvalidArgument
from supervisor.images.formats.manifests import DOCKER_MANIFEST, OCI_MANIFEST
from supervisor.images.transfer.wishes import Wish, check_wish, compression_for, level_for


@pytest.mark.parametrize(
    ("wish", "preferred", "types", "compression"),
    [
        (Wish(), "gzip", (), "gzip"),
        (Wish(usual="zstd"), "gzip", (), "zstd"),
        (Wish(usual="zstd"), "gzip", (DOCKER_MANIFEST, OCI_MANIFEST), "zstd"),
        (Wish(usual="zstd"), "gzip", (DOCKER_MANIFEST,), "gzip"),
        (Wish(usual="zstd", format="v2s2"), "gzip", (), "gzip"),
        (Wish(usual="zstd", format="oci"), "gzip", (), "zstd"),
        (Wish(usual="zstd"), "none", (), "none"),
        (Wish(usual="zstd", compression="gzip"), "gzip", (), "gzip"),
        (Wish(usual="zstd", compression="none"), "gzip", (), "none"),
        (Wish(usual="gzip", compression="zstd"), "none", (), "zstd"),
    ],
)
def test_what_was_asked_for_wins_over_what_is_usual_which_is_for_places_that_compress(
    wish: Wish, preferred: str, types: tuple[str, ...], compression: str
) -> None:
    assert compression_for(wish, preferred, types) == compression


def test_a_usual_level_counts_where_there_is_such_a_level() -> None:
    assert level_for(Wish(usual_level=19), "zstd") == 19
    assert level_for(Wish(usual_level=19), "gzip") is None
    assert level_for(Wish(usual_level=5, level=7), "gzip") == 7
    assert level_for(Wish(usual_level=5), "none") is None
    with pytest.raises(InvalidArgument, match="the level 19"):
        level_for(Wish(level=19), "gzip")


def test_a_level_is_looked_at_in_the_light_of_what_is_usual() -> None:
    check_wish(Wish(usual="zstd", level=19))
    check_wish(Wish(force=True))
    with pytest.raises(InvalidArgument, match="the level 19"):
        check_wish(Wish(usual="gzip", level=19))
