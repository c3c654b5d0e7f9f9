"""Registries that lie, stall, redirect and flood: a typed error in bounded time, and no secret told."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.api.image import RegistryAccess
from pyman.errors import (
    DigestMismatch,
    NotSupported,
    PymanError,
    RegistryDenied,
    RegistryFailed,
    UnknownInRegistry,
)
from supervisor.registry.reference import parse
from tests.registry.support import file_of
from tests.support import hostile as wicked
from tests.support.hostile import hostile
from tests.support.registry import digest_of

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from supervisor.registry.client import Registries
    from supervisor.registry.reference import Reference
    from tests.registry.support import Home
    from tests.support.hostile import Asked, Hostile

ACCESS = RegistryAccess(tls_verify=False, retry=2, retry_delay=0.01)
SECRET = RegistryAccess(
    tls_verify=False, retry=2, retry_delay=0.01, username="someone", password="s3cret-w0rd"
)
STALL = 0.4
DATA = os.urandom(300_000)
DIGEST = digest_of(DATA)
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": wicked.OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 1},
        "layers": [],
    }
).encode()


@pytest.fixture
async def bad() -> AsyncIterator[Hostile]:
    async with hostile() as registry:
        yield registry


@pytest.fixture
async def registries(home: Home, program: socket.socket) -> AsyncIterator[Registries]:
    async with home.registries(program, stall=STALL) as found:
        yield found


def _name(bad: Hostile) -> Reference:
    return parse(f"{bad.host}/a:1")


def _blob(digest: str = DIGEST) -> str:
    return f"/v2/a/blobs/{digest}"


async def _fails(registries: Registries, bad: Hostile, kind: type[PymanError], match: str) -> PymanError:
    with trio.fail_after(20), pytest.raises(kind, match=match) as caught:
        await registries.manifest(_name(bad), ACCESS)
    return caught.value


async def _download(
    registries: Registries, bad: Hostile, path: Path, access: RegistryAccess = ACCESS, size: int = len(DATA)
) -> bytes:
    with trio.fail_after(20), file_of(path) as fd:
        await registries.download(_name(bad), DIGEST, size, fd, access)
    return path.read_bytes()


# Manifests


async def test_a_registry_that_does_not_answer_is_given_up(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/manifests/1", wicked.silence)
    await _fails(registries, bad, RegistryFailed, "does not answer within 0.4 s")
    assert len(bad.asked("/v2/a/manifests/1")) == 3


async def test_a_head_that_comes_byte_by_byte_is_given_up(registries: Registries, bad: Hostile) -> None:
    async def drip(_: Asked, stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.1)

    bad.on("/v2/a/manifests/1", drip)
    await _fails(registries, bad, RegistryFailed, "does not answer within")


async def test_a_body_that_comes_byte_by_byte_is_given_up(registries: Registries, bad: Hostile) -> None:
    async def drip(_: Asked, stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.1)

    bad.on("/v2/a/manifests/1", drip)
    await _fails(registries, bad, RegistryFailed, "too slowly")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b"null",
        b'{"schemaVersion": 2}',
        b"[" * 100_000,
        b"\xff\xfe",
        MANIFEST[:50],
    ],
    ids=["nothing", "text", "list", "object", "null", "little", "deep", "binary", "half"],
)
async def test_what_is_no_manifest_is_refused(registries: Registries, bad: Hostile, data: bytes) -> None:
    bad.on("/v2/a/manifests/1", wicked.manifest(data, "application/json"))
    await _fails(registries, bad, NotSupported, "no manifest")


async def test_a_manifest_of_schema_1_is_refused_by_name(registries: Registries, bad: Hostile) -> None:
    old = b'{"schemaVersion": 1, "name": "a", "tag": "1", "fsLayers": []}'
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    bad.on("/v2/a/manifests/1", wicked.manifest(old, kind))
    await _fails(registries, bad, NotSupported, "schema 1")


async def test_a_manifest_of_an_unknown_kind_is_refused(registries: Registries, bad: Hostile) -> None:
    data = b'{"schemaVersion": 2, "mediaType": "application/vnd.wild+json", "layers": []}'
    bad.on("/v2/a/manifests/1", wicked.manifest(data, "application/vnd.wild+json"))
    await _fails(registries, bad, NotSupported, "unknown kind 'application/vnd.wild")


async def test_a_manifest_without_a_kind_is_recognised(registries: Registries, bad: Hostile) -> None:
    data = b'{"schemaVersion": 2, "config": {}, "layers": []}'
    bad.on("/v2/a/manifests/1", wicked.manifest(data, "text/plain"))
    assert (await registries.manifest(_name(bad), ACCESS)).media_type == wicked.OCI_MANIFEST


async def test_a_manifest_that_is_not_what_its_digest_says_is_refused(
    registries: Registries, bad: Hostile
) -> None:
    bad.on(f"/v2/a/manifests/{DIGEST}", wicked.manifest(MANIFEST))
    with pytest.raises(DigestMismatch, match="its content is sha256:"):
        await registries.manifest(_name(bad).with_digest(DIGEST), ACCESS)
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST, headers={"Docker-Content-Digest": DIGEST}))
    await _fails(registries, bad, DigestMismatch, "its content is sha256:")


async def test_a_manifest_of_100_mb_costs_little(home: Home, bad: Hostile) -> None:
    async with home.registries() as registries:
        await _floods(registries, bad)


async def _floods(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
    await registries.manifest(_name(bad), ACCESS)
    before = _resident(registries.program_pid)
    bad.on("/v2/a/manifests/1", wicked.answer(200, b"", {"Content-Length": str(100 << 20)}))
    await _fails(registries, bad, RegistryFailed, "larger than 4194304 bytes")
    bad.on("/v2/a/manifests/1", wicked.chunked([b" " * (1 << 20)] * 100))
    await _fails(registries, bad, RegistryFailed, "larger than 4194304 bytes")
    assert _resident(registries.program_pid, peak=True) - before < 40 << 20


def _resident(pid: int, *, peak: bool = False) -> int:
    """Bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:" if peak else "VmRSS:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no such process")


async def test_a_head_without_end_is_refused(registries: Registries, bad: Hostile) -> None:
    huge = {f"X-{number}": "x" * 1000 for number in range(2000)}
    bad.on("/v2/a/manifests/1", wicked.answer(200, MANIFEST, huge))
    await _fails(registries, bad, RegistryFailed, "HTTP|broke")


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
    ],
)
async def test_what_is_no_http_is_refused(registries: Registries, bad: Hostile, raw: bytes) -> None:
    async def handle(_: Asked, stream: trio.abc.Stream) -> None:
        await stream.send_all(raw)
        await stream.aclose()

    bad.on("/v2/a/manifests/1", handle)
    await _fails(registries, bad, RegistryFailed, "HTTP|broke")


async def test_an_encoded_answer_is_refused(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST, headers={"Content-Encoding": "gzip"}))
    await _fails(registries, bad, RegistryFailed, "encoded")


async def test_what_answers_as_no_registry_is_named_so(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/", wicked.answer(404, b"<html>"))
    await _fails(registries, bad, RegistryFailed, "is not a registry")


# Trying again


async def test_a_failure_of_the_registry_is_tried_again(registries: Registries, bad: Hostile) -> None:
    failure = wicked.errors(500, "UNKNOWN", "a bad day")
    bad.on("/v2/a/manifests/1", failure, failure, wicked.manifest(MANIFEST))
    assert (await registries.manifest(_name(bad), ACCESS)).data == MANIFEST
    assert len(bad.asked("/v2/a/manifests/1")) == 3


async def test_it_is_not_tried_for_ever(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/manifests/1", wicked.errors(503, "UNAVAILABLE", "a bad day"))
    await _fails(registries, bad, RegistryFailed, "the registry says: a bad day")
    assert len(bad.asked("/v2/a/manifests/1")) == 3


async def test_a_registry_that_has_had_enough_is_left_alone_for_as_long_as_it_says(
    registries: Registries, bad: Hostile
) -> None:
    limited = wicked.errors(429, "TOOMANYREQUESTS", "slow down", {"Retry-After": "1"})
    bad.on("/v2/a/manifests/1", limited, wicked.manifest(MANIFEST))
    started = trio.current_time()
    assert (await registries.manifest(_name(bad), ACCESS)).data == MANIFEST
    assert trio.current_time() - started >= 1


@pytest.mark.parametrize(
    "status, kind", [(404, UnknownInRegistry), (403, RegistryDenied), (400, RegistryFailed)]
)
async def test_a_refusal_is_final(
    registries: Registries, bad: Hostile, status: int, kind: type[PymanError]
) -> None:
    bad.on("/v2/a/manifests/1", wicked.errors(status, "NO", "not for you"))
    await _fails(registries, bad, kind, "the registry says: not for you")
    assert len(bad.asked("/v2/a/manifests/1")) == 1


async def test_nobody_listening_is_an_error_that_names_the_reason(
    registries: Registries,
) -> None:
    name = parse("127.0.0.1:1/a:1")
    with trio.fail_after(20), pytest.raises(RegistryFailed, match="Connection refused"):
        await registries.manifest(name, ACCESS)
    with trio.fail_after(20), pytest.raises(RegistryFailed, match=r"host is not found|connection"):
        await registries.manifest(parse("host.invalid/a:1"), ACCESS)


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
        await registries.blob(_name(bad), DIGEST, ACCESS)


async def test_a_full_disk_is_told_as_such(registries: Registries, bad: Hostile) -> None:
    bad.on(_blob(), wicked.blob(DATA))
    fd = os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC)
    try:
        with pytest.raises(PymanError, match="cannot write 'a blob': No space left"):
            await registries.download(_name(bad), DIGEST, len(DATA), fd, ACCESS)
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
        await registries.manifest(_name(bad), ACCESS)
    assert all("cookie" not in asked.headers for asked in bad.requests)


# Logins


def _bearer(bad: Hostile, **parameters: str) -> dict[str, str]:
    fields = {"realm": f"{bad.url}/token", "service": "the registry", **parameters}
    return {"WWW-Authenticate": "Bearer " + ",".join(f'{key}="{value}"' for key, value in fields.items())}


async def test_a_registry_that_refuses_every_login_is_asked_twice(
    registries: Registries, bad: Hostile
) -> None:
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.answer(200, b'{"token": "t0ken-of-the-test"}'))
    bad.on("/v2/a/manifests/1", wicked.errors(401, "UNAUTHORIZED", "no", _bearer(bad)))
    with pytest.raises(RegistryDenied, match="the registry says: no") as caught:
        await registries.manifest(_name(bad), SECRET)
    assert "pyman login" in caught.value.hint
    assert len(bad.asked("/v2/a/manifests/1")) == 2
    assert len(bad.asked("/token")) == 2


async def test_a_token_is_asked_for_once_and_told_to_the_registry_alone(
    registries: Registries, bad: Hostile
) -> None:
    async with hostile() as tokens:
        challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token?x=y",service="the registry"'}
        bad.on("/v2/", wicked.answer(401, b"", challenge))
        tokens.on("/token", wicked.answer(200, b'{"token": "t0ken-of-the-test", "expires_in": 300}'))
        bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
        for _ in range(3):
            await registries.manifest(_name(bad), SECRET)
        (asked,) = tokens.asked("/token")
        assert asked.query == {
            "x": ["y"],
            "account": ["someone"],
            "scope": ["repository:a:pull"],
            "service": ["the registry"],
        }
        assert asked.headers["authorization"] == f"Basic {base64.b64encode(b'someone:s3cret-w0rd').decode()}"
    sent = {asked.headers.get("authorization") for asked in bad.asked("/v2/a/manifests/1")}
    assert sent == {"Bearer t0ken-of-the-test"}


async def test_a_token_that_has_run_out_is_renewed(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on(
        "/token",
        wicked.answer(200, b'{"access_token": "first-one"}'),
        wicked.answer(200, b'{"token": "second-one"}'),
    )
    stale = wicked.errors(401, "UNAUTHORIZED", "expired", _bearer(bad, error="invalid_token"))
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST), stale, wicked.manifest(MANIFEST))
    await registries.manifest(_name(bad), SECRET)
    await registries.manifest(_name(bad), SECRET)
    sent = [asked.headers["authorization"] for asked in bad.asked("/v2/a/manifests/1")]
    assert sent == ["Bearer first-one", "Bearer first-one", "Bearer second-one"]


async def test_mounting_asks_for_both_repositories(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.answer(200, b'{"token": "t0ken-of-the-test"}'))
    bad.on("POST /v2/a/blobs/uploads/", wicked.answer(201))
    assert await registries.mount(_name(bad), DIGEST, parse(f"{bad.host}/other"), SECRET)
    assert bad.asked("/token")[0].query["scope"] == ["repository:a:pull,push", "repository:other:pull"]


@pytest.mark.parametrize(
    "reply", [b"", b"[]", b"{}", b'{"token": ""}', b'{"token": "a\\nb"}', b'{"token": 7}']
)
async def test_what_is_no_token_is_refused(registries: Registries, bad: Hostile, reply: bytes) -> None:
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.answer(200, reply))
    await _fails(registries, bad, RegistryFailed, "no token")


async def test_a_token_server_that_refuses_the_login_is_told(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.errors(401, "UNAUTHORIZED", "no"))
    with pytest.raises(RegistryDenied, match="does not take the login of 'someone'"):
        await registries.manifest(_name(bad), SECRET)


async def test_secrets_that_a_registry_sends_back_are_not_shown(registries: Registries, bad: Hostile) -> None:
    pair = base64.b64encode(b"someone:s3cret-w0rd").decode()
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.answer(200, b'{"token": "t0ken-of-the-test"}'))
    said = f"you are s3cret-w0rd, {pair}\n\x1b[31m t0ken-of-the-test" + "x" * 5000
    bad.on("/v2/a/manifests/1", wicked.errors(403, "DENIED", said))
    with pytest.raises(RegistryDenied) as caught:
        await registries.manifest(_name(bad), SECRET)
    text = f"{caught.value}{caught.value.subject}{caught.value.hint}"
    for secret in ("s3cret", pair, "t0ken", "\x1b", "\n"):
        assert secret not in text
    assert len(text) < 500


async def test_a_token_that_a_login_was_exchanged_for_is_sent_in_its_place(
    home: Home, registries: Registries, bad: Hostile
) -> None:
    home.write(
        "run/containers/auth.json",
        json.dumps(
            {
                "auths": {
                    bad.host: {"auth": base64.b64encode(b"00000000:").decode(), "identitytoken": "id-tok"}
                }
            }
        ),
    )
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.answer(200, b'{"access_token": "t0ken-of-the-test"}'))
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
    await registries.manifest(_name(bad), ACCESS)
    (asked,) = bad.asked("/token")
    assert asked.method == "POST"
    assert b"refresh_token=id-tok" in asked.body
    assert "authorization" not in asked.headers


# Lists


async def test_the_pages_of_a_list_are_put_together(registries: Registries, bad: Hostile) -> None:
    first = wicked.answer(200, b'{"tags": ["a", "b"]}', {"Link": '</v2/a/tags/list?last=b>; rel="next"'})
    bad.on("/v2/a/tags/list", first, wicked.answer(200, b'{"tags": ["c"]}'))
    assert await registries.tags(_name(bad), ACCESS) == ["a", "b", "c"]
    assert bad.asked("/v2/a/tags/list")[1].query == {"last": ["b"]}


async def test_a_list_that_goes_round_comes_to_an_end(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/tags/list", wicked.answer(200, b'{"tags": ["a"]}', {"Link": "</v2/a/tags/list>; rel=next"}))
    assert await registries.tags(_name(bad), ACCESS) == ["a"]


async def test_a_list_that_names_another_host_is_read_from_this_one(
    registries: Registries, bad: Hostile
) -> None:
    async with hostile() as other:
        first = wicked.answer(
            200, b'{"tags": ["a"]}', {"Link": f"<{other.url}/v2/a/tags/list?n=2>; rel=next"}
        )
        bad.on("/v2/a/tags/list", first, wicked.answer(200, b'{"tags": null}'))
        assert await registries.tags(_name(bad), ACCESS) == ["a"]
        assert not other.requests


async def test_a_list_without_end_is_refused(registries: Registries, bad: Hostile) -> None:
    count = 0

    async def page(_: Asked, stream: trio.abc.Stream) -> None:
        nonlocal count
        count += 1
        tags = json.dumps({"tags": [f"{count}-{number}-{'x' * 100}" for number in range(8000)]}).encode()
        handle = wicked.answer(200, tags, {"Link": f"</v2/a/tags/list?page={count}>; rel=next"})
        await handle(_, stream)

    bad.on("/v2/a/tags/list", page)
    with trio.fail_after(30), pytest.raises(RegistryFailed, match="larger than"):
        await registries.tags(_name(bad), ACCESS)


async def test_what_is_no_list_is_refused(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/tags/list", wicked.answer(200, b'{"tags": "many"}'))
    with pytest.raises(RegistryFailed, match="no list of tags"):
        await registries.tags(_name(bad), ACCESS)


async def test_a_registry_that_searches_itself_is_taken_at_its_word(
    registries: Registries, bad: Hostile
) -> None:
    found = {"results": [{"name": "a/b", "description": "what\nit is", "star_count": 7, "is_official": True}]}
    bad.on("/v1/search", wicked.answer(200, json.dumps(found).encode()))
    (one,) = await registries.search(bad.host, "b", 5, ACCESS)
    assert (one.name, one.stars, one.official) == ("a/b", 7, True)
    assert bad.asked("/v1/search")[0].query == {"q": ["b"], "n": ["5"]}


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
            await registries.upload(_name(bad), DIGEST, len(DATA), fd, SECRET)
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
        await registries.upload(_name(bad), DIGEST, len(DATA), fd, ACCESS)
    assert [asked.method for asked in bad.requests if asked.path == "/up"] == ["PATCH", "PATCH", "PUT"]


async def test_a_registry_that_keeps_another_manifest_is_found_out(
    registries: Registries, bad: Hostile
) -> None:
    bad.on("PUT /v2/a/manifests/1", wicked.answer(201, b"", {"Docker-Content-Digest": DIGEST}))
    with pytest.raises(RegistryFailed, match="has stored it as"):
        await registries.put_manifest(_name(bad), MANIFEST, wicked.OCI_MANIFEST, ACCESS)


async def test_a_registry_without_a_place_for_an_upload_is_told(
    registries: Registries, bad: Hostile, tmp_path: Path
) -> None:
    bad.on("POST /v2/a/blobs/uploads/", wicked.answer(202))
    with file_of(tmp_path / "blob", DATA) as fd, pytest.raises(RegistryFailed, match="where to send"):
        await registries.upload(_name(bad), DIGEST, len(DATA), fd, ACCESS)
