"""What is believed of a manifest that comes from elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyman.api.image import Platform
from pyman.errors import ArchiveRefused, NotSupported, PymanError
from supervisor.images.formats import manifests as m
from supervisor.images.formats.config import decode_config, parse_time
from supervisor.images.formats.convert import converted, layer_type, with_layers
from supervisor.images.formats.platforms import choose, local, matches, normalized, parse, wanted
from supervisor.images.transports.transport import MANIFEST_LIMIT, Blob, RawManifest

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def document(**changes: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": m.OCI_MANIFEST,
        "config": {"mediaType": m.OCI_CONFIG, "digest": A, "size": 2},
        "layers": [{"mediaType": m.OCI_LAYER_GZIP, "digest": B, "size": 3}],
        **changes,
    }


def raw(value: object, media_type: str = "") -> RawManifest:
    return RawManifest(json.dumps(value).encode(), media_type)


def index_of(*platforms: str, media_type: str = m.OCI_INDEX) -> m.Index:
    members = []
    for number, text in enumerate(platforms):
        os, _, rest = text.partition("/")
        arch, _, variant = rest.partition("/")
        digest = f"sha256:{number:064d}"
        members.append(
            m.Member(
                Blob(digest, 5, m.OCI_MANIFEST),
                m.MemberPlatform(os=os, architecture=arch, variant=variant),
            )
        )
    return m.Index(media_type, tuple(members))


def test_an_oci_manifest_is_read_with_its_layers_in_order() -> None:
    layers = [{"mediaType": m.OCI_LAYER_GZIP, "digest": d, "size": 3} for d in (B, C)]
    found = m.decode_manifest(raw(document(layers=layers, annotations={"a": "b"}, more={"un": "known"})))
    assert [layer.digest for layer in found.layers] == [B, C]
    assert found.annotations == {"a": "b"}
    assert found.config.digest == A


def test_a_manifest_without_a_type_is_recognised_by_what_it_holds() -> None:
    plain = document()
    del plain["mediaType"]
    assert m.decode_manifest(raw(plain)).media_type == m.OCI_MANIFEST
    plain["config"]["mediaType"] = m.DOCKER_CONFIG
    assert m.decode_manifest(raw(plain)).media_type == m.DOCKER_MANIFEST
    assert m.media_type_of(json.dumps({"schemaVersion": 2, "manifests": []}).encode()) == m.OCI_INDEX


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        (document(manifests=[]), ""),
        ({"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": [], "layers": []}, ""),
        ({"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": [], "config": document()["config"]}, ""),
        (document(), m.OCI_INDEX),
        (document(), m.DOCKER_MANIFEST),
        (document(history=[]), ""),
        (document(schemaVersion=3), ""),
        (document(config=None), ""),
        (document(config={"mediaType": m.OCI_CONFIG, "digest": "sha256:../../etc", "size": 2}), ""),
        (document(layers=[{"mediaType": m.OCI_LAYER, "digest": A.upper(), "size": 2}]), ""),
        (document(layers=[{"mediaType": m.OCI_LAYER, "digest": A, "size": -2}]), ""),
        (document(layers="none"), ""),
        ([1, 2], ""),
    ],
)
def test_a_manifest_that_is_damaged_or_two_things_at_once_is_refused(value: object, media_type: str) -> None:
    with pytest.raises(ArchiveRefused, match=r"^cannot "):
        m.decode(raw(value, media_type))


@pytest.mark.parametrize(
    "value",
    [
        {"schemaVersion": 1, "fsLayers": [], "history": []},
        {"schemaVersion": 2, "mediaType": "application/vnd.example"},
        {},
        document(layers=[{"mediaType": m.OCI_LAYER, "digest": "sha512:" + "0" * 128, "size": 2}]),
    ],
)
def test_a_manifest_of_another_kind_is_refused_by_name(value: object) -> None:
    with pytest.raises(NotSupported, match=r"^cannot "):
        m.decode(raw(value))


def test_a_manifest_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(ArchiveRefused, match="the most"):
        m.decode(RawManifest(b"x" * (MANIFEST_LIMIT + 1), m.OCI_MANIFEST))


def test_a_list_is_no_image_and_an_image_no_list() -> None:
    with pytest.raises(ArchiveRefused, match="is a manifest list"):
        m.decode_manifest(raw({"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": []}))
    with pytest.raises(ArchiveRefused, match="is an image"):
        m.decode_index(raw(document()))


def test_what_is_written_is_read_as_the_same() -> None:
    manifest = m.decode_manifest(raw(document(annotations={"a": "b"})))
    assert m.decode_manifest(m.encode_manifest(manifest)) == manifest
    index = index_of("linux/amd64", "linux/arm/v7")
    assert m.decode_index(m.encode_index(index)) == index


def test_an_image_is_converted_to_dockers_format_and_back_with_its_digests() -> None:
    manifest = m.decode_manifest(raw(document(annotations={"a": "b"})))
    docker = converted(manifest, m.DOCKER_MANIFEST)
    assert docker.config == Blob(A, 2, m.DOCKER_CONFIG)
    assert docker.layers == (Blob(B, 3, m.DOCKER_LAYER),)
    assert docker.annotations == {}
    assert m.decode_manifest(m.encode_manifest(docker)) == docker
    assert converted(docker, m.OCI_MANIFEST) == with_layers(
        m.Manifest(m.OCI_MANIFEST, manifest.config, ()), manifest.layers
    )


def test_what_dockers_format_cannot_say_is_refused() -> None:
    zstd = [{"mediaType": m.OCI_LAYER_ZSTD, "digest": B, "size": 3}]
    with pytest.raises(NotSupported, match="no counterpart"):
        converted(m.decode_manifest(raw(document(layers=zstd))), m.DOCKER_MANIFEST)
    with pytest.raises(NotSupported, match="zstd"):
        layer_type(m.DOCKER_MANIFEST, "zstd")


@pytest.mark.parametrize(
    ("there", "asked", "chosen"),
    [
        (("linux/arm64", "linux/amd64"), Platform("linux", "amd64"), "linux/amd64"),
        (("linux/arm/v6", "linux/arm/v7"), Platform("linux", "arm", "v7"), "linux/arm/v7"),
        (("linux/arm/v5", "linux/arm/v6"), Platform("linux", "arm", "v7"), "linux/arm/v6"),
        (("linux/arm/v7", "linux/arm"), Platform("linux", "arm"), "linux/arm"),
        (("linux/arm/v6", "linux/arm/v7"), Platform("linux", "arm"), "linux/arm/v7"),
        (("linux/arm64/v8",), Platform("linux", "aarch64"), "linux/arm64/v8"),
        (("linux/amd64/v3", "linux/amd64/v2"), Platform("linux", "amd64", "v3"), "linux/amd64/v3"),
        (("linux/amd64/v2", "linux/amd64"), Platform("linux", "amd64", "v3"), "linux/amd64/v2"),
        (("linux/amd64/v3", "linux/amd64"), Platform("linux", "x86_64"), "linux/amd64"),
    ],
)
def test_the_member_for_a_platform_is_the_most_capable_one_that_runs_there(
    there: tuple[str, ...], asked: Platform, chosen: str
) -> None:
    assert str(choose(index_of(*there), asked, "x").platform) == chosen


def test_a_platform_that_a_list_has_not_is_named_with_those_it_has() -> None:
    with pytest.raises(NotSupported, match="not made for linux/s390x") as caught:
        choose(index_of("linux/amd64", "linux/arm/v7", "unknown/unknown"), Platform("linux", "s390x"), "x")
    assert caught.value.hint == "there is linux/amd64, linux/arm/v7"


def test_without_a_wish_it_is_this_machine() -> None:
    here = local()
    assert wanted(Platform())[-1] == Platform(here.os, here.arch)
    assert normalized(Platform("Linux", "armhf")) == Platform("linux", "arm", "v7")
    assert parse("linux/arm/v7") == Platform("linux", "arm", "v7")
    with pytest.raises(PymanError, match=r"^cannot use the platform"):
        parse("linux//v7")


def test_an_image_that_says_nothing_of_its_machine_is_for_this_one() -> None:
    assert matches(decode_config(b"{}"), Platform())
    assert not matches(decode_config(b'{"architecture": "s390x", "os": "linux"}'), Platform("linux", "amd64"))


def test_a_configuration_of_nulls_is_an_empty_one() -> None:
    text = b'{"config": {"Cmd": null, "Env": null, "Labels": null, "Volumes": null}, "history": null, "x": 1}'
    config = decode_config(text)
    assert config.process.cmd is None
    assert config.steps == []
    assert config.labels == {}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"config": {"Cmd": "sh"}}',
        b'{"rootfs": {"diff_ids": ["/etc/passwd"]}}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b" " * (5 << 20),
    ],
)
def test_a_configuration_that_is_damaged_is_refused(text: bytes) -> None:
    with pytest.raises(ArchiveRefused, match=r"^cannot "):
        decode_config(text, "x")


def test_times_are_read_to_the_microsecond_and_nonsense_is_none() -> None:
    moment = parse_time("2024-01-01T12:11:12.123456789+02:00")
    assert moment is not None
    assert moment.isoformat() == "2024-01-01T10:11:12.123457+00:00"
    assert parse_time("yesterday") is None
    assert parse_time(None) is None
