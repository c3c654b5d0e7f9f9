"""Images through the asynchronous client, with a real supervisor and a real registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import pyman
from pyman.api.image import Progress, RegistryAccess
from pyman.errors import ImageInUse, NoSuchImage, UnknownInRegistry
from tests.storage.others import missing
from tests.support.registry import RealRegistry, tar_layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine
    from tests.support.registry import Pushed

pytestmark = [
    pytest.mark.skipif(bool(missing("docker-registry")), reason=missing("docker-registry")),
    pytest.mark.oci_runtime("runc"),
]

PLAIN = RegistryAccess(tls_verify=False)


@pytest.fixture(scope="module")
def pushed() -> Iterator[Pushed]:
    with RealRegistry() as registry:
        yield registry.push("app", "1", [tar_layer({"file": b"content"}), tar_layer({"more": b"x"})])


async def test_an_image_is_pulled_looked_at_named_and_removed(engine: Engine, pushed: Pushed) -> None:
    async with pyman.connect(engine.socket) as client:
        images = client.images
        async with images.pull(pushed.reference, access=PLAIN) as transfer:
            told = [step async for step in transfer]
            result = await transfer.result()
        assert told[0] == f"Trying to pull {pushed.reference}..."
        assert {step.action for step in told if isinstance(step, Progress)} >= {"done"}
        (image,) = await images.list()
        assert [image.id] == result.ids
        assert (await images.inspect(image.id))["Digest"] == pushed.digest
        assert len(await images.history(image.id)) == 2
        assert (await images.tree(image.id)).layers[1].top_of == [pushed.reference]
        assert (await images.diff(image.id)).added == ["/more"]
        await images.tag(image.id, "new:1")
        assert await images.exists("new:1")
        assert [found.names for found in await images.list("new:1")] == [
            [pushed.reference, "localhost/new:1"]
        ]
        with pytest.raises(ImageInUse, match="it has the names"):
            await images.remove(image.id)
        await images.untag(image.id, "new:1")
        directory = await images.mount(image.id)
        assert sorted(os.listdir(directory)) == ["file", "more"]
        await images.unmount(image.id)
        assert (await images.remove(image.id)).deleted == [image.id]
        assert await images.list() == []
        with pytest.raises(NoSuchImage):
            await images.inspect("new:1")


async def test_an_image_goes_through_an_archive(engine: Engine, pushed: Pushed, tmp_path: Path) -> None:
    async with pyman.connect(engine.socket) as client:
        images = client.images
        await images.pull(pushed.reference, access=PLAIN).result()
        (image,) = await images.list()
        with (tmp_path / "archive").open("w+b") as file:
            await images.save(file.fileno(), pushed.reference).result()
            await images.remove(image.id)
            file.seek(0)
            loaded = await images.load(file.fileno()).result()
        assert loaded.ids == [image.id]
        assert (await images.prune(all=True)).images[0].deleted == [image.id]


async def test_a_failed_pull_raises_what_it_failed_of(engine: Engine, pushed: Pushed) -> None:
    async with pyman.connect(engine.socket) as client:
        with pytest.raises(UnknownInRegistry):
            await client.images.pull(f"{pushed.reference}9", access=PLAIN).result()
        transfer = client.images.pull(pushed.reference, access=PLAIN)
        assert isinstance(await anext(transfer), str)
        transfer.close()
        assert (await client.images.pull(pushed.reference, access=PLAIN).result()).ids
