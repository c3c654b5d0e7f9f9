"""A container of ours holds its image, and other engines see it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pyman.errors import ImageInUse, NameInUse, StorageFailed
from supervisor.kernel import mounts
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.storage.others import maps_of_others
from supervisor.storage.table import locked
from tests.storage.images import add_image, add_layer, busybox
from tests.storage.others import missing

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.storage.store import Store
    from tests.storage.others import Others

pytestmark = [
    pytest.mark.peers("installed", "trixie"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(missing("podman", "buildah")), reason=missing("podman", "buildah")),
]


def new_id() -> str:
    return secrets.token_hex(32)


def test_nobody_removes_the_image_under_a_container(store: Store, others: Others) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    id = new_id()
    store.add_container(id, ["web"], image.id, image_name="registry.example/app:1")
    with pytest.raises(ImageInUse, match="web"):
        store.delete_image(image.id)
    with pytest.raises(AssertionError, match="is in use"):
        others.podman("rmi", "app:1")
    assert json.loads(others.podman("ps", "--all", "--external", "--format", "json"))[0]["Id"] == id
    assert store.remove_container(id)
    assert not store.remove_container(id)
    others.podman("rmi", "app:1")
    assert not store.layers()


def test_what_a_container_writes_is_in_a_layer_upon_the_images(store: Store) -> None:
    base = add_layer(store, busybox())
    top = add_layer(store, {"etc/": b"", "etc/name": b"changed"}, base.id)
    image = add_image(store, [], [base, top])
    id = new_id()
    container = store.add_container(id, ["web"], image.id)
    assert store.add_container(id, ["web"], image.id) == container
    writable = store.writable(id)
    assert [path.split("/")[-2] for path in writable.lower] == [top.id, base.id]
    assert os.stat(writable.upper).st_mode & 0o7777 == os.stat(writable.lower[0]).st_mode & 0o7777
    merged = store.layout.container_rootfs(id)
    os.makedirs(merged)
    store.mounting(id, merged)
    mounts.overlay(merged, writable.lower, writable.upper, writable.work)
    with open(f"{merged}/etc/name", encoding="ascii") as file:
        assert file.read() == "changed"
    with open(f"{merged}/word", "w", encoding="ascii") as file:
        file.write("said")
    mounts.unmount(merged)
    store.unmounted(id)
    assert os.listdir(writable.upper) == ["word"]


def test_another_engine_does_not_remove_the_layer_of_a_container_that_is_mounted(
    store: Store, others: Others
) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    id = new_id()
    store.add_container(id, ["web"], image.id)
    store.mounting(id, store.layout.container_rootfs(id))
    with pytest.raises(AssertionError, match="mounted"):
        others.podman("rm", "web")
    # Podman runs and ends meanwhile, and writes the counts down again.
    assert others.run_in("app:1", "echo here") == "here"
    assert [count.path for count in store.counts.read().values()] == [store.layout.container_rootfs(id)]
    store.unmounted(id)
    others.podman("rm", "web")
    assert store.find_container(id) is None
    with pytest.raises(StorageFailed):
        store.writable(id)


def test_a_container_in_a_user_namespace_has_its_own_root_and_says_which_ids_it_uses(store: Store) -> None:
    image = add_image(store, [], [add_layer(store, busybox())])
    id = new_id()
    maps = IdMaps((IdRange(0, 100000, 1024),), (IdRange(0, 100000, 1024),))
    store.add_container(id, ["web"], image.id, owner=(100000, 100000), maps=maps)
    assert os.stat(store.writable(id).upper).st_uid == 100000
    assert maps_of_others(store.root) == [maps]


def test_the_name_of_another_engines_container_is_taken(store: Store, others: Others) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    others.buildah("from", "--name", "working", "registry.example/app:1")
    with pytest.raises(NameInUse, match="working"):
        store.add_container(new_id(), ["working"], image.id)
    id = new_id()
    store.add_container(id, ["web"], image.id)
    assert [container.names for container in store.containers()] == [("working",), ("web",)]


def test_a_container_of_no_image_has_a_layer_upon_nothing(store: Store) -> None:
    id = new_id()
    store.add_container(id, [], "")
    writable = store.writable(id)
    assert writable.lower == [f"{os.path.dirname(writable.upper)}/empty"]
    assert os.listdir(*writable.lower) == []
    assert store.remove_container(id)
    assert not store.containers()


def test_a_container_whose_layer_another_engine_has_removed_gets_a_new_one(
    store: Store, others: Others
) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    id = new_id()
    store.add_container(id, ["web"], image.id)
    others.podman("rm", "--force", "web")
    assert store.find_container(id) is None
    store.add_container(id, ["web"], image.id)
    assert store.writable(id).lower == store.lower_dirs(image.top_layer)


def test_a_container_starts_and_ends_while_another_engine_unpacks(store: Store) -> None:
    image = add_image(store, [], [add_layer(store, busybox())])
    container = store.add_container(new_id(), ["web"], image.id)
    with locked(f"{store.root}/overlay-layers/layers.lock"):
        store.mounting(container.id, "/somewhere")
        assert store.counts.read()[container.layer].path == "/somewhere"
        assert store.images() == [image]
        store.unmounted(container.id)
    assert not store.counts.read()


def test_all_of_it_works_in_the_namespace_of_an_ordinary_users_engine(place: Path) -> None:
    argv = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        sys.executable,
        "-m",
        "tests.storage.in_namespace",
    ]
    done = subprocess.run([*argv, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
