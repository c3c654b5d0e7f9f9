"""What is told of images is what Podman tells of the same ones, be it an old one or a new one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.image import Platform
from pyman.errors import InvalidArgument, NoSuchImage
from supervisor.images import inspecting, listing
from supervisor.images.names import local_candidates
from supervisor.images.view import Reader
from supervisor.kernel import mounts
from supervisor.settings.layout import Layout
from supervisor.settings.load import Options, load
from supervisor.storage.overlay import Overlays
from supervisor.storage.store import Store
from tests.storage.images import busybox, tar_of
from tests.storage.others import Others, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.images.view import View
    from tests.support.runtimes import Place

pytestmark = [
    pytest.mark.peers("installed", "trixie"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(missing("podman", "buildah")), reason=missing("podman", "buildah")),
]

CONTAINERFILE = """\
FROM localhost/base:1
LABEL maker=tests org.example/kind=one
ENV WORD=said
EXPOSE 80/tcp 53/udp
VOLUME /data
USER 7:8
WORKDIR /data
STOPSIGNAL SIGINT
COPY file /file
ENTRYPOINT ["sh", "-c"]
CMD ["echo hello"]
"""


@contextmanager
def opened_store(place: Path) -> Iterator[Store]:
    options = Options(root=str(place / "root"), runroot=str(place / "run"), tmpdir=str(place / "pyman"))
    environ = {"HOME": str(place), "XDG_RUNTIME_DIR": str(place), "CONTAINERS_CONF": "/dev/null"}
    settings = load(options, environ, 0)
    layout = Layout.of(settings)
    store = Store(layout, settings, Overlays(settings, layout))
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(scope="module")
def filled(peer: Place) -> Iterator[Others]:
    """For the whole module: what a test changes it changes back."""
    place = Path(tempfile.mkdtemp(prefix="pyst-", dir="/tmp"))
    others = Others(place, around=peer)
    try:
        others.podman(
            "import", "-c", "CMD sh", "-m", "by hand", "-", "localhost/base:1", stdin=tar_of(busybox())
        )
        (place / "file").write_text("content")
        (place / "Containerfile").write_text(CONTAINERFILE)
        build = ["build", "--isolation", "chroot", "--network", "host", f"--file={place}/Containerfile"]
        others.buildah(*build, "--layers", "-t", "registry.example/org/app:1", str(place))
        others.buildah(*build, "--format", "docker", "-t", "localhost/docker:1", str(place))
        others.podman("tag", "registry.example/org/app:1", "app:2")
        others.podman("manifest", "create", "localhost/list:1", "containers-storage:localhost/base:1")
        yield others
    finally:
        for point in mounts.mounts_below(str(place)):
            mounts.unmount(point, lazy=True)
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def store(filled: Others) -> Iterator[Store]:
    with opened_store(filled.place) as opened:
        yield opened


@pytest.fixture
def reader(store: Store) -> Reader:
    return Reader(store, lambda short: local_candidates(short, alias=None, search=()))


def listed(view: View, filters: dict[str, list[str]], *, every: bool = False) -> list[dict[str, Any]]:
    found = listing.listed(view, filters, (), lambda _id: True, intermediate=every)
    return [msgspec.to_builtins(image) for image in found]


def test_the_list_is_podmans(reader: Reader, filled: Others) -> None:
    view = reader.view()
    ours = {image["id"]: image for image in listed(view, {}, every=True)}
    theirs = {image["Id"]: image for image in filled.images()}
    assert ours.keys() == theirs.keys()
    for id, image in theirs.items():
        mine = ours[id]
        assert mine["names"] == (image.get("Names") or [])
        assert mine["repo_digests"] == (image["RepoDigests"] or [])
        assert mine["digest"] == image["Digest"]
        assert mine["parent_id"] == image["ParentId"]
        assert mine["created"] == image["Created"]
        assert mine["size"] == image["Size"]
        assert mine["labels"] == (image["Labels"] or {})
        assert mine["containers"] == image["Containers"]
        assert mine["dangling"] == bool(image.get("Dangling"))
        assert mine["history"] == (image.get("History") or [])
    shown = json.loads(filled.podman("images", "--format", "json"))
    assert {image["id"] for image in listed(view, {})} == {image["Id"] for image in shown}
    assert len(shown) < len(theirs), "there is an intermediate image"


@pytest.mark.parametrize("name", ["localhost/base:1", "registry.example/org/app:1", "localhost/docker:1"])
def test_the_document_is_podmans(reader: Reader, filled: Others, name: str) -> None:
    (theirs,) = json.loads(filled.podman("image", "inspect", name))
    view = reader.view()
    ours = json.loads(msgspec.json.encode(inspecting.document(view, view.find(name).image, "")))
    assert list(ours) == list(theirs)
    assert ours == theirs


def test_the_history_is_podmans(reader: Reader, filled: Others) -> None:
    theirs = json.loads(filled.podman("history", "--no-trunc", "--format", "json", "org/app:1"))
    view = reader.view()
    ours = inspecting.history(view, view.find("org/app:1").image)
    assert [step.id or "<missing>" for step in ours] == [step["id"] for step in theirs]
    assert [step.created_by for step in ours] == [step["CreatedBy"] for step in theirs]
    assert [step.size for step in ours] == [step["size"] for step in theirs]
    assert "localhost/app:2" in ours[0].tags


FILTERS = [
    {"reference": ["app"]},
    {"reference": ["org/app:1"]},
    {"reference": ["*/*app*"]},
    {"reference": ["registry.example/*/*"]},
    {"reference": ["localhost/*"]},
    {"reference": ["registry.example/org/app:1"]},
    {"label": ["maker"]},
    {"label": ["maker=tests"]},
    {"label": ["maker=others"]},
    {"dangling": ["true"]},
    {"dangling": ["false"]},
    {"intermediate": ["true"]},
    {"readonly": ["true"]},
    {"readonly": ["false"]},
    {"containers": ["true"]},
    {"containers": ["false"]},
    {"before": ["localhost/docker:1"]},
    {"since": ["localhost/base:1"]},
    {"until": ["1h"]},
    {"label": ["maker=tests"], "reference": ["app*"]},
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_are_podmans(reader: Reader, filled: Others, filters: dict[str, list[str]]) -> None:
    words = [f"--filter={key}={value}" for key, values in filters.items() for value in values]
    every = ["--all"] if "intermediate" in filters else []
    theirs = json.loads(filled.podman("images", "--format", "json", *every, *words))
    assert {image["id"] for image in listed(reader.view(), filters)} == {image["Id"] for image in theirs}


@pytest.mark.peers("trixie")
def test_filters_that_old_podmans_do_not_know_are_those_of_new_ones(reader: Reader, filled: Others) -> None:
    (app,) = listed(reader.view(), {"reference": ["app:1"]})
    for filters in (
        {"digest": [app["digest"]]},
        {"digest": [app["digest"][:12]]},
        {"id": [app["id"][:10]]},
        {"manifest": ["true"]},
        {"manifest": ["false"]},
        {"reference!": ["app"]},
        {"reference!": ["localhost/*"]},
        {"label!": ["maker"]},
        {"label!": ["maker=tests"]},
    ):
        words = [f"--filter={key}={value}" for key, values in filters.items() for value in values]
        theirs = json.loads(filled.podman("images", "--format", "json", *words))
        ours = listed(reader.view(), filters)
        assert {image["id"] for image in ours} == {image["Id"] for image in theirs}, filters


def test_an_image_that_no_container_of_another_engine_uses_is_found_as_such(reader: Reader) -> None:
    """Podman knows the filter, and cannot answer it."""
    view = reader.view()
    assert listed(view, {"containers": ["external"]}) == listed(view, {})


def test_a_query_for_one_full_name_shows_that_name_alone(reader: Reader) -> None:
    (image,) = listed(reader.view(), {"reference": ["localhost/app:2"]})
    assert image["names"] == ["localhost/app:2"]
    (image,) = listed(reader.view(), {"reference": ["app:2"]})
    assert sorted(image["names"]) == ["localhost/app:2", "registry.example/org/app:1"]


@pytest.mark.parametrize(
    "filters",
    [
        {"nothing": ["x"]},
        {"dangling": ["perhaps"]},
        {"dangling": ["true", "false"]},
        {"digest": ["abc"]},
        {"before": ["nothing"]},
        {"until": ["yesterday"]},
    ],
)
def test_filters_that_cannot_be_meant_are_refused(store: Store, filters: dict[str, list[str]]) -> None:
    view = Reader(store, lambda _short: ()).view()
    with pytest.raises(InvalidArgument, match=r"^cannot filter"):
        listed(view, filters)


def test_a_manifest_list_is_its_member_for_this_machine_or_itself(reader: Reader) -> None:
    view = reader.view()
    base = view.find("localhost/base:1").image
    assert view.find("localhost/list:1").image == base
    kept = view.find("localhost/list:1", lists="keep").image
    assert kept.names == ("localhost/list:1",)
    assert view.find("localhost/list:1", lists="only").image == kept
    with pytest.raises(InvalidArgument, match="as a manifest list"):
        view.find("localhost/base:1", lists="only")
    with pytest.raises(NoSuchImage, match="not made for linux/s390x"):
        view.find("localhost/list:1", Platform("linux", "s390x"))
    assert view.find("localhost/list:1", Platform("linux", "s390x"), lists="prefer").image == kept
    with pytest.raises(NoSuchImage, match="for linux/s390x here"):
        view.find("localhost/base:1", Platform("linux", "s390x"))


def test_a_tree_goes_from_the_base_upwards(reader: Reader) -> None:
    view = reader.view()
    app, base = view.find("org/app:1").image, view.find("localhost/base:1").image
    tree = inspecting.tree(view, app, whatrequires=False)
    assert [layer.id for layer in tree.layers] == [layer.id for layer in view.chain(app)[::-1]]
    assert "localhost/base:1" in tree.layers[0].top_of
    assert tree.layers[0].parent == ""
    above = inspecting.tree(view, base, whatrequires=True).layers
    assert above[0].id == base.top_layer
    assert {layer.parent for layer in above[1:]} <= {layer.id for layer in above}
    assert len(above) == len(view.layers)


def test_a_view_is_made_anew_only_when_somebody_has_changed_the_store(reader: Reader, filled: Others) -> None:
    first = reader.view()
    assert reader.view() is first
    filled.podman("tag", "localhost/base:1", "base:2")
    assert reader.view().find("base:2").image.id == first.find("base:1").image.id
    filled.podman("untag", "localhost/base:1", "base:2")


def test_a_damaged_image_hides_no_other(reader: Reader, store: Store) -> None:
    view = reader.view()
    app = view.find("org/app:1").image
    documents = sorted(Path(f"{store.root}/overlay-images/{app.id}").iterdir())
    kept = [path.read_bytes() for path in documents]
    for path in documents:
        path.write_bytes(b"{")
    fresh = Reader(store, lambda _short: ()).view()
    listing_now = {image["id"]: image for image in listed(fresh, {}, every=True)}
    for path, content in zip(documents, kept, strict=True):
        path.write_bytes(content)
    assert listing_now.keys() == {image.id for image in view.images}
    assert listing_now[app.id]["labels"] == {}
