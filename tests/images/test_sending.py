"""Images of the store written to each kind of place, and read there by the real programs."""

from __future__ import annotations

import json
import os
import tarfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import DigestMismatch, DiskFull, InvalidArgument, NotSupported, StorageFailed
from supervisor.archive import jobs
from supervisor.images.transfer.blobinfo import BlobInfo
from supervisor.images.transfer.progress import Board
from supervisor.images.transfer.pushing import destination_for
from supervisor.images.transfer.sending import Sender, closing, outgoing
from supervisor.images.transfer.wishes import Wish, check_wish
from supervisor.images.transports import places as transports
from supervisor.images.transports.docker_archive_writing import DockerArchiveDestination
from supervisor.images.transports.tarring import TarWriter
from tests.images.deeds import Untold
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from supervisor.images.transfer.sending import Outgoing, Receiver
    from supervisor.storage.store import Store
    from tests.storage.others import Others

pytestmark = pytest.mark.skipif(bool(missing("podman", "skopeo")), reason=missing("podman", "skopeo"))


def _outgoing(store: Store, name: str) -> Outgoing:
    return outgoing(store, store.resolve(name))


def _sender(to: Receiver, place: Path, wish: Wish = Wish()) -> Sender:  # noqa: B008 - frozen
    memory = BlobInfo(str(place / "blobs.json"))
    return Sender(to, wish, pack=jobs.pack, memory=memory, spool_in=str(place), board=Board())


@asynccontextmanager
async def _opened(text: str, place: Path, tags: Sequence[str] = ()) -> AsyncIterator[Receiver]:
    async with destination_for(
        transports.parse(text),
        tags=tags,
        registries=None,  # type: ignore[arg-type]  # none of these places is in a registry
        memory=BlobInfo(str(place / "blobs.json")),
        deed=Untold(),
        access=None,  # type: ignore[arg-type]
        sources={},
        retrying=lambda _: None,
    ) as destination:
        yield destination


async def _send(store: Store, name: str, text: str, place: Path, wish: Wish = Wish()) -> str:  # noqa: B008
    async with _opened(text, place, [name]) as destination:
        raw = await _sender(destination, place, wish).send(_outgoing(store, name))
        await destination.finish()
    return raw.digest


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "dir", "docker-archive"])
async def test_skopeo_reads_what_was_written(
    kind: str, store: Store, others: Others, image: str, place: Path
) -> None:
    before = store.resolve(image)
    name = ":registry.example/app:2" if kind != "dir" else ""
    digest = await _send(store, image, f"{kind}:{place}/out{name}", place)
    copied = f"{place}/copied"
    others.skopeo("copy", f"{kind}:{place}/out{name}", f"dir:{copied}")
    manifest = json.loads((place / "copied" / "manifest.json").read_bytes())
    assert manifest["config"]["digest"] == f"sha256:{before.id}"
    if kind in ("oci", "dir"):
        shown = json.loads(others.skopeo("inspect", f"{kind}:{place}/out{name}"))
        assert shown["Digest"] == digest
    assert not [each for each in os.listdir(place) if each.startswith(".")]


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
async def test_podman_loads_what_was_written(
    kind: str, store: Store, others: Others, image: str, place: Path
) -> None:
    id = store.resolve(image).id
    await _send(store, image, f"{kind}:{place}/out.tar", place)
    others.podman("rmi", "--all", "--force")
    loaded = others.podman("load", "-i", f"{place}/out.tar")
    assert id in (loaded if kind == "oci-archive" else f"{store.resolve(image).id}")
    assert store.resolve(id).id == id


async def test_layers_in_a_dir_are_what_the_manifest_says_byte_for_byte(
    store: Store, image: str, place: Path
) -> None:
    before = store.big_data(store.resolve(image), "manifest")
    await _send(store, image, f"dir:{place}/out", place)
    assert (place / "out" / "manifest.json").read_bytes() == before


async def test_a_second_image_joins_those_of_a_layout_and_takes_a_name_over(
    store: Store, others: Others, image: str, place: Path
) -> None:
    await _send(store, "localhost/made:1", f"oci:{place}/out:a", place)
    await _send(store, image, f"oci:{place}/out:b", place)
    await _send(store, image, f"oci:{place}/out:a", place)
    index = json.loads((place / "out" / "index.json").read_bytes())
    names = [
        (each.get("annotations") or {}).get("org.opencontainers.image.ref.name")
        for each in index["manifests"]
    ]
    assert sorted(map(str, names)) == ["None", "a", "b"]
    others.skopeo("copy", f"oci:{place}/out:a", f"dir:{place}/copied")


async def test_images_that_are_written_to_a_layout_at_once_are_all_in_it(
    store: Store, others: Others, image: str, place: Path
) -> None:
    (place / "out").mkdir()
    async with _opened(f"oci:{place}/out:a", place) as one, _opened(f"oci:{place}/out:b", place) as other:
        for destination, name in ((one, image), (other, "localhost/made:1")):
            await _sender(destination, place).send(_outgoing(store, name))
        await one.finish()
        await other.finish()
    for name in ("a", "b"):
        others.skopeo("copy", f"oci:{place}/out:{name}", f"dir:{place}/copied-{name}")


async def test_a_dir_with_an_image_holds_the_new_one_alone_afterwards(
    store: Store, others: Others, image: str, place: Path
) -> None:
    await _send(store, image, f"dir:{place}/out", place)
    many = len(os.listdir(place / "out"))
    await _send(store, "localhost/made:1", f"dir:{place}/out", place)
    assert len(os.listdir(place / "out")) == many - 1
    others.skopeo("copy", f"dir:{place}/out", f"dir:{place}/copied")


async def test_nothing_is_written_to_a_directory_of_something_else(
    store: Store, image: str, place: Path
) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "file").write_text("mine")
    for kind in ("oci", "dir"):
        with pytest.raises(InvalidArgument, match="not empty"):
            await _send(store, image, f"{kind}:{place}/mine", place)
    assert os.listdir(place / "mine") == ["file"]
    (place / "link").symlink_to(place / "mine")
    with pytest.raises(InvalidArgument):
        await _send(store, image, f"dir:{place}/link", place)


async def _give_up(store: Store, image: str, text: str, place: Path) -> None:
    async with _opened(text, place) as destination:
        await _sender(destination, place).send(_outgoing(store, image))
        raise StorageFailed("cannot go on")


async def test_what_fails_or_is_given_up_leaves_nothing_at_the_place(
    store: Store, image: str, place: Path
) -> None:
    there = set(os.listdir(place))
    for kind in ("oci", "dir", "oci-archive", "docker-archive"):
        with pytest.raises(StorageFailed):
            await _give_up(store, image, f"{kind}:{place}/out", place)
        with trio.CancelScope() as scope:
            async with _opened(f"{kind}:{place}/out", place) as destination:
                scope.cancel()
                await _sender(destination, place).send(_outgoing(store, image))
        assert set(os.listdir(place)) - {"blobs.json"} == there


async def test_an_existing_docker_archive_is_not_written_over(store: Store, image: str, place: Path) -> None:
    await _send(store, image, f"docker-archive:{place}/out.tar", place)
    with pytest.raises(InvalidArgument, match="exists"):
        await _send(store, image, f"docker-archive:{place}/out.tar", place)


async def test_a_full_disk_is_told_as_such(store: Store, image: str, place: Path) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    destination = DockerArchiveDestination(TarWriter(fd, "full"))
    try:
        async with closing(destination):
            with pytest.raises(DiskFull):
                await _sender(destination, place).send(_outgoing(store, image))
    finally:
        os.close(fd)


async def test_images_that_share_a_layer_have_it_once_in_an_archive(
    store: Store, others: Others, image: str, place: Path
) -> None:
    fd = os.open(place / "all.tar", os.O_WRONLY | os.O_CREAT, 0o600)
    destination = DockerArchiveDestination(TarWriter(fd, "all.tar"))
    async with closing(destination):
        sender = _sender(destination, place)
        for name in ("localhost/made:1", image):
            destination.begin([name, f"{name}-too"])
            await sender.send(_outgoing(store, name))
        await destination.finish()
    os.close(fd)
    with tarfile.open(place / "all.tar") as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    assert len([name for name in names if name.endswith(".tar") and "/" not in name]) == 2
    others.podman("rmi", "--all", "--force")
    others.podman("load", "-i", f"{place}/all.tar")
    assert {name for each in store.images() for name in each.names} == {
        "localhost/made:1", "localhost/made:1-too", "localhost/made:2", "localhost/made:2-too",
    }  # fmt: skip


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_layers_are_compressed_as_asked(
    compression: str, store: Store, others: Others, image: str, place: Path
) -> None:
    await _send(store, image, f"oci:{place}/out:x", place, Wish(compression=compression, level=None))
    index = json.loads((place / "out" / "index.json").read_bytes())
    digest = index["manifests"][0]["digest"].partition(":")[2]
    manifest = json.loads((place / "out" / "blobs" / "sha256" / digest).read_bytes())
    suffix = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}[compression]
    kind = "application/vnd.oci.image.layer.v1.tar"
    assert [layer["mediaType"] for layer in manifest["layers"]] == [kind + suffix] * 2
    others.skopeo("copy", f"oci:{place}/out:x", f"dir:{place}/copied")


async def test_a_format_that_a_place_does_not_take_is_refused(store: Store, image: str, place: Path) -> None:
    with pytest.raises(NotSupported, match="v2s2"):
        await _send(store, image, f"oci:{place}/out", place, Wish(format="v2s2"))
    with pytest.raises(NotSupported, match="oci"):
        await _send(store, image, f"docker-archive:{place}/out", place, Wish(format="oci"))


async def test_an_image_is_sent_in_dockers_format_if_asked(
    store: Store, others: Others, image: str, place: Path
) -> None:
    await _send(store, image, f"dir:{place}/out", place, Wish(format="v2s2", compression="gzip"))
    manifest = json.loads((place / "out" / "manifest.json").read_bytes())
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    others.skopeo("copy", f"dir:{place}/out", f"docker-archive:{place}/copied.tar")


async def test_a_layer_whose_files_were_changed_is_not_sent(store: Store, image: str, place: Path) -> None:
    top = store.chain(store.resolve(image).top_layer)[0]
    path = Path(store.directory(top)) / "diff" / "bin" / "sh"
    path.write_bytes(b"changed" + path.read_bytes()[7:])
    with pytest.raises(DigestMismatch):
        await _send(store, image, f"oci:{place}/out", place)
    assert not os.path.exists(place / "out")


@pytest.mark.parametrize(
    "wish",
    [
        Wish(format="x"),
        Wish(compression="lzma"),
        Wish(compression="zstd", format="v2s2"),
        Wish(level=10),
        Wish(compression="zstd", level=0),
        Wish(compression="none", level=1),
    ],
)
def test_a_wish_that_nobody_can_grant_is_refused(wish: Wish) -> None:
    with pytest.raises(InvalidArgument):
        check_wish(wish)
