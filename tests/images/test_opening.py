"""Images in archives, layouts and directories, as sources."""

from __future__ import annotations

import gzip
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from pyman.errors import ArchiveRefused, DigestMismatch, InvalidArgument, NotSupported, PymanError
from supervisor.archive.feed import Feed
from supervisor.images.formats.manifests import Index, decode
from supervisor.images.transports import opening
from supervisor.images.transports import places as transports
from supervisor.images.transports.folder import hash_range
from tests.images import made
from tests.images.made import archive_of, digest_of
from tests.storage.others import missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from supervisor.images.transports.opening import Candidate
    from supervisor.images.transports.transport import Source
    from tests.storage.others import Others


@asynccontextmanager
async def _all(path: Path) -> AsyncIterator[list[Candidate]]:
    """Everything that is in a file or in a directory."""
    if path.is_dir():
        async with opening.directory(str(path)) as folder:
            yield await opening.images_of(folder)
    else:
        async with (
            opening.opened_file(str(path)) as fd,
            opening.archive(fd, str(path), str(path.parent)) as files,
        ):
            yield await opening.images_of(files)


async def _read(source: Source) -> tuple[str, list[str]]:
    """The id of the image and the digests of its layers, as they are read; all of it verified."""
    manifest = decode(await source.manifest())
    if isinstance(manifest, Index):
        manifest = decode(await source.manifest(manifest.members[0].blob.digest))
    assert not isinstance(manifest, Index)
    config = await source.blob(manifest.config)
    layers = []
    for blob in manifest.layers:
        async with source.layer(blob, lambda _: None) as feed:
            length = feed.length if feed.length >= 0 else os.fstat(feed.fd).st_size
            assert length == blob.size
            layers.append(await hash_range(Feed(feed.fd, feed.offset, length)))
            assert layers[-1] == blob.digest
    return digest_of(config)[7:], layers


async def _read_all(path: Path) -> dict[tuple[str, ...], str]:
    async with _all(path) as found:
        return {each.names: (await _read(await each.open()))[0] for each in found}


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """An archive of these members on the disk."""

    def written(members: Any, squeeze: Callable[[bytes], bytes] = bytes) -> Path:
        path = tmp_path / "in.tar"
        path.write_bytes(squeeze(archive_of(members)))
        return path

    return written


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("compress", [False, True])
async def test_a_docker_archive_is_read_compressed_or_not_within_and_without(
    put: Callable[..., Path], squeeze: Callable[[bytes], bytes], compress: bool
) -> None:
    image = made.image(compress=compress)
    path = put(image.docker("registry.example/a:1", "b"), squeeze)
    found = await _read_all(path)
    assert found == {("registry.example/a:1", "docker.io/library/b:latest"): image.id}


async def test_layers_of_an_archive_may_be_links_to_others(put: Callable[..., Path]) -> None:
    image = made.image()
    members = image.docker()
    first = json.loads(members["manifest.json"])[0]["Layers"][0]
    members["dir/layer.tar"] = f"../{first}"
    changed = json.loads(members["manifest.json"])
    changed[0]["Layers"][0] = "dir/layer.tar"
    members["manifest.json"] = json.dumps(changed).encode()
    assert list((await _read_all(put(members))).values()) == [image.id]


async def test_the_manifest_of_a_docker_archive_is_the_one_that_podman_makes(
    put: Callable[..., Path], others: Others, place: Path
) -> None:
    if reason := missing("skopeo"):
        pytest.skip(reason)
    path = put(made.image().docker("registry.example/a:1"))
    others.skopeo("copy", f"docker-archive:{path}", f"dir:{place}/copied")
    async with _all(path) as found:
        raw = await (await found[0].open()).manifest()
    assert raw.data == (place / "copied" / "manifest.json").read_bytes()


async def test_an_archive_from_before_docker_1_10_is_read(put: Callable[..., Path]) -> None:
    image = made.image()
    path = put(image.legacy("registry.example/old", "1"))
    async with _all(path) as found:
        assert [each.names for each in found] == [("registry.example/old:1",)]
        source = await found[0].open()
        id, layers = await _read(source)
        config = json.loads(await source.blob(decode(await source.manifest()).config))  # type: ignore[union-attr]
    assert layers == [digest_of(each) for each in image.diffs]
    assert [step["created_by"] for step in config["history"]] == ["/bin/sh -c step 0", "/bin/sh -c step 1"]
    assert config["config"] == {"Cmd": ["sh"]}
    assert id


@pytest.mark.parametrize("packed", [False, True])
async def test_a_layout_has_as_many_images_as_it_lists(packed: bool, tmp_path: Path) -> None:
    image = made.image(compress=True)
    members = image.layout("registry.example/a:1", "short")
    path = made.write(tmp_path / "in", members)
    if packed:
        path = tmp_path / "in.tar"
        path.write_bytes(archive_of(members))
    found = await _read_all(path)
    assert found == {("registry.example/a:1",): image.id, ("localhost/short:latest",): image.id}


async def test_one_image_of_a_layout_is_chosen_by_name_or_number(tmp_path: Path) -> None:
    made.write(tmp_path / "in", made.image().layout("a", "b"))
    for inside, names in (("b", ("localhost/b:latest",)), ("@0", ("localhost/a:latest",))):
        async with opening.place(transports.parse(f"oci:{tmp_path}/in:{inside}"), str(tmp_path)) as found:
            assert found.names == names
    for inside in ("c", "@2", ""):
        where = transports.parse(f"oci:{tmp_path}/in:{inside}")
        with pytest.raises(ArchiveRefused, match="it has 'a', 'b'"):
            async with opening.place(where, str(tmp_path)):
                pass


async def test_an_index_in_an_index_is_a_list_whose_members_are_found(put: Callable[..., Path]) -> None:
    image = made.image()
    members = image.layout()
    inner = members["index.json"]
    assert isinstance(inner, bytes)
    members[f"blobs/sha256/{digest_of(inner)[7:]}"] = inner
    entry = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest_of(inner),
        "size": len(inner),
    }
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    assert list((await _read_all(put(members))).values()) == [image.id]


async def test_a_directory_of_skopeo_is_read(tmp_path: Path) -> None:
    image = made.image()
    assert await _read_all(made.write(tmp_path / "in", image.directory())) == {(): image.id}


@pytest.mark.skipif(bool(missing("podman", "skopeo")), reason=missing("podman", "skopeo"))
async def test_what_podman_and_skopeo_have_written_is_read(
    others: Others, place: Path, tmp_path: Path
) -> None:
    name = made.built(others, tmp_path)
    id = others.podman("inspect", "--format", "{{.Id}}", name)
    others.podman("save", "-q", "-o", f"{place}/docker.tar", name)
    others.podman("save", "-q", "--format", "oci-archive", "-o", f"{place}/oci.tar", name)
    others.podman("save", "-q", "--format", "oci-dir", "-o", f"{place}/oci", name)
    others.podman("save", "-q", "--format", "docker-dir", "-o", f"{place}/dir", name)
    others.podman("save", "-q", "-m", "-o", f"{place}/both.tar", name, "localhost/made:1")
    for each in ("docker.tar", "oci.tar", "oci"):
        assert await _read_all(place / each) == {(name,): id}, each
    assert list((await _read_all(place / "dir")).values()) == [id]
    assert set(await _read_all(place / "both.tar")) == {(name,), ("localhost/made:1",)}


def _damaged() -> dict[str, Any]:
    image = made.image()
    docker, layout = image.docker("a:1"), image.layout("a")
    layer = next(iter(docker))
    manifest = f"blobs/sha256/{digest_of(image.manifest)[7:]}"
    loop: list[Any] = [(name, content) for name, content in docker.items() if name != layer]
    return {
        "nothing": {},
        "something else": {"etc/passwd": b"root"},
        "config outside": {**docker, **image.docker(Config="../../etc/passwd")},
        "config absolute": {**docker, **image.docker(Config="/etc/passwd")},
        "layer outside": {**docker, **image.docker(Layers=["/etc/passwd", "../x"])},
        "layer missing": {name: content for name, content in docker.items() if name != layer},
        "fewer layers": {**docker, **image.docker(Layers=[layer])},
        "more layers": {**docker, **image.docker(Layers=[layer] * 3)},
        "a tag that is none": image.docker("UPPER CASE"),
        "manifest.json is no list": {**docker, "manifest.json": b"{}"},
        "manifest.json is no JSON": {**docker, "manifest.json": b"[" * 100_000},
        "manifest.json is huge": {**docker, "manifest.json": b" " * (5 << 20)},
        "config is huge": {**docker, f"{image.id}.json": b" " * (5 << 20)},
        "config is no JSON": {**docker, f"{image.id}.json": b"{"},
        "links in a circle": [*loop, (layer, "round"), ("round", layer)],
        "a link to itself": [*loop, (layer, layer)],
        "a link outside": [*loop, (layer, "../../../../etc/passwd")],
        "index.json is huge": {**layout, "index.json": b" " * (5 << 20)},
        "index.json is no JSON": {**layout, "index.json": b"{"},
        "a digest with a path": {
            **layout,
            "index.json": b'{"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}',
        },
        "a blob is missing": {name: content for name, content in layout.items() if name != manifest},
        "a blob is another": {**layout, manifest: b"{}"},
        "a config is another": {**layout, f"blobs/sha256/{image.id}": b"{}"},
        "a layer is longer": {**layout, f"blobs/sha256/{digest_of(image.blobs[0])[7:]}": b"x" * 10_000},
        "a damaged oci-layout": {**layout, "oci-layout": b"[]"},
        "an old oci-layout": {**layout, "oci-layout": b'{"imageLayoutVersion":"2.0"}'},
        "legacy: no end": {
            "repositories": json.dumps({"a": {"b": "1" * 64}}).encode(),
            f"{'1' * 64}/json": json.dumps({"parent": "1" * 64}).encode(),
            f"{'1' * 64}/layer.tar": b"",
        },
        "legacy: outside": {"repositories": json.dumps({"a": {"b": "../../etc"}}).encode()},
        "legacy: no layer": {"repositories": json.dumps({"a": {"b": "1" * 64}}).encode()},
    }  # fmt: skip


@pytest.mark.parametrize("what", list(_damaged()))
async def test_an_archive_that_is_not_right_is_refused(what: str, put: Callable[..., Path]) -> None:
    with pytest.raises((ArchiveRefused, DigestMismatch, NotSupported)):
        await _read_all(put(_damaged()[what]))


async def test_an_archive_that_is_cut_off_is_refused(put: Callable[..., Path]) -> None:
    path = put(made.image().docker("a:1"))
    data = path.read_bytes()
    for size in (0, 100, 700, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(ArchiveRefused):
            await _read_all(path)
    path.write_bytes(gzip.compress(data)[:-20])
    with pytest.raises(ArchiveRefused):
        await _read_all(path)


async def test_of_two_members_with_one_name_the_last_counts(put: Callable[..., Path]) -> None:
    image = made.image()
    members = [("manifest.json", b"[]"), *image.docker("a:1").items()]
    assert list((await _read_all(put(members))).values()) == [image.id]


async def test_nothing_outside_a_directory_is_read(tmp_path: Path) -> None:
    image = made.image()
    members = image.directory()
    (tmp_path / "secret").write_bytes(image.config)
    members[image.id] = f"{tmp_path}/secret"
    path = made.write(tmp_path / "in", members)
    with pytest.raises(ArchiveRefused, match=f"no '{image.id}'"):
        await _read_all(path)
    (path / image.id).unlink()
    os.mkfifo(path / image.id)
    with pytest.raises(ArchiveRefused, match=f"no '{image.id}'"):
        await _read_all(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(InvalidArgument):
        async with opening.directory(f"{tmp_path}/link"):
            pass


@pytest.mark.parametrize("version", [b"", b"nonsense", b"Directory Transport Version: 2.0\n"])
async def test_a_directory_of_another_version_is_refused(tmp_path: Path, version: bytes) -> None:
    path = made.write(tmp_path / "in", {**made.image().directory(), "version": version})
    with pytest.raises(PymanError):
        await _read_all(path)


async def test_what_is_no_file_is_not_read_as_an_archive(tmp_path: Path) -> None:
    for path in (f"{tmp_path}/absent", str(tmp_path), "/dev/null"):
        with pytest.raises(InvalidArgument):
            async with opening.opened_file(path):
                pass
