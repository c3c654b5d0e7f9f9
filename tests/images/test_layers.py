"""Layers on their way into the store, shared by images that are brought at the same time."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from supervisor.archive.feed import Feed
from supervisor.images.transfer.layers import Layers, Wanted
from supervisor.images.transfer.progress import Board
from supervisor.images.transports.transport import Blob
from supervisor.storage.layers import layer_id
from tests.images.made import digest_of, layer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from supervisor.storage.store import Store


class Archive:
    def __init__(self, path: Path) -> None:
        self.name = str(path)

    @asynccontextmanager
    async def layer(self, blob: Blob, report: Any) -> AsyncIterator[Feed]:
        fd = os.open(self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield Feed(fd, 0, blob.size)
            report(blob.size)
        finally:
            os.close(fd)


async def test_a_layer_that_another_image_has_found_stays_when_the_one_it_was_brought_for_does_not_come(
    store: Store, tmp_path: Path
) -> None:
    data = layer()
    (tmp_path / "layer.tar").write_bytes(data)
    digest = digest_of(data)
    wanted = Wanted(id=layer_id("", digest), parent="", diff_id=digest, blob=Blob(digest, len(data)))
    one: Any = Archive(tmp_path / "layer.tar")
    two: Any = Archive(tmp_path / "layer.tar")
    async with trio.open_nursery() as nursery:
        layers = Layers(store, trio.CapacityLimiter(4), nursery)
        async with AsyncExitStack() as other:
            async with AsyncExitStack() as first:
                for stack, source in ((first, one), (other, two)):
                    (work,) = await stack.enter_async_context(layers.lease([wanted], source, Board()))
                    await work.result()
            assert store.find_layer(wanted.id) is not None
            await store.sweep()
        async with layers.lease([wanted], one, Board()) as works:
            assert (await works[0].result()).id == wanted.id
