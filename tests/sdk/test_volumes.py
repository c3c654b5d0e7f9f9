"""Volumes through the asynchronous client, with a real supervisor."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

import pyman
from pyman.client import NamedVolume
from pyman.errors import NameInUse, NoSuchVolume, VolumeInUse

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")


async def test_a_volume_is_made_used_written_out_and_removed(
    engine: Engine, rootfs: Path, tmp_path: Path
) -> None:
    async with pyman.connect(engine.socket) as client:
        volumes = client.volumes
        assert await volumes.create("data", labels={"for": "web"}) == "data"
        with pytest.raises(NameInUse):
            await volumes.create("data")
        assert await volumes.create("data", ignore=True) == "data"
        assert [one.name for one in await volumes.list({"label": ["for=web"]})] == ["data"]
        assert (await volumes.inspect("da")).labels == {"for": "web"}
        assert await volumes.mount("data") == (await volumes.inspect("data")).mountpoint
        await volumes.unmount("data")
        async with await client.containers.run(
            name="writer",
            rootfs=str(rootfs),
            rootfs_overlay=True,
            command=["sh", "-c", "echo text > /tmp/file"],
            volumes=[NamedVolume(dest="/tmp", name="data")],
        ) as session:
            assert await session.wait() == 0
        with pytest.raises(VolumeInUse, match="writer"):
            await volumes.remove("data")
        archive = os.open(tmp_path / "data.tar", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await volumes.export("data", archive)
            with tarfile.open(tmp_path / "data.tar") as tar:
                assert tar.getnames() == ["file"]
            anonymous = await volumes.create()
            os.lseek(archive, 0, os.SEEK_SET)
            await volumes.import_(anonymous, archive)
        finally:
            os.close(archive)
        where = (await volumes.inspect(anonymous)).mountpoint
        assert os.listdir(where) == ["file"]
        (pruned,) = await volumes.prune(dry_run=True)
        assert (pruned.name, pruned.size) == (anonymous, len("text\n"))
        assert [one.name for one in await volumes.prune()] == [anonymous]
        await volumes.remove("data", force=True, timeout=0)
        assert not await volumes.exists("data")
        with pytest.raises(NoSuchVolume):
            await volumes.inspect("data")
        assert (await volumes.reload()).errors == []
