"""Registries that lie, stall, redirect and flood: a typed error in bounded time, and no secret told."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import (
    DigestMismatch,
    NotSupported,
    RegistryDenied,
    RegistryFailed,
    UnknownInRegistry,
)
from supervisor.registry.reference import parse
from tests.registry.support import ACCESS, DIGEST, MANIFEST, SECRET, name_at
from tests.support import hostile as wicked
from tests.support.hostile import hostile

if TYPE_CHECKING:
    from pyman.errors import (
        PymanError,
    )
    from supervisor.registry.client import Registries
    from tests.registry.support import Home
    from tests.support.hostile import Asked, Hostile


async def _fails(registries: Registries, bad: Hostile, kind: type[PymanError], match: str) -> None:
    with trio.fail_after(20), pytest.raises(kind, match=match):
        await registries.manifest(name_at(bad), ACCESS)


# Manifests


async def test_a_registry_that_does_not_answer_is_given_up(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/manifests/1", wicked.silence)
    await _fails(registries, bad, RegistryFailed, "does not answer within 1 s")
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
    assert kind in bad.asked("/v2/a/manifests/1")[0].headers["accept"]


async def test_a_manifest_of_an_unknown_kind_is_refused(registries: Registries, bad: Hostile) -> None:
    data = b'{"schemaVersion": 2, "mediaType": "application/vnd.wild+json", "layers": []}'
    bad.on("/v2/a/manifests/1", wicked.manifest(data, "application/vnd.wild+json"))
    await _fails(registries, bad, NotSupported, "unknown kind 'application/vnd.wild")


async def test_a_manifest_without_a_kind_is_recognised(registries: Registries, bad: Hostile) -> None:
    data = b'{"schemaVersion": 2, "config": {}, "layers": []}'
    bad.on("/v2/a/manifests/1", wicked.manifest(data, "text/plain"))
    assert (await registries.manifest(name_at(bad), ACCESS)).media_type == wicked.OCI_MANIFEST


async def test_a_manifest_that_is_not_what_its_digest_says_is_refused(
    registries: Registries, bad: Hostile
) -> None:
    bad.on(f"/v2/a/manifests/{DIGEST}", wicked.manifest(MANIFEST))
    with pytest.raises(DigestMismatch, match="its content is sha256:"):
        await registries.manifest(name_at(bad).with_digest(DIGEST), ACCESS)
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST, headers={"Docker-Content-Digest": DIGEST}))
    await _fails(registries, bad, DigestMismatch, "its content is sha256:")


async def test_a_manifest_of_100_mb_costs_little(home: Home, bad: Hostile) -> None:
    async with home.registries() as registries:
        await _floods(registries, bad)


async def _floods(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
    await registries.manifest(name_at(bad), ACCESS)
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
    assert (await registries.manifest(name_at(bad), ACCESS)).data == MANIFEST
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
    assert (await registries.manifest(name_at(bad), ACCESS)).data == MANIFEST
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
    with trio.fail_after(20), pytest.raises(RegistryFailed, match=r"registry fails: Connection refused$"):
        await registries.manifest(name, ACCESS)
    with trio.fail_after(20), pytest.raises(RegistryFailed, match=r"host is not found|connection"):
        await registries.manifest(parse("host.invalid/a:1"), ACCESS)


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
        await registries.manifest(name_at(bad), SECRET)
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
            await registries.manifest(name_at(bad), SECRET)
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
    await registries.manifest(name_at(bad), SECRET)
    await registries.manifest(name_at(bad), SECRET)
    sent = [asked.headers["authorization"] for asked in bad.asked("/v2/a/manifests/1")]
    assert sent == ["Bearer first-one", "Bearer first-one", "Bearer second-one"]


async def test_mounting_asks_for_both_repositories(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.answer(200, b'{"token": "t0ken-of-the-test"}'))
    bad.on("POST /v2/a/blobs/uploads/", wicked.answer(201))
    assert await registries.mount(name_at(bad), DIGEST, parse(f"{bad.host}/other"), SECRET)
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
        await registries.manifest(name_at(bad), SECRET)


async def test_secrets_that_a_registry_sends_back_are_not_shown(registries: Registries, bad: Hostile) -> None:
    pair = base64.b64encode(b"someone:s3cret-w0rd").decode()
    bad.on("/v2/", wicked.answer(401, b"", _bearer(bad)))
    bad.on("/token", wicked.answer(200, b'{"token": "t0ken-of-the-test"}'))
    said = f"you are s3cret-w0rd, {pair}\n\x1b[31m t0ken-of-the-test" + "x" * 5000
    bad.on("/v2/a/manifests/1", wicked.errors(403, "DENIED", said))
    with pytest.raises(RegistryDenied) as caught:
        await registries.manifest(name_at(bad), SECRET)
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
    await registries.manifest(name_at(bad), ACCESS)
    (asked,) = bad.asked("/token")
    assert asked.method == "POST"
    assert b"refresh_token=id-tok" in asked.body
    assert "authorization" not in asked.headers


# Lists


async def test_the_pages_of_a_list_are_put_together(registries: Registries, bad: Hostile) -> None:
    first = wicked.answer(200, b'{"tags": ["a", "b"]}', {"Link": '</v2/a/tags/list?last=b>; rel="next"'})
    bad.on("/v2/a/tags/list", first, wicked.answer(200, b'{"tags": ["c"]}'))
    assert await registries.tags(name_at(bad), ACCESS) == ["a", "b", "c"]
    assert bad.asked("/v2/a/tags/list")[1].query == {"last": ["b"]}


async def test_a_list_that_goes_round_comes_to_an_end(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/tags/list", wicked.answer(200, b'{"tags": ["a"]}', {"Link": "</v2/a/tags/list>; rel=next"}))
    assert await registries.tags(name_at(bad), ACCESS) == ["a"]


async def test_a_list_that_names_another_host_is_read_from_this_one(
    registries: Registries, bad: Hostile
) -> None:
    async with hostile() as other:
        first = wicked.answer(
            200, b'{"tags": ["a"]}', {"Link": f"<{other.url}/v2/a/tags/list?n=2>; rel=next"}
        )
        bad.on("/v2/a/tags/list", first, wicked.answer(200, b'{"tags": null}'))
        assert await registries.tags(name_at(bad), ACCESS) == ["a"]
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
        await registries.tags(name_at(bad), ACCESS)


async def test_what_is_no_list_is_refused(registries: Registries, bad: Hostile) -> None:
    bad.on("/v2/a/tags/list", wicked.answer(200, b'{"tags": "many"}'))
    with pytest.raises(RegistryFailed, match="no list of tags"):
        await registries.tags(name_at(bad), ACCESS)


async def test_a_registry_that_searches_itself_is_taken_at_its_word(
    registries: Registries, bad: Hostile
) -> None:
    found = {"results": [{"name": "a/b", "description": "what\nit is", "star_count": 7, "is_official": True}]}
    bad.on("/v1/search", wicked.answer(200, json.dumps(found).encode()))
    (one,) = await registries.search(bad.host, "b", 5, ACCESS)
    assert (one.name, one.stars, one.official) == ("a/b", 7, True)
    assert bad.asked("/v1/search")[0].query == {"q": ["b"], "n": ["5"]}
