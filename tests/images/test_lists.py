"""Manifest lists in a store, changed by several at once."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from pyman.api.image import ManifestAddRequest, RegistryAccess
from supervisor.images.formats import listings
from supervisor.images.formats.manifests import OCI_MANIFEST
from supervisor.images.lists import INSTANCES, Lists
from supervisor.images.names import Found
from supervisor.images.transports.transport import RawManifest
from supervisor.storage import bigdata
from supervisor.storage.records import new_id
from tests.images.made import digest_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supervisor.storage.store import Store

LIST = "localhost/list:latest"


class Elsewhere:
    """An artifact, of which nothing but the manifest is read."""

    def __init__(self, name: str) -> None:
        self.data = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "artifactType": "application/vnd.example",
                "config": {
                    "mediaType": "application/vnd.oci.empty.v1+json",
                    "digest": digest_of(b"{}"),
                    "size": 2,
                },
                "layers": [],
                "annotations": {"name": name},
            }
        ).encode()

    async def manifest(self, digest: str = "") -> RawManifest:
        assert not digest
        return RawManifest(self.data, OCI_MANIFEST)

    async def blob(self, blob: Any) -> bytes:
        raise NotImplementedError


async def test_members_that_are_added_to_a_pulled_list_at_once_all_keep_where_they_are(store: Store) -> None:
    empty = {bigdata.MANIFEST: listings.written(listings.EMPTY).data}
    store.put_image(new_id(), [LIST], "", empty, digest=bigdata.digest_of(empty[bigdata.MANIFEST]))
    waiting = 0
    both = trio.Event()

    async def find(name: str, *, lists: str) -> Found:
        assert lists == "only"
        return Found(store.resolve(name), name)

    @asynccontextmanager
    async def remote(name: str, access: Any) -> AsyncIterator[Any]:
        nonlocal waiting
        assert access == RegistryAccess()
        waiting += 1
        if waiting == 2:
            both.set()
        await both.wait()
        yield Elsewhere(name)

    lists = Lists(store, find, remote, trio.CapacityLimiter(4))
    names = [f"docker://registry.example/{name}:1" for name in ("one", "two")]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(lists.add, ManifestAddRequest(LIST, [name]))
    image = store.resolve(LIST)
    instances = json.loads(store.big_data(image, INSTANCES))
    assert instances == {
        **{digest_of(Elsewhere(name).data): name for name in names},
        "": image.id,
    }
