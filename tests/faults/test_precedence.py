"""A program that reads an archive stands still while the OCI runtime makes a container, and goes on afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.images.made import Image, archive_of, layer
from tests.support import processes
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.faults.conftest import Faulty


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def readers(engine: Faulty) -> list[int]:
    return [
        pid
        for pid in processes.children(engine.daemon)
        if b"supervisor.archive.index" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_loading_stands_still_while_a_container_is_made(faulty: Faulty, rootfs: Path) -> None:
    archive = archive_of(Image(layer("word", b"said")).docker("localhost/word:1"))
    with faulty.spawn("load", stdin=subprocess.PIPE) as loading:
        assert loading.stdin is not None
        os.write(loading.stdin.fileno(), archive[:512])
        until(lambda: readers(faulty), "no program reads the archive")
        (reader,) = readers(faulty)
        faulty.runtime.hold("before-create")
        with faulty.spawn("run", "--rm", "--rootfs", f"{rootfs}:O", "true") as running:
            faulty.runtime.reached("before-create")
            until(lambda: state(reader) == "T", "the reader does not stand still")
            until(lambda: state(reader) != "T", "it stands still for too long")
            until(lambda: state(reader) == "T", "it gets more than a break")
            faulty.runtime.let_go("before-create")
            assert running.wait(20) == 0
        until(lambda: state(reader) != "T", "it does not go on")
        os.write(loading.stdin.fileno(), archive[512:])
        loading.stdin.close()
        assert loading.wait(20) == 0
    assert "localhost/word" in faulty.cli("images").stdout
    faulty.cli("rmi", "--all")
