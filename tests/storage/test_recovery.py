"""A supervisor may be killed at any instant of a change: what it leaves is read by all, and cleared away."""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pyman.errors import NoSuchImage
from supervisor.kernel import mounts
from supervisor.storage import layers, table
from supervisor.storage.records import INCOMPLETE
from tests.storage.images import add_image, add_layer, busybox, fill, tar_of
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.storage.records import Image, Layer
    from supervisor.storage.store import Store
    from tests.storage.others import Others

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(missing("podman")), reason=missing("podman")),
]

_STEPS = ("chmod", "fdatasync", "mkdir", "open", "pwrite", "rename", "rmdir", "symlink", "unlink", "write")
"""What changes something on the disk."""
_KILLED = 9


def killed_at(number: int, act: Callable[[], None]) -> bool:
    """Do something in a process that dies before its so many-th change; whether it died."""
    pid = os.fork()
    if pid == 0:
        left = number

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if not left:
                    os._exit(_KILLED)
                return real(*args, **options)

            return call

        for name in _STEPS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            act()
        except BaseException:  # noqa: BLE001 - told by the exit status
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, _KILLED)
    return status == _KILLED


def tree(root: Path) -> set[str]:
    """Everything in the store but what changes with every use of it."""
    found = set()
    for directory in ("overlay", "overlay/l", "overlay-layers", "overlay-images", "overlay-containers"):
        names = os.listdir(root / directory) if (root / directory).is_dir() else []
        found |= {f"{directory}/{name}" for name in names if not name.endswith(".lock")}
    own = root / "pyman/store"
    for engine in os.listdir(own) if own.is_dir() else []:
        for name in ("staging", "trash", "intents"):
            found |= {f"{name}/{entry}" for entry in os.listdir(own / engine / name)}
    return found - {"overlay/.has-mount-program", "overlay-containers/containers.json", "overlay/l"}


async def settled(store: Store, others: Others) -> tuple[Layer, Image, set[str]]:
    """A layer, the image `app:1` of it, and the tree with both once Podman has looked at it."""
    base = add_layer(store, busybox())
    image = add_image(store, ["registry.example/app:1"], [base])
    await store.sweep()
    others.images()
    return base, image, tree(others.root)


@pytest.mark.peers("installed", "trixie")
async def test_a_kill_at_any_instant_of_a_pull_leaves_nothing_half_made(
    open_store: Callable[..., Store], others: Others
) -> None:
    store = open_store()
    base, kept, before = await settled(store, others)
    parts = [store.staging(), store.staging()]
    facts = [fill(parts[0], tar_of({"one": b"1"})), fill(parts[1], tar_of({"two": b"2"}))]
    for staged in parts:
        store.discard(staged)
    layer_files = [path for path in store.ground.trash() if os.path.exists(f"{path}/tar-split.gz")]
    layer_files.sort(key=lambda path: os.path.exists(f"{path}/layer/diff/two"))

    def pull() -> None:
        mine = open_store()
        below = base.id
        chain = [base]
        for source, known in zip(layer_files, facts, strict=True):
            staged = mine.staging()
            os.link(f"{source}/tar-split.gz", staged.tar_split)
            layer = mine.commit_layer(staged, layers.layer_id(below, known.diff_id), below, known)
            chain.append(layer)
            below = layer.id
        add_image(mine, ["registry.example/app:2"], chain)

    number = 0
    while killed_at(number := number + 1, pull):
        assert kept.id in {image.id for image in open_store().images()}
        if number % 5 == 0:
            assert kept.id in {image["Id"] for image in others.images()}
        mine = open_store()
        mine.recover(())
        if mine.named("registry.example/app:2") is not None:
            mine.delete_image(mine.resolve("registry.example/app:2").id)
        for path in set(mine.ground.trash()) - set(layer_files):
            os.rename(path, others.place / secrets.token_hex(8))
        assert not mine.problems()
        assert tree(others.root) - {f"trash/{os.path.basename(path)}" for path in layer_files} == before
    assert number > 30
    assert len(open_store().images()) == 2
    assert others.run_in("app:1", "echo here") == "here"


@pytest.mark.peers("installed", "trixie")
async def test_a_kill_at_any_instant_of_a_removal_leaves_the_image_whole_or_gone(
    open_store: Callable[..., Store], others: Others
) -> None:
    base, kept, before = await settled(open_store(), others)

    def put() -> str:
        mine = open_store()
        middle = add_layer(mine, {"one": b"1"}, base.id)
        top = add_layer(mine, {"two": b"2"}, middle.id)
        return add_image(mine, ["registry.example/app:2"], [base, middle, top]).id

    id = put()

    def remove() -> None:
        open_store().delete_image(id)

    number = 0
    while killed_at(number := number + 1, remove):
        if number % 5 == 0:
            assert kept.id in {image["Id"] for image in others.images()}
        mine = open_store()
        mine.recover(())
        assert not mine.problems()
        await mine.sweep()
        try:
            assert len(mine.chain(mine.image(id).top_layer)) == 3
        except NoSuchImage:
            assert tree(others.root) == before
            put()
    mine = open_store()
    await mine.sweep()
    assert number > 20
    assert tree(others.root) == before


async def test_a_kill_at_any_instant_of_a_containers_life_leaves_its_image_free(
    open_store: Callable[..., Store], others: Others
) -> None:
    _, image, before = await settled(open_store(), others)
    id = secrets.token_hex(32)

    def live() -> None:
        mine = open_store()
        mine.add_container(id, ["web"], image.id)
        mine.mounting(id, mine.layout.container_rootfs(id))
        mine.unmounted(id)
        mine.remove_container(id)

    number = 0
    while killed_at(number := number + 1, live):
        mine = open_store()
        mine.recover(())
        assert not mine.problems()
        assert not mine.counts.read()
        await mine.sweep()
        assert tree(others.root) == before
    assert number > 20
    others.podman("rmi", "app:1")


def test_containers_that_are_known_keep_their_layers_over_a_restart(open_store: Callable[..., Store]) -> None:
    store = open_store()
    image = add_image(store, [], [add_layer(store, busybox())])
    kept, lost = secrets.token_hex(32), secrets.token_hex(32)
    for id in (kept, lost):
        store.add_container(id, [], image.id)
        store.mounting(id, store.layout.container_rootfs(id))
    open_store().recover([kept])
    assert [container.id for container in store.containers()] == [kept]
    assert not store.counts.read()


def test_what_another_engine_has_left_is_told_and_not_touched(store: Store, others: Others) -> None:
    others.podman("import", "-", "localhost/base:1", stdin=tar_of(busybox()))
    store.ground.prepare()
    stray = others.root / "overlay" / secrets.token_hex(32)
    stray.mkdir()
    store.recover(())
    assert store.problems() == [(str(stray), "it belongs to no layer")]


def test_a_layer_that_is_flagged_incomplete_is_nobodys_and_goes_with_the_next_change(
    store: Store, others: Others
) -> None:
    base = add_layer(store, busybox())
    image = add_image(store, ["registry.example/app:1"], [base])
    top = add_layer(store, {"one": b"1"}, base.id)
    with store._layers.writing() as draft:
        draft.change(top.id, flags={INCOMPLETE: True})
        draft.save()
    assert [layer.id for layer in store.layers()] == [base.id]
    add_layer(store, {"two": b"2"}, base.id)
    assert top.id not in os.listdir(others.root / "overlay")
    assert [each["Id"] for each in others.images()] == [image.id]


def test_a_layer_that_is_there_without_a_record_is_replaced(store: Store, others: Others) -> None:
    content = busybox()
    layer = add_layer(store, content)
    with store._layers.writing() as draft:
        draft.remove(layer.id)
        draft.save()
    again = add_layer(store, content)
    add_image(store, ["registry.example/app:1"], [again])
    assert len(os.listdir(others.root / "overlay/l")) == 1
    assert others.run_in("app:1", "echo here") == "here"


def test_damage_is_told(store: Store) -> None:
    base = add_layer(store, busybox())
    image = add_image(store, [], [base])
    os.unlink(store.tar_split(base))
    os.unlink(f"{store.root}/overlay-images/{image.id}/manifest")
    container = store.add_container(secrets.token_hex(32), [], image.id)
    with store._layers.writing() as draft:
        draft.remove(container.layer)
        draft.save()
    told = dict(store.problems())
    assert told[image.id] == "the image's 'manifest' is gone"
    assert "cannot be pushed" in told[base.id]
    assert container.layer in told[container.id]


def test_images_that_another_driver_keeps_are_told(store: Store, others: Others) -> None:
    others.podman(
        "--storage-driver", "vfs", "import", "-", "localhost/base:1", stdin=tar_of({"word": b"said"})
    )
    assert store.images() == []
    ((path, text),) = store.problems()
    assert path == f"{store.root}/vfs-images/images.json"
    assert "'vfs'" in text


def test_an_image_that_is_damaged_is_whole_again_when_it_is_brought_in_again(
    store: Store, others: Others
) -> None:
    content = busybox()
    base = add_layer(store, content)
    image = add_image(store, ["registry.example/app:1"], [base])
    shutil.rmtree(store.directory(base))
    assert store.find_layer(base.id) is None
    assert add_layer(store, content).id == base.id
    assert store.problems() == []
    with store._layers.writing() as draft:
        draft.remove(base.id)
        draft.save()
    add_image(store, [], [add_layer(store, content)])
    assert store.images() == [image]
    assert others.run_in("app:1", "echo here") == "here"


def test_unknown_fields_of_a_newer_engine_survive(store: Store) -> None:
    image = add_image(store, ["registry.example/app:1"], [add_layer(store, busybox())])
    path = f"{store.root}/overlay-images/images.json"
    with open(path, "rb") as file:
        data = file.read()
    with table.locked(f"{store.root}/overlay-images/images.lock") as lock:
        table.write_token(lock, path)
        table.replace_file(path, data.replace(b'{"id"', b'{"later":{"a":[1,null]},"id"'), durable=False)
    store.add_names(image.id, ["registry.example/app:2"])
    with open(path, "rb") as file:
        assert b'"later":{"a":[1,null]}' in file.read()


def test_a_store_that_podman_has_mounted_on_itself_is_changed_all_the_same(store: Store) -> None:
    store.ground.prepare()
    overlay = f"{store.root}/overlay"
    mounts.bind(overlay, overlay)
    try:
        base = add_layer(store, busybox())
        add_image(store, [], [base])
    finally:
        mounts.unmount(overlay, lazy=True)
    assert not store.problems()
