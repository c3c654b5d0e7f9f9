"""Files in and out of containers through the asynchronous client, with a real supervisor."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

import pyman
from pyman.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")


async def test_files_go_in_and_out_and_across(shared_engine: Engine, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "text").write_text("text")
    async with pyman.connect(shared_engine.socket) as client:
        containers = client.containers
        for name in ("one", "two"):
            await containers.run(
                name=name, rootfs=str(rootfs), rootfs_overlay=True, command=["sleep", "1000"], detach=True
            )
        copied = await containers.copy_in("one", "/tmp", source=tmp_path / "tree")
        assert (copied.files, copied.size, copied.left_out) == (2, 4, 0)
        await containers.copy_across("one", "/tmp/tree/.", "two", "/tmp")
        await containers.copy_out("two", "/tmp/text", target=tmp_path / "back")
        assert (tmp_path / "back").read_text() == "text"
        archive = os.open(tmp_path / "a.tar", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await containers.copy_out("one", "/tmp/tree", archive=archive)
            with tarfile.open(tmp_path / "a.tar") as tar:
                assert tar.getnames() == ["tree", "tree/text"]
            os.lseek(archive, 0, os.SEEK_SET)
            assert (await containers.copy_in("two", "/root", archive=archive)).files == 2
        finally:
            os.close(archive)
        with pytest.raises(NotFound, match="nothing"):
            await containers.copy_out("one", "/nothing", target=tmp_path / "x")
        with pytest.raises(NotFound, match="on the host"):
            await containers.copy_in("one", "/tmp", source=tmp_path / "nothing")
        with pytest.raises(InvalidArgument, match="either"):
            await containers.copy_in("one", "/tmp")
