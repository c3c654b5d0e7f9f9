"""Images sent to a real registry, and what is not sent to it."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pyman.api.pull import RegistryAccess
from supervisor.archive import jobs
from supervisor.images.transfer.blobinfo import BlobInfo, Known
from supervisor.images.transfer.progress import Board
from supervisor.images.transfer.sending import Sender, closing, outgoing
from supervisor.images.transfer.wishes import Wish
from supervisor.images.transports.registry_writing import RegistryDestination
from supervisor.registry import reference
from tests.images.deeds import Untold
from tests.registry.support import Home
from tests.storage.others import missing
from tests.support.registry import RealRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from supervisor.images.transports.transport import RawManifest
    from supervisor.registry.client import Registries
    from supervisor.storage.store import Store
    from tests.storage.others import Others

_NEEDED = missing("podman", "skopeo", "docker-registry")
pytestmark = pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED)
PLAIN = RegistryAccess(tls_verify=False)


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


class Log:
    """What the registry has been asked since it was made."""

    def __init__(self, registry: RealRegistry) -> None:
        self._path = registry.log
        self._begin = self._path.stat().st_size

    def asked(self, *methods: str) -> list[str]:
        """The paths of requests that have been answered."""
        text = self._path.read_text()[self._begin :]
        found = [
            (
                re.search(r"http\.request\.method=(\w+)", line),
                re.search(r'http\.request\.uri="?([^ "]+)', line),
            )
            for line in text.splitlines()
            if "response completed" in line
        ]
        return [uri[1] for method, uri in found if method and uri and method[1] in methods]

    def uploads(self) -> list[str]:
        return [each for each in self.asked("POST", "PATCH", "PUT") if "/blobs/uploads/" in each]


@asynccontextmanager
async def _registries(tmp_path: Path) -> AsyncIterator[Registries]:
    (tmp_path / "home").mkdir(parents=True, exist_ok=True)
    async with Home(tmp_path / "home").registries() as registries:
        yield registries


async def _push(
    registries: Registries,
    store: Store,
    name: str,
    to: str,
    place: Path,
    wish: Wish = Wish(),  # noqa: B008 - frozen
    sources: dict[str, list[Any]] | None = None,
    memory: str = "blobs.json",
) -> RawManifest:
    info = BlobInfo(str(place / memory))
    destination = RegistryDestination(
        registries, reference.parse(to), info, Untold(), access=PLAIN, sources=sources
    )
    async with closing(destination):
        sender = Sender(destination, wish, pack=jobs.pack, memory=info, spool_in=str(place), board=Board())
        raw = await sender.send(outgoing(store, store.resolve(name)))
        await destination.finish()
    return raw


async def test_an_image_that_was_pushed_is_pulled_by_podman(
    registry: RealRegistry, store: Store, others: Others, image: str, place: Path, tmp_path: Path
) -> None:
    to = f"{registry.host}/org/first:1"
    id = store.resolve(image).id
    async with _registries(tmp_path) as registries:
        raw = await _push(registries, store, image, to, place)
    assert registry.manifest("org/first", "1") == raw.data
    others.podman("rmi", "--all", "--force")
    assert others.podman("pull", "-q", "--tls-verify=false", to) == id


async def test_a_second_push_sends_no_blob_also_without_a_memory_of_the_first(
    registry: RealRegistry, store: Store, image: str, place: Path, tmp_path: Path
) -> None:
    to = f"{registry.host}/org/twice:1"
    async with _registries(tmp_path) as registries:
        first = await _push(registries, store, image, to, place)
        log = Log(registry)
        second = await _push(registries, store, image, to, place)
        assert log.uploads() == []
        assert second.data == first.data
        assert len(log.asked("HEAD")) >= 3


async def test_what_podman_has_pulled_is_pushed_back_byte_for_byte_without_a_blob(
    registry: RealRegistry, store: Store, others: Others, image: str, place: Path, tmp_path: Path
) -> None:
    to = f"{registry.host}/org/theirs:1"
    others.podman("push", "-q", "--tls-verify=false", image, to)
    others.podman("rmi", "--all", "--force")
    others.podman("pull", "-q", "--tls-verify=false", to)
    before = registry.manifest("org/theirs", "1")
    async with _registries(tmp_path) as registries:
        log = Log(registry)
        raw = await _push(registries, store, to, f"{registry.host}/org/theirs:2", place)
        assert log.uploads() == []
    assert raw.data == before == registry.manifest("org/theirs", "2")


async def test_blobs_of_another_repository_are_taken_over_there_and_not_sent(
    registry: RealRegistry, store: Store, image: str, place: Path, tmp_path: Path
) -> None:
    async with _registries(tmp_path) as registries:
        first = await _push(registries, store, image, f"{registry.host}/org/from:1", place)
        log = Log(registry)
        second = await _push(registries, store, image, f"{registry.host}/other/to:1", place)
    assert second.data == first.data
    mounts = [each for each in log.uploads() if "mount=" in each]
    assert len(mounts) >= 2
    # Only the configuration, which no list of blobs names, may be sent.
    assert len([each for each in log.asked("PUT") if "/blobs/" in each]) <= 1


@pytest.mark.parametrize(
    "format, compression",
    [("oci", "gzip"), ("oci", "zstd"), ("oci", "none"), ("v2s2", "gzip"), ("v2s2", "none")],
)
async def test_format_and_compression_are_those_asked_for(
    compression: str,
    format: str,  # noqa: A002
    registry: RealRegistry,
    store: Store,
    others: Others,
    image: str,
    place: Path,
    tmp_path: Path,
) -> None:
    name = f"org/{format}-{compression}"
    to = f"{registry.host}/{name}:1"
    async with _registries(tmp_path) as registries:
        wish = Wish(format=format, compression=compression, level=3 if compression != "none" else None)
        raw = await _push(registries, store, image, to, place, wish)
    manifest = json.loads(raw.data)
    kind = {
        "oci": "application/vnd.oci.image.manifest",
        "v2s2": "application/vnd.docker.distribution.manifest",
    }
    assert manifest["mediaType"].startswith(kind[format])
    suffix = {"gzip": "gzip", "zstd": "zstd", "none": "tar"}[compression]
    assert all(layer["mediaType"].endswith(suffix) for layer in manifest["layers"])
    others.skopeo("copy", "--src-tls-verify=false", f"docker://{to}", f"dir:{place}/copied")
    assert others.podman("pull", "-q", "--tls-verify=false", to) == store.resolve(image).id


async def test_what_is_there_is_taken_whatever_its_compression_unless_that_is_forced(
    registry: RealRegistry, store: Store, image: str, place: Path, tmp_path: Path
) -> None:
    to = f"{registry.host}/org/forced:1"
    async with _registries(tmp_path) as registries:
        await _push(registries, store, image, to, place)
        log = Log(registry)
        kept = await _push(registries, store, image, to, place, Wish(compression="zstd"))
        assert log.uploads() == []
        forced = await _push(registries, store, image, to, place, Wish(compression="zstd", force=True))
    assert "zstd" not in kept.data.decode()
    assert forced.data.decode().count("+zstd") == 2


async def test_memory_of_a_blob_that_is_gone_costs_a_question_and_nothing_else(
    registry: RealRegistry, store: Store, others: Others, image: str, place: Path, tmp_path: Path
) -> None:
    async with _registries(tmp_path) as registries:
        await _push(registries, store, image, f"{registry.host}/org/gone:1", place)
    with RealRegistry() as fresh:
        async with _registries(tmp_path / "again") as registries:
            to = f"{fresh.host}/org/gone:1"
            await _push(registries, store, image, to, place)
        others.podman("rmi", "--all", "--force")
        assert others.podman("pull", "-q", "--tls-verify=false", to)


async def test_what_is_remembered_is_bounded_and_survives_damage(tmp_path: Path) -> None:
    path = tmp_path / "blobs.json"
    path.write_text("{")
    info = BlobInfo(str(path))
    assert info.known("layer 0") == []
    for number in range(2100):
        info.learn(f"layer {number}", Known("blob", 1, "gzip"))
    for number in range(20):
        info.learn("layer 2000", Known(f"blob {number}", 1, "gzip"))
        info.met(["blob 19"], f"registry.example/{number}")
    await info.save()
    again = BlobInfo(str(path))
    assert again.known("layer 99") == []
    assert again.known("layer 100") == [Known("blob", 1, "gzip")]
    assert [known.digest for known in again.known("layer 2000")] == [f"blob {n}" for n in (19, 18, 17, 16)]
    assert again.places("blob 19") == ["registry.example/19"]
    assert again.places("nothing") == []
