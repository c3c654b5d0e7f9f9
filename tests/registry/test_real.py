"""Against the real docker-registry: pulling, pushing, logging in."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.api.image import RegistryAccess
from pyman.errors import DigestMismatch, NotFound, RegistryDenied, RegistryFailed, UnknownInRegistry
from supervisor.registry.reference import parse
from tests.registry.support import file_of
from tests.support.registry import PASSWORD, USER, digest_of, tar_layer

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.registry.support import Home
    from tests.support.registry import RealRegistry

LOGIN = RegistryAccess(username=USER, password=PASSWORD)


def _trusting(home: Home, registry: RealRegistry) -> None:
    registry.certs_d(home.administrator / "certs.d")


async def test_an_image_is_fetched_with_tls_and_a_login(
    home: Home, program: socket.socket, secure_registry: RealRegistry, tmp_path: Path
) -> None:
    _trusting(home, secure_registry)
    layer = tar_layer({"data": os.urandom(1_000_000)})
    pushed = secure_registry.push("org/app", "1", [layer])
    name = parse(pushed.reference)
    async with home.registries(program) as registries:
        manifest = await registries.manifest(name, LOGIN)
        assert manifest.data == pushed.manifest
        assert manifest.digest == pushed.digest
        assert manifest.media_type == pushed.media_type
        assert await registries.blob(name, digest_of(pushed.config), LOGIN) == pushed.config
        heard: list[int] = []
        with file_of(tmp_path / "layer") as fd:
            size = await registries.download(
                name,
                digest_of(layer),
                len(layer),
                fd,
                LOGIN,
                endpoints=manifest.endpoints,
                report=heard.append,
            )
        assert size == len(layer)
        assert (tmp_path / "layer").read_bytes() == layer
        assert heard == sorted(heard)
        assert heard[-1] == len(layer)


async def test_a_member_of_a_list_is_fetched_by_its_digest(
    home: Home, program: socket.socket, registry: RealRegistry
) -> None:
    one = registry.push("list", "amd64", [tar_layer({"a": b"1"})])
    two = registry.push("list", "arm64", [tar_layer({"a": b"2"})], docker=True)
    index = registry.push_index("list", "all", [(one, "amd64"), (two, "arm64")])
    async with home.registries(program) as registries:
        access = RegistryAccess(tls_verify=False)
        found = await registries.manifest(parse(index.reference), access)
        assert found.data == index.manifest
        member = await registries.manifest(
            parse(index.reference), access, digest=two.digest, endpoints=found.endpoints
        )
        assert member.data == two.manifest
        assert member.media_type == two.media_type
        assert (await registries.head(parse(index.reference), access)).digest == index.digest


async def test_a_download_goes_on_where_the_file_ends(
    home: Home, program: socket.socket, registry: RealRegistry, tmp_path: Path
) -> None:
    layer = os.urandom(500_000)
    registry.push_blob("resume", layer)
    name = parse(f"{registry.host}/resume")
    heard: list[int] = []
    async with home.registries(program) as registries:
        with file_of(tmp_path / "blob", layer[:300_000]) as fd:
            await registries.download(
                name, digest_of(layer), len(layer), fd, RegistryAccess(tls_verify=False), report=heard.append
            )
    assert (tmp_path / "blob").read_bytes() == layer
    assert heard[0] >= 300_000


async def test_a_wrong_beginning_is_found_out_and_fetched_again(
    home: Home, program: socket.socket, registry: RealRegistry, tmp_path: Path
) -> None:
    layer = os.urandom(200_000)
    registry.push_blob("resume", layer)
    name = parse(f"{registry.host}/resume")
    async with home.registries(program) as registries:
        with file_of(tmp_path / "blob", b"x" * 100_000) as fd:
            await registries.download(
                name, digest_of(layer), len(layer), fd, RegistryAccess(tls_verify=False)
            )
    assert (tmp_path / "blob").read_bytes() == layer


async def test_the_reader_of_a_growing_file_is_told_how_far_it_is(
    home: Home, program: socket.socket, registry: RealRegistry, tmp_path: Path
) -> None:
    layer = os.urandom(2_000_000)
    registry.push_blob("grow", layer)
    name = parse(f"{registry.host}/grow")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    numbers: list[int] = []

    async def read() -> None:
        os.set_blocking(reading, False)
        while True:
            await trio.lowlevel.wait_readable(reading)
            data = os.read(reading, 8)
            if not data:
                return
            numbers.append(struct.unpack("<Q", data)[0])

    async with home.registries(program) as registries, trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with file_of(tmp_path / "blob") as fd:
            await registries.download(
                name, digest_of(layer), len(layer), fd, RegistryAccess(tls_verify=False), growth=writing
            )
        os.close(writing)
    os.close(reading)
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] == len(layer)


async def test_an_image_is_sent(
    home: Home, program: socket.socket, secure_registry: RealRegistry, tmp_path: Path
) -> None:
    _trusting(home, secure_registry)
    layer = os.urandom(3_000_000)
    pushed = secure_registry.push("source", "1", [tar_layer({"a": b"1"})])
    name = parse(f"{secure_registry.host}/target:new")
    async with home.registries(program) as registries:
        assert not await registries.exists(name, digest_of(layer), LOGIN)
        heard: list[int] = []
        with file_of(tmp_path / "blob", layer) as fd:
            await registries.upload(name, digest_of(layer), len(layer), fd, LOGIN, report=heard.append)
        assert heard[-1] == len(layer)
        assert await registries.exists(name, digest_of(layer), LOGIN)
        for blob in (pushed.config, *pushed.layers):
            assert await registries.mount(name, digest_of(blob), parse(pushed.reference), LOGIN)
        assert await registries.put_manifest(name, pushed.manifest, pushed.media_type, LOGIN) == pushed.digest
        assert await registries.tags(name, LOGIN) == ["new"]
    assert secure_registry.manifest("target", "new") == pushed.manifest


async def test_what_is_sent_is_checked_by_its_digest(
    home: Home, program: socket.socket, registry: RealRegistry, tmp_path: Path
) -> None:
    access = RegistryAccess(tls_verify=False)
    name = parse(f"{registry.host}/wrong")
    async with home.registries(program) as registries:
        with file_of(tmp_path / "blob", b"content") as fd, pytest.raises(RegistryFailed, match="digest"):
            await registries.upload(name, digest_of(b"other"), 7, fd, access)
        with (
            file_of(tmp_path / "blob", b"content") as fd,
            pytest.raises(DigestMismatch, match="ends after 7 of 10"),
        ):
            await registries.upload(name, digest_of(b"content"), 10, fd, access)


async def test_a_blob_that_the_registry_does_not_have_is_not_mounted(
    home: Home, program: socket.socket, registry: RealRegistry
) -> None:
    async with home.registries(program) as registries:
        name, other = parse(f"{registry.host}/one"), parse(f"{registry.host}/two")
        assert not await registries.mount(name, digest_of(b"?"), other, RegistryAccess(tls_verify=False))
        elsewhere = parse("registry.example/two")
        assert not await registries.mount(name, digest_of(b"?"), elsewhere, RegistryAccess(tls_verify=False))


async def test_what_is_not_there_is_told(home: Home, program: socket.socket, registry: RealRegistry) -> None:
    access = RegistryAccess(tls_verify=False)
    async with home.registries(program) as registries:
        with pytest.raises(
            UnknownInRegistry, match=r"cannot pull 'localhost:\d+/none:1': .*manifest unknown"
        ):
            await registries.manifest(parse(f"{registry.host}/none:1"), access)
        with pytest.raises(UnknownInRegistry):
            await registries.tags(parse(f"{registry.host}/none"), access)
        with pytest.raises(UnknownInRegistry):
            await registries.blob(parse(f"{registry.host}/none"), digest_of(b"?"), access)


async def test_a_login_is_tried_kept_used_and_forgotten(
    home: Home, program: socket.socket, secure_registry: RealRegistry
) -> None:
    _trusting(home, secure_registry)
    pushed = secure_registry.push("private", "1", [tar_layer({"a": b"1"})])
    host, name = secure_registry.host, parse(pushed.reference)
    async with home.registries(program) as registries:
        with pytest.raises(RegistryDenied, match="authentication required"):
            await registries.manifest(name)
        with pytest.raises(RegistryDenied, match="name and password"):
            await registries.login(host, RegistryAccess(username=USER, password="wrong"))
        with pytest.raises(RegistryDenied, match="does not take the name and password") as denied:
            await registries.manifest(name, RegistryAccess(username=USER, password="wrong"))
        assert denied.value.hint == f"give others, or log in anew with 'pyman login {host}'"
        assert not home.auth_file.exists()
        logged_in = await registries.login(host, LOGIN)
        assert logged_in.stored == str(home.auth_file)
        assert home.auth_file.stat().st_mode & 0o777 == 0o600
        assert (await registries.logged_in(host)).username == USER
        assert (await registries.login(host, RegistryAccess())).username == USER
        assert (await registries.manifest(name)).digest == pushed.digest
        assert await registries.logout(host) == [host]
        with pytest.raises(RegistryDenied):
            await registries.manifest(name)
        with pytest.raises(NotFound, match="nobody is logged in"):
            await registries.logout(host)
        with pytest.raises(NotFound):
            await registries.logged_in(host)


async def test_repositories_are_found_by_a_part_of_their_name(
    home: Home, program: socket.socket, registry: RealRegistry
) -> None:
    for path in ("search/alpha", "search/beta", "alpha-two"):
        registry.push(path, "1", [tar_layer({"a": b"1"})])
    async with home.registries(program) as registries:
        access = RegistryAccess(tls_verify=False)
        found = {one.name for one in await registries.search(registry.host, "alpha", 25, access)}
        assert {"search/alpha", "alpha-two"} <= found
        assert "search/beta" not in found
        assert len(await registries.search(registry.host, "a", 1, access)) == 1


async def test_a_registry_without_a_known_certificate_is_refused(
    home: Home, program: socket.socket, secure_registry: RealRegistry
) -> None:
    name = parse(f"{secure_registry.host}/a:1")
    async with home.registries(program) as registries:
        with pytest.raises(RegistryFailed, match="certificate is not trusted") as caught:
            await registries.manifest(name, LOGIN)
        assert "certs.d" in caught.value.hint


async def test_a_registry_without_https_is_refused_unless_that_is_permitted(
    home: Home, program: socket.socket, registry: RealRegistry
) -> None:
    pushed = registry.push("plain", "1", [tar_layer({"a": b"1"})])
    name = parse(pushed.reference)
    async with home.registries(program) as registries:
        with pytest.raises(RegistryFailed, match="does not speak HTTPS"):
            await registries.manifest(name)
        home.write("etc/registries.conf", f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
        assert (await registries.manifest(name)).digest == pushed.digest
        with pytest.raises(RegistryFailed, match="does not speak HTTPS"):
            await registries.manifest(name, RegistryAccess(tls_verify=True))
