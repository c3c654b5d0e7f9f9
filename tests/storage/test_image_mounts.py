"""Images are mounted, and counted together with the mounts of Podman's."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import WrongState
from supervisor.kernel import mounts
from supervisor.storage.store import MountedImage
from tests.storage.images import add_image, add_layer, busybox
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.storage.store import Store
    from tests.storage.others import Others

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(missing("podman")), reason=missing("podman")),
]


@pytest.mark.parametrize("depth", [1, 3])
def test_a_mounted_image_shows_its_files_and_is_read_only(store: Store, depth: int) -> None:
    chain = [add_layer(store, busybox())]
    while len(chain) < depth:
        chain.append(add_layer(store, {"etc/": b"", "etc/name": b"%d" % len(chain)}, chain[-1].id))
    image = add_image(store, [], chain)
    mounted = store.mount_image(image.id)
    assert mounted == MountedImage(image, f"{store.layout.tmp}/images/{chain[-1].id}/merged", 1)
    assert sorted(os.listdir(mounted.path)) == ["bin", "etc"]
    with pytest.raises(OSError, match="Read-only"):
        os.mkdir(f"{mounted.path}/new")
    assert store.mounted_images() == [mounted]
    assert not store.unmount_image(image.id)
    assert not mounts.mounted(mounted.path)
    assert store.mounted_images() == []
    with pytest.raises(WrongState):
        store.unmount_image(image.id)


def test_podman_and_we_count_the_same_mounts(store: Store, others: Others) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    path = store.mount_image(image.id).path
    assert others.podman("image", "mount", "app:1") == path
    assert store.mounted_images()[0].count == 2
    assert store.unmount_image(image.id)
    assert json.loads(others.podman("image", "mount", "--format", "json"))[0]["mountpoint"] == path
    others.podman("image", "unmount", "app:1")
    assert store.mounted_images() == []
    theirs = others.podman("image", "mount", "app:1")
    assert theirs == f"{store.root}/overlay/{image.top_layer}/merged"
    assert store.mount_image(image.id) == MountedImage(image, theirs, 2)
    assert not mounts.mounted(path)
    assert not store.unmount_image(image.id, force=True)
    assert not mounts.mounted(theirs)


def test_what_is_mounted_stays_while_podman_comes_and_goes(store: Store, others: Others) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    path = store.mount_image(image.id).path
    others.images()
    assert others.run_in("app:1", "echo here") == "here"
    assert mounts.mounted(path)
    store.delete_image(image.id)
    assert not mounts.mounted(path)
    assert not store.counts.read()


def test_an_image_without_layers_cannot_be_mounted(store: Store) -> None:
    image = add_image(store, [], [])
    with pytest.raises(WrongState, match="no layers"):
        store.mount_image(image.id)


@pytest.mark.skipif(bool(missing("fuse-overlayfs")), reason=missing("fuse-overlayfs"))
async def test_the_program_mounts_an_image_where_it_is_asked_for(open_store: Callable[..., Store]) -> None:
    store = open_store(options=(f"mount_program={shutil.which('fuse-overlayfs')}",))
    assert store.overlays.layer_form().whiteouts == "none"
    image = add_image(store, [], [add_layer(store, busybox())])
    mounted = await trio.to_thread.run_sync(store.mount_image, image.id)
    assert sorted(os.listdir(mounted.path)) == ["bin", "etc"]
    assert not await trio.to_thread.run_sync(store.unmount_image, image.id)
    assert not os.path.exists(mounted.path)
