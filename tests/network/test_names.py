"""The files that the name server reads, as the next supervisor finds them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.network.names import Guest, Zone, ZoneFiles

if TYPE_CHECKING:
    from pathlib import Path

NET, INNER = Zone("a" * 64, ["10.1.0.1", "fd01::1"], ["9.9.9.9"]), Zone("b" * 64, ["10.2.0.1"], internal=True)
WEB = Guest("c" * 64, ["10.1.0.2", "fd01::2"], ["web", "www"], ["8.8.8.8"])
DATA = Guest("d" * 64, ["10.2.0.2"], ["data"])


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = ZoneFiles(f"{tmp_path}/names")
    assert written.read() == ({}, {})
    written.write(NET, {WEB.id: WEB})
    written.write(INNER, {DATA.id: DATA})
    zones, guests = ZoneFiles(written.path).read()
    assert zones == {NET.network: NET, INNER.network: INNER}
    assert guests == {NET.network: {WEB.id: WEB}, INNER.network: {DATA.id: DATA}}


def test_what_is_no_such_file_is_not_there_and_holds_nobody_up(tmp_path: Path) -> None:
    written = ZoneFiles(f"{tmp_path}/names")
    written.write(NET, {WEB.id: WEB})
    os.mkfifo(f"{written.path}/fifo")
    os.symlink(f"{written.path}/{NET.file}", f"{written.path}/link")
    os.mkdir(f"{written.path}/directory")
    for name, content in (
        ("empty", b""),
        ("binary", b"\xff\n"),
        ("cut", b"10.3.0.1\n" + WEB.line.encode()[:60]),
        ("aardvark.pid", b"1"),
    ):
        (tmp_path / "names" / name).write_bytes(content)
    with open(f"{written.path}/large", "wb") as file:
        file.truncate(1 << 30)
    zones, guests = written.read()
    assert zones == {NET.network: NET}
    assert guests == {NET.network: {WEB.id: WEB}}
