"""What one engine puts into a graph root is there in the others."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from pyman.errors import AmbiguousId, ImageInUse, NoSuchImage, NotSupported
from supervisor.storage import bigdata, layers
from supervisor.storage.records import created_seconds
from tests.storage.images import CREATED, add_image, add_layer, busybox, tar_of
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.storage.store import Store
    from tests.storage.others import Others

pytestmark = [
    pytest.mark.peers("installed", "trixie"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(
        bool(missing("podman", "buildah", "skopeo")), reason=missing("podman", "buildah", "skopeo")
    ),
]


def test_an_image_of_ours_is_listed_run_and_copied_by_the_others(
    store: Store, others: Others, tmp_path: Path
) -> None:
    base = add_layer(store, busybox())
    top = add_layer(store, {"word": b"said"}, base.id)
    image = add_image(store, ["registry.example/app:1"], [base, top])
    (listed,) = others.images()
    assert listed["Id"] == image.id
    assert listed["Names"] == ["registry.example/app:1"]
    assert listed["Digest"] == image.digest
    assert listed["Created"] == int(created_seconds(CREATED))
    said = others.run_in("app:1", "read word </word; echo $word")
    assert said == "said"
    others.skopeo("copy", others.storage("registry.example/app:1"), f"dir:{tmp_path}/out")
    assert bigdata.digest_of((tmp_path / "out/manifest.json").read_bytes()) == image.digest
    assert others.podman("image", "tree", "app:1").count(" Size: ") == 2


def test_images_of_the_others_are_listed_with_their_layers(store: Store, others: Others) -> None:
    archive = tar_of(busybox())
    others.podman("import", "-", "localhost/base:1", stdin=archive)
    (image,) = store.images()
    assert image.names == ("localhost/base:1",)
    (layer,) = store.chain(image.top_layer)
    assert store.layers_with(diff_id=layer.diff_id) == [layer]
    assert layer.diff_size == len(archive)
    assert store.tar_split(layer)
    assert sorted(os.listdir(store.lower_dirs(layer.id)[0])) == ["bin", "etc"]
    config = json.loads(store.big_data(image, f"sha256:{image.id}"))
    assert config["rootfs"]["diff_ids"] == [layer.diff_id]
    others.podman("tag", "base:1", "base:2")
    assert set(store.resolve(image.id[:12]).names) == {"localhost/base:1", "localhost/base:2"}
    others.podman("rmi", "base:1", "base:2")
    assert not store.images()
    assert not store.layers()


def test_names_move_from_one_image_to_another(store: Store, others: Others) -> None:
    base = add_layer(store, busybox())
    first = add_image(store, ["registry.example/app:1", "registry.example/app:2"], [base])
    second = add_image(store, ["registry.example/app:2"], [base], command="other")
    assert store.image(first.id).names == ("registry.example/app:1",)
    assert store.resolve("registry.example/app:2") == second
    assert {image["Id"]: image["Names"] for image in others.images()} == {
        first.id: ["registry.example/app:1"],
        second.id: ["registry.example/app:2"],
    }
    store.remove_names(second.id, second.names)
    assert store.image(second.id).names_history == ("registry.example/app:2",)
    with pytest.raises(NoSuchImage):
        store.resolve("registry.example/app:2")


async def test_a_removed_image_leaves_what_others_share_and_no_trace_of_its_own(
    store: Store, others: Others
) -> None:
    base = add_layer(store, busybox())
    top = add_layer(store, {"word": b"said"}, base.id)
    first = add_image(store, ["registry.example/app:1"], [base])
    second = add_image(store, ["registry.example/app:2"], [base, top])
    removed = store.delete_image(second.id)
    assert [layer.id for layer in removed.layers] == [top.id]
    await store.sweep()
    assert [image["Id"] for image in others.images()] == [first.id]
    assert others.run_in("app:1", "echo here") == "here"
    store.delete_image(first.id)
    await store.sweep()
    assert not others.images()
    assert not store.images()
    assert not store.layers()
    assert os.listdir(others.root / "overlay/l") == []
    for kind in ("layers", "images"):
        left = set(os.listdir(others.root / f"overlay-{kind}"))
        assert left <= {f"{kind}.json", f"{kind}.lock", f"volatile-{kind}.json"}
    assert store.ground.intents() == []


def test_an_image_that_a_container_of_another_engine_uses_is_not_removed(
    store: Store, others: Others
) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    others.buildah("from", "--name", "working", "registry.example/app:1")
    assert [(each.names, each.image) for each in store.containers()] == [(("working",), image.id)]
    with pytest.raises(ImageInUse, match="working"):
        store.delete_image(image.id)


def test_a_short_id_that_fits_two_images_is_refused(store: Store) -> None:
    base = add_layer(store, busybox())
    names = [f"registry.example/app:{number}" for number in range(17)]
    ids = [add_image(store, [name], [base], command=name).id for name in names]
    first = next(id[0] for id in ids if sum(other[0] == id[0] for other in ids) > 1)
    with pytest.raises(AmbiguousId):
        store.resolve(first)


def test_a_layer_that_is_there_already_is_not_doubled(store: Store) -> None:
    content = busybox()
    first, second = add_layer(store, content), add_layer(store, content)
    assert first == second
    assert len(store.layers()) == 1
    assert len(store.ground.trash()) == 1


async def test_what_a_failed_pull_has_brought_is_taken_back(store: Store) -> None:
    base = add_layer(store, busybox())
    kept = add_image(store, ["registry.example/app:1"], [base])
    middle = add_layer(store, {"one": b"1"}, base.id)
    top = add_layer(store, {"two": b"2"}, middle.id)
    gone = store.delete_layers([base.id, middle.id, top.id])
    assert [layer.id for layer in gone] == [top.id, middle.id]
    assert [layer.id for layer in store.layers()] == [kept.top_layer]
    await store.sweep()
    assert store.ground.trash() == []


def test_the_images_of_another_driver_are_not_ours(open_store: Callable[..., Store], place: Path) -> None:
    store = open_store(driver="vfs")
    for act in (store.images, store.staging, lambda: store.resolve("app"), lambda: store.add_names("a", [])):
        with pytest.raises(NotSupported, match="vfs"):
            act()
    assert not store.containers()
    store.recover(())
    assert not (place / "root").exists()


def test_more_layers_than_can_be_mounted_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "DEPTH", 2)
    top = ""
    for number in range(3):
        top = add_layer(store, {"word": b"%d" % number}, top).id
    with pytest.raises(NotSupported, match="at most 2"):
        add_layer(store, {"word": b"more"}, top)
    assert len(store.layers()) == 3
