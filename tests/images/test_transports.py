"""Names of places that images come from and go to."""

from __future__ import annotations

import pytest

from pyman.errors import InvalidArgument, NotSupported
from supervisor.images.transports import places as transports
from supervisor.images.transports.places import Place

ID = "ab" * 32


@pytest.mark.parametrize(
    "text, place",
    [
        ("registry.example/a", Place("docker", name="registry.example/a:latest")),
        ("docker:1.0", Place("docker", name="docker.io/library/docker:1.0")),
        ("docker://registry.example:5000/a/b:c", Place("docker", name="registry.example:5000/a/b:c")),
        ("docker-archive:/a.tar", Place("docker-archive", "/a.tar")),
        ("docker-archive:/a.tar:b", Place("docker-archive", "/a.tar", "docker.io/library/b:latest")),
        ("docker-archive:/a.tar:@3", Place("docker-archive", "/a.tar", index=3)),
        ("oci-archive:/a.tar:v1", Place("oci-archive", "/a.tar", "v1")),
        ("oci:/srv/x", Place("oci", "/srv/x")),
        (
            "oci:/srv/x:registry.example:5000/y:1",
            Place("oci", "/srv/x", "registry.example:5000/y:1"),
        ),
        ("dir:/srv/with:colon", Place("dir", "/srv/with:colon")),
        ("containers-storage:a", Place("containers-storage", name="a")),
        (f"containers-storage:@{ID}", Place("containers-storage", name=ID)),
        (
            "containers-storage:[overlay@/g+/r:x.y=z]a:b",
            Place(
                "containers-storage", name="a:b", driver="overlay", graph_root="/g", run_root="/r",
                options=("x.y=z",),
            ),
        ),
        ("containers-storage:[/g]a", Place("containers-storage", name="a", graph_root="/g")),
    ],
)  # fmt: skip
def test_a_place_is_what_podman_takes_it_for(text: str, place: Place) -> None:
    assert transports.parse(text) == place
    assert transports.parse(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "docker://",
        "docker://UPPER",
        "dir:",
        "dir:relative",
        "oci:relative:name",
        "oci:/a:-bad-",
        "oci:/a:@x",
        "oci:/a:@" + "9" * 40,
        "oci:/a\0b",
        "docker-archive:/a:name@sha256:" + "a" * 64,
        "docker-archive:/a:UPPER",
        "containers-storage:",
        "containers-storage:[overlay@]a",
        "containers-storage:[overlay@/g",
        "containers-storage:[@/g]a",
        "containers-storage:[overlay@/g+r]a",
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        transports.parse(text)


@pytest.mark.parametrize("text", ["docker-daemon:alpine:latest", "ostree:a@/b", "sif:/a", "atomic:a"])
def test_transports_of_others_are_refused_by_name(text: str) -> None:
    with pytest.raises(NotSupported, match=text.partition(":")[0]):
        transports.parse(text)


def test_a_name_with_a_port_is_no_transport() -> None:
    assert not transports.has_transport("localhost:5000/a")
    assert not transports.has_transport("docker:latest")
    assert transports.has_transport("docker-daemon:a")
