"""Podman changes the store while we do: nothing is lost, nothing is unmounted, and both see the same."""

from __future__ import annotations

import os
import secrets
import threading
from typing import TYPE_CHECKING

import pytest

from pyman.errors import StorageFailed
from supervisor.kernel import mounts
from tests.storage.images import add_image, add_layer, busybox, tar_of
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.storage.records import Layer
    from supervisor.storage.store import Store
    from tests.storage.others import Others

pytestmark = [
    pytest.mark.peers("installed", "trixie"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(missing("podman", "skopeo")), reason=missing("podman", "skopeo")),
]

ROUNDS = 8
THREADS = 3


class Work(threading.Thread):
    """One of those who change the store at once; `tell` raises what it has raised."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - raised again by tell
            self._failure = error

    def tell(self) -> None:
        if self._failure is not None:
            raise self._failure


async def test_podman_and_we_change_the_store_at_once(store: Store, others: Others) -> None:
    base = add_layer(store, busybox())
    kept = add_image(store, ["registry.example/kept:1"], [base])
    view = store.mount_image(kept.id).path
    container = store.add_container("c" * 64, ["web"], kept.id)
    root = store.layout.container_rootfs(container.id)
    os.makedirs(root)
    parts = store.writable(container.id)
    store.mounting(container.id, root)
    mounts.overlay(root, parts.lower, parts.upper, parts.work)
    archive = str(others.place / "archive.tar")
    others.podman("save", "-o", archive, "kept:1")
    running = threading.Event()

    def ours() -> None:
        running.wait()
        for number in range(ROUNDS * 3):
            layer: Layer = add_layer(store, {"word": secrets.token_bytes(8)}, base.id)
            name = f"registry.example/ours:{threading.get_ident()}-{number}"
            image = add_image(store, [name], [base, layer])
            other = store.add_container(secrets.token_hex(32), [], image.id)
            store.remove_container(other.id)
            if number % 3:
                store.delete_image(image.id)
            assert store.named("registry.example/kept:1") is not None

    def podmans() -> None:
        running.set()
        for number in range(ROUNDS):
            name = f"localhost/theirs:{number}"
            others.podman("import", "-", name, stdin=tar_of({"word": secrets.token_bytes(8)}))
            others.podman("load", "-i", archive)
            others.podman("images", check=False)  # it fails if one that it has listed is gone
            assert others.run_in("kept:1", "echo here") == "here"
            if number % 2:
                others.podman("rmi", name)

    workers = [Work(podmans), *(Work(ours) for _ in range(THREADS))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for worker in workers:
        worker.tell()
    assert {image["Id"] for image in others.images()} == {image.id for image in store.images()}
    assert len(store.images()) == 1 + ROUNDS // 2 + THREADS * ROUNDS
    assert store.problems() == []
    assert os.listdir(view)
    assert os.listdir(root)
    assert store.mounted_images()[0].path == view
    mounts.unmount(root)
    store.unmounted(container.id)
    assert not store.unmount_image(kept.id)
    await store.sweep()
    some = next(image for image in store.images() if any("ours" in name for name in image.names))
    others.skopeo("copy", others.storage(some.names[0]), f"dir:{others.place}/out")


def test_a_layer_whose_parent_another_engine_removes_meanwhile_is_refused(
    store: Store, others: Others
) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    others.podman("rmi", "app:1")
    with pytest.raises(StorageFailed, match="cannot find the layer"):
        add_layer(store, {"word": b"said"}, image.top_layer)
    assert store.layers() == []
    assert len(store.ground.staged()) == 1
