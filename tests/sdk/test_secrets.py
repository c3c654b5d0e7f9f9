"""Secrets through the asynchronous client, with a real supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pyman
from pyman.client import Secret
from pyman.errors import InvalidArgument, NameInUse, NoSuchSecret

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")


async def test_a_secret_is_made_given_read_and_removed(engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(engine.socket) as client:
        secrets = client.secrets
        id = await secrets.create("word", b"one\0", labels={"for": "web"})
        with pytest.raises(NameInUse):
            await secrets.create("word", b"two")
        assert await secrets.create("word", b"two", ignore=True) == id
        assert await secrets.read(id[:6]) == b"one\0"
        replaced = await secrets.create("word", b"two", replace=True)
        assert replaced != id
        assert await secrets.read("word") == b"two"
        assert [one.id for one in await secrets.list({"name": ["^wo"]})] == [replaced]
        assert (await secrets.inspect("word")).spec.labels == {}
        async with await client.containers.run(
            rootfs=str(rootfs),
            rootfs_overlay=True,
            command=["sh", "-c", "cat /run/secrets/word; echo $WORD"],
            secrets=[Secret("word")],
            secret_env={"WORD": replaced[:5]},
        ) as session:
            assert (await session.collect()).stdout == b"twotwo\n"
        await secrets.remove("word")
        assert not await secrets.exists("word")
        for work in (secrets.remove("word"), secrets.read("word"), secrets.inspect("word")):
            with pytest.raises(NoSuchSecret):
                await work
        with pytest.raises(InvalidArgument, match="it is empty"):
            await secrets.create("empty", b"")
