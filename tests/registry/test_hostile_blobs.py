"""Blobs from, and for, registries that lie, break off, redirect and stall."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import (
    DigestMismatch,
    PymanError,
    RegistryFailed,
)
from tests.registry.support import ACCESS, DATA, DIGEST, MANIFEST, SECRET, file_of, name_at
from tests.support import hostile as wicked
from tests.support.hostile import hostile

if TYPE_CHECKING:
    from pathlib import Path

    from pyman.api.image import RegistryAccess
    from supervisor.registry.client import Registries
    from tests.support.hostile import Asked, Hostile


async def _fails(registries: Registries, bad: Hostile, kind: type[PymanError], match: str) -> None:
    with trio.fail_after(20), pytest.raises(kind, match=match):
        await registries.manifest(name_at(bad), ACCESS)


def _blob() -> str:
    return f"/v2/a/blobs/{DIGEST}"


async def _download(
    registries: Registries, bad: Hostile, path: Path, access: RegistryAccess = ACCESS, size: int = len(DATA)
) -> bytes:
    with trio.fail_after(20), file_of(path) as fd:
        await registries.download(name_at(bad), DIGEST, size, fd, access)
    return path.read_bytes()


# Blobs


async def test_a_broken_connection_is_resumed_where_it_broke(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on(_blob(), wicked.blob(DATA, stop=100_000), wicked.blob(DATA, stop=50_000), wicked.blob(DATA))
    assert await _download(registries, bad, tmp_path / "blob") == DATA
    assert [asked.begin for asked in bad.asked(_blob())] == [0, 100_000, 150_000]


async def test_a_stalled_connection_is_resumed(registries: Registries, bad: Hostile, tmp_path: Path) -> None:
    bad.on(_blob(), wicked.blob(DATA, stop=100_000, stall=True), wicked.blob(DATA))
    assert await _download(registries, bad, tmp_path / "blob") == DATA
    assert [asked.begin for asked in bad.asked(_blob())] == [0, 100_000]


async def test_a_registry_that_ignores_ranges_is_read_from_the_beginning(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on(_blob(), wicked.blob(DATA, stop=100_000), wicked.blob(DATA, ranges=False))
    assert await _download(registries, bad, tmp_path / "blob") == DATA


async def test_the_wrong_part_is_refused(registries: Registries, bad: Hostile, tmp_path: Path) -> None:
    wrong = wicked.answer(206, DATA[5:], {"Content-Range": f"bytes 200000-{len(DATA) - 1}/{len(DATA)}"})
    bad.on(_blob(), wicked.blob(DATA, stop=100_000), wrong)
    with pytest.raises(RegistryFailed, match="another part"):
        await _download(registries, bad, tmp_path / "blob")


async def test_a_blob_that_stalls_always_is_given_up(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on(_blob(), wicked.blob(DATA, stop=10, stall=True))
    with pytest.raises(RegistryFailed, match="does not answer within"):
        await _download(registries, bad, tmp_path / "blob")
    assert len(bad.asked(_blob())) == 3


async def test_a_blob_that_drips_is_given_up(registries: Registries, bad: Hostile, tmp_path: Path) -> None:
    async def drip(_: Asked, stream: trio.abc.Stream) -> None:
        await stream.send_all(f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA)}\r\n\r\n".encode())
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.05)

    bad.on(_blob(), drip)
    with pytest.raises(RegistryFailed, match="too slowly"):
        await _download(registries, bad, tmp_path / "blob")


async def test_a_blob_that_only_announces_bytes_is_given_up(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    async def announce(_: Asked, stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000;")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.05)

    bad.on(_blob(), announce)
    with trio.fail_after(20), pytest.raises(RegistryFailed, match="too slowly"):
        await _download(registries, bad, tmp_path / "blob")


@pytest.mark.parametrize("size", [len(DATA) + 1, len(DATA) - 1, 1])
async def test_an_announced_length_that_is_not_the_descriptors_is_refused(
    registries: Registries, bad: Hostile, tmp_path: Path, size: int
) -> None:
    bad.on(_blob(), wicked.blob(DATA))
    with pytest.raises(RegistryFailed, match=f"announces {len(DATA)} bytes instead of {size}"):
        await _download(registries, bad, tmp_path / "blob", size=size)
    assert (tmp_path / "blob").stat().st_size == 0


async def test_a_blob_without_end_stops_at_its_size(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on(_blob(), wicked.chunked([DATA, DATA, DATA]))
    with pytest.raises(RegistryFailed, match="more than the 300000 bytes"):
        await _download(registries, bad, tmp_path / "blob")
    assert (tmp_path / "blob").stat().st_size <= len(DATA)


async def test_a_blob_that_ends_early_is_asked_for_again(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on(_blob(), wicked.chunked([DATA[:1000]]), wicked.blob(DATA))
    assert await _download(registries, bad, tmp_path / "blob") == DATA


async def test_a_blob_of_other_content_is_refused(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on(_blob(), wicked.blob(bytes(len(DATA))))
    with pytest.raises(DigestMismatch, match="its content is sha256:"):
        await _download(registries, bad, tmp_path / "blob")
    bad.on(_blob(), wicked.answer(200, b"short"))
    with pytest.raises(DigestMismatch):
        await registries.blob(name_at(bad), DIGEST, ACCESS)


async def test_a_full_disk_is_told_as_such(registries: Registries, bad: Hostile) -> None:
    bad.on(_blob(), wicked.blob(DATA))
    fd = os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC)
    try:
        with pytest.raises(PymanError, match="cannot write 'a blob': No space left"):
            await registries.download(name_at(bad), DIGEST, len(DATA), fd, ACCESS)
    finally:
        os.close(fd)


# Redirections


async def test_redirections_in_a_circle_come_to_an_end(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on(_blob(), wicked.redirect(_blob()))
    with pytest.raises(RegistryFailed, match="redirects more than 10 times"):
        await _download(registries, bad, tmp_path / "blob")
    assert len(bad.asked(_blob())) == 11


async def test_a_login_stays_with_the_registry_when_it_redirects(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    async with hostile() as other:
        other.on("/elsewhere", wicked.blob(DATA))
        bad.on("/v2/", wicked.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        bad.on(_blob(), wicked.redirect(f"{other.url}/elsewhere?token=1"))
        assert await _download(registries, bad, tmp_path / "blob", SECRET) == DATA
        assert bad.asked(_blob())[0].headers["authorization"].startswith("Basic ")
        assert "authorization" not in other.asked("/elsewhere")[0].headers
        assert "cookie" not in other.asked("/elsewhere")[0].headers


@pytest.mark.parametrize(
    "location",
    ["", "ftp://elsewhere/", "file:///etc/passwd", "http://", "http://a:b@host/", "http://[bad", "\x7f"],
)
async def test_a_redirection_to_what_is_no_address_is_refused(
    registries: Registries, bad: Hostile, location: str
) -> None:
    bad.on("/v2/a/manifests/1", wicked.redirect(location))
    await _fails(registries, bad, RegistryFailed, "address|redirects|fails|answer|reached|found|HTTP")


async def test_what_a_registry_sets_as_cookies_is_not_kept(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST, headers={"Set-Cookie": "a=b"}))
    for _ in range(2):
        await registries.manifest(name_at(bad), ACCESS)
    assert all("cookie" not in asked.headers for asked in bad.requests)


# Sending


async def test_an_upload_to_another_host_goes_without_the_login(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    async with hostile() as other:
        bad.on("/v2/", wicked.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
        bad.on("POST /v2/a/blobs/uploads/", wicked.answer(202, b"", {"Location": f"{other.url}/up?state=1"}))
        other.on("PATCH /up", wicked.answer(202, b"", {"Location": "/up?state=2"}))
        bad.on("PUT /up", wicked.answer(201))
        with file_of(tmp_path / "blob", DATA) as fd:
            await registries.upload(name_at(bad), DIGEST, len(DATA), fd, SECRET)
        assert other.asked("/up")[0].body == DATA
        assert "authorization" not in other.asked("/up")[0].headers
        assert bad.asked("/up")[0].query == {"state": ["2"], "digest": [DIGEST]}


async def test_an_upload_that_breaks_is_begun_again(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    async def broken(_: Asked, stream: trio.abc.Stream) -> None:
        await stream.aclose()

    bad.on("POST /v2/a/blobs/uploads/", wicked.answer(202, b"", {"Location": "/up"}))
    bad.on("PATCH /up", broken, wicked.answer(202, b"", {"Location": "/up"}))
    bad.on("PUT /up", wicked.answer(201))
    with file_of(tmp_path / "blob", DATA) as fd:
        await registries.upload(name_at(bad), DIGEST, len(DATA), fd, ACCESS)
    assert [asked.method for asked in bad.requests if asked.path == "/up"] == ["PATCH", "PATCH", "PUT"]


async def test_a_registry_that_keeps_another_manifest_is_found_out(
    registries: Registries, bad: Hostile
) -> None:
    bad.on("PUT /v2/a/manifests/1", wicked.answer(201, b"", {"Docker-Content-Digest": DIGEST}))
    with pytest.raises(RegistryFailed, match="has stored it as"):
        await registries.put_manifest(name_at(bad), MANIFEST, wicked.OCI_MANIFEST, ACCESS)


async def test_a_registry_without_a_place_for_an_upload_is_told(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on("POST /v2/a/blobs/uploads/", wicked.answer(202))
    with file_of(tmp_path / "blob", DATA) as fd, pytest.raises(RegistryFailed, match="where to send"):
        await registries.upload(name_at(bad), DIGEST, len(DATA), fd, ACCESS)
