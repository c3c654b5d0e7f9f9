"""Images of additional stores are there, too, and their stores are only read."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from pyman.errors import ImageInUse, InvalidArgument
from supervisor.settings.load import Options, load
from tests.storage.images import add_image, add_layer, busybox
from tests.storage.others import Others, missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.storage.records import Image
    from supervisor.storage.store import Store
    from tests.support import runtimes

pytestmark = [
    pytest.mark.peers("installed", "trixie"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(missing("podman")), reason=missing("podman")),
]


@pytest.fixture
def shared(open_store: Callable[..., Store], place: Path, others: Others) -> tuple[Image, str]:
    """An image in a store of its own, and that store."""
    first = open_store()
    image = add_image(first, ["registry.example/app:1"], [add_layer(first, busybox())])
    others.images()
    os.rename(others.root, place / "shared")
    return image, str(place / "shared")


@pytest.fixture
def store(open_store: Callable[..., Store], shared: tuple[Image, str]) -> Store:
    return open_store(options=(f"additionalimagestore={shared[1]}",))


def test_its_images_are_found_and_not_removed(store: Store, shared: tuple[Image, str]) -> None:
    (image,) = store.images()
    assert (image.id, image.store, image.read_only) == (shared[0].id, shared[1], True)
    assert store.resolve("registry.example/app:1") == image
    assert store.chain(image.top_layer)[0].read_only
    assert store.big_data(image, "manifest")
    with pytest.raises(ImageInUse, match="only read"):
        store.delete_image(image.id)


def test_images_and_containers_lie_upon_its_layers(
    store: Store, shared: tuple[Image, str], place: Path, peer: runtimes.Place
) -> None:
    base = store.layer(shared[0].top_layer)
    top = add_layer(store, {"word": b"said"}, base.id)
    image = add_image(store, ["registry.example/app:2"], [base, top])
    assert store.lower_dirs(top.id)[1].startswith(shared[1])
    container = store.add_container("c" * 64, ["web"], shared[0].id)
    assert store.writable(container.id).lower == store.lower_dirs(base.id)
    option = ["--storage-opt", f"additionalimagestore={shared[1]}"]
    said = Others(place, option, around=peer).run_in("app:2", "read word </word; echo $word")
    assert said == "said"
    store.delete_image(image.id)
    assert not store.problems()


def test_with_another_name_it_becomes_an_image_of_the_own_store(
    store: Store, shared: tuple[Image, str]
) -> None:
    image = store.add_names(shared[0].id, ["registry.example/app:2"])
    assert not image.read_only
    assert store.image(image.id).names == ("registry.example/app:1", "registry.example/app:2")
    assert store.big_data(image, "manifest")
    assert len(store.images()) == 1
    removed = store.delete_image(image.id)
    assert removed.layers == []
    assert store.images()[0].read_only


def test_it_is_never_written_to(store: Store, shared: tuple[Image, str]) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{shared[1]}/pyman"], check=True)
    subprocess.run(["mount", "--bind", "-o", "ro", shared[1], shared[1]], check=True)
    try:
        add_layer(store, {"word": b"said"}, shared[0].top_layer)
        mounted = store.mount_image(shared[0].id)
        assert os.listdir(mounted.path)
        assert not store.unmount_image(shared[0].id)
        assert not os.path.exists(os.path.dirname(mounted.path))
        store.add_names(shared[0].id, ["registry.example/app:2"])
    finally:
        subprocess.run(["umount", "-l", "-R", shared[1]], check=True)


@pytest.mark.parametrize("name", ["additionalimagestore", "overlay.imagestore"])
def test_an_option_names_several(place: Path, name: str) -> None:
    environ = {"HOME": str(place), "XDG_RUNTIME_DIR": str(place), "CONTAINERS_CONF": "/dev/null"}
    with pytest.raises(InvalidArgument, match="absolute"):
        load(Options(root="/r", storage_opt=(f"{name}=/one,two",)), environ, 0)
