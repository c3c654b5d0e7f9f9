"""Certificates, client certificates, proxies; and that a secure registry stays one."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from pyman.api.image import RegistryAccess
from pyman.errors import InvalidConfig, PymanError, RegistryDenied, RegistryFailed
from supervisor.registry.reference import parse
from tests.registry.support import DATA, DIGEST, MANIFEST, file_of, name_at
from tests.support import hostile as wicked
from tests.support.hostile import hostile

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.registry.support import Home
    from tests.support.hostile import Hostile

SECURE = RegistryAccess(retry=0, username="someone", password="s3cret-w0rd")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """Of a server on loopback."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    return made


def _trust(home: Home, registry: Hostile, authority: trustme.CA) -> Path:
    directory = home.administrator / "certs.d" / registry.host
    directory.mkdir(parents=True)
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    return directory


async def test_the_authority_of_a_registry_is_trusted_for_it_alone(
    home: Home, program: socket.socket, authority: trustme.CA, context: ssl.SSLContext
) -> None:
    async with hostile(context) as one, hostile(context) as two, home.registries(program) as registries:
        _trust(home, one, authority)
        for registry in (one, two):
            registry.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
        assert (await registries.manifest(name_at(one), SECURE)).data == MANIFEST
        with pytest.raises(RegistryFailed, match="certificate is not trusted"):
            await registries.manifest(name_at(two), SECURE)
        explicit = RegistryAccess(retry=0, cert_dir=str(home.administrator / "certs.d" / one.host))
        assert (await registries.manifest(name_at(two), explicit)).data == MANIFEST


async def test_a_certificate_for_another_host_is_refused(
    home: Home, program: socket.socket, authority: trustme.CA
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    async with hostile(context) as bad, home.registries(program) as registries:
        _trust(home, bad, authority)
        with pytest.raises(RegistryFailed, match=r"not trusted: .*mismatch"):
            await registries.manifest(name_at(bad), SECURE)
        assert not bad.requests


async def test_a_client_shows_its_certificate(
    home: Home, program: socket.socket, authority: trustme.CA, context: ssl.SSLContext
) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    async with hostile(context) as bad, home.registries(program) as registries:
        bad.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
        directory = _trust(home, bad, authority)
        with pytest.raises(RegistryFailed, match=r"secure connection|broke"):
            await registries.manifest(name_at(bad), SECURE)
        issued = authority.issue_cert("client.example")
        issued.cert_chain_pems[0].write_to_path(str(directory / "me.cert"))
        with pytest.raises(InvalidConfig, match=r"no 'me.key' beside it"):
            await registries.manifest(name_at(bad), SECURE)
        issued.private_key_pem.write_to_path(str(directory / "me.key"))
        assert (await registries.manifest(name_at(bad), SECURE)).data == MANIFEST


async def test_a_blob_comes_over_tls_whole(
    home: Home, program: socket.socket, authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    async with hostile(context) as bad, home.registries(program) as registries:
        _trust(home, bad, authority)
        bad.on(f"/v2/a/blobs/{DIGEST}", wicked.blob(DATA, stop=100_001), wicked.blob(DATA))
        access = RegistryAccess(retry=1, retry_delay=0.01)
        with file_of(tmp_path / "blob") as fd:
            await registries.download(name_at(bad), DIGEST, len(DATA), fd, access)
        assert (tmp_path / "blob").read_bytes() == DATA
        assert [asked.begin for asked in bad.asked(f"/v2/a/blobs/{DIGEST}")] == [0, 100_001]


async def test_a_secure_registry_does_not_lead_to_an_insecure_place(
    home: Home, program: socket.socket, authority: trustme.CA, context: ssl.SSLContext
) -> None:
    async with hostile(context) as bad, hostile() as plain, home.registries(program) as registries:
        _trust(home, bad, authority)
        bad.on("/v2/a/manifests/1", wicked.redirect(f"{plain.url}/v2/a/manifests/1"))
        plain.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
        with pytest.raises(RegistryFailed, match="without HTTPS"):
            await registries.manifest(name_at(bad), SECURE)
        bad.on("/v2/", wicked.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{plain.url}/token"'}))
        other = RegistryAccess(
            retry=0,
            username="someone",
            password="s3cret",
            cert_dir=str(home.administrator / "certs.d" / bad.host),
        )
        bad.on(
            "/v2/a/manifests/1",
            wicked.errors(401, "NO", "no", {"WWW-Authenticate": f'Bearer realm="{plain.url}/t"'}),
        )
        with pytest.raises((RegistryFailed, RegistryDenied)) as caught:
            await registries.manifest(name_at(bad), other)
        assert "without HTTPS" in caught.value.message
        assert not plain.requests


async def test_an_upload_stays_secure_where_the_registry_does_not_know_that_it_is(
    home: Home, program: socket.socket, authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    async with hostile(context) as bad, home.registries(program) as registries:
        _trust(home, bad, authority)
        place = f"http://{bad.host}/up"
        bad.on("POST /v2/a/blobs/uploads/", wicked.answer(202, b"", {"Location": place}))
        bad.on("PATCH /up", wicked.answer(202, b"", {"Location": place}))
        bad.on("PUT /up", wicked.answer(201))
        with file_of(tmp_path / "blob", DATA) as fd:
            await registries.upload(name_at(bad), DIGEST, len(DATA), fd, SECURE)
        assert [asked.method for asked in bad.asked("/up")] == ["PATCH", "PUT"]


async def test_a_proxy_is_asked_where_one_is_set(home: Home) -> None:
    async with hostile() as proxy:
        proxy.on("/v2/a/manifests/1", wicked.manifest(MANIFEST))
        access = RegistryAccess(retry=0, tls_verify=False)
        async with home.registries(
            environ={"HTTP_PROXY": proxy.url, "no_proxy": "direct.invalid"}
        ) as registries:
            found = await registries.manifest(parse("registry.invalid/a:1"), access)
            assert found.data == MANIFEST
            assert proxy.requests[-1].target == "http://registry.invalid/v2/a/manifests/1"
            with pytest.raises(RegistryFailed, match=r"host is not found|connection"):
                await registries.manifest(parse("direct.invalid/a:1"), access)


async def test_a_tunnel_through_a_proxy_is_as_secure_as_without(
    home: Home, authority: trustme.CA, context: ssl.SSLContext
) -> None:
    refusing = wicked.answer(403, b"not there")
    async with hostile() as proxy, hostile(context) as bad:
        _trust(home, bad, authority)
        proxy.on("CONNECT registry.invalid:443", refusing)
        proxy.handlers["CONNECT "] = refusing
        async with home.registries(environ={"HTTPS_PROXY": proxy.url}) as registries:
            with pytest.raises(PymanError, match="proxy refuses") as caught:
                await registries.manifest(parse("registry.invalid/a:1"), SECURE)
        assert proxy.requests[0].method == "CONNECT"
        assert proxy.requests[0].target == "registry.invalid:443"
        assert "authorization" not in proxy.requests[0].headers
        assert "s3cret" not in str(caught.value)
