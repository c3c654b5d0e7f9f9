"""Manifests and manifest lists: OCI's and Docker's (version 2, schema 2), decoded, checked and written.

What comes from outside is not believed: it is bounded in size, it is one thing and not two at once, and every digest
in it is one that can be compared. Fields that nobody knows are left alone: the bytes are what counts, and they are
kept as they are.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from pyman.errors import ArchiveRefused, NotSupported
from supervisor.images.transports.transport import MANIFEST_LIMIT, Blob, RawManifest

__all__ = [
    "DOCKER_CONFIG",
    "DOCKER_FOREIGN_LAYER",
    "DOCKER_LAYER",
    "DOCKER_LAYER_PLAIN",
    "DOCKER_LAYER_ZSTD",
    "DOCKER_LIST",
    "DOCKER_MANIFEST",
    "INDEXES",
    "MANIFESTS",
    "OCI_CONFIG",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "Index",
    "Manifest",
    "Member",
    "MemberPlatform",
    "check_digest",
    "decode",
    "decode_index",
    "decode_manifest",
    "described_blob",
    "encode_index",
    "encode_manifest",
    "media_type_of",
]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
_SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OTHER_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+")


class MemberPlatform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a member of a list runs on, as the list says."""

    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(name="os.version", default="")
    os_features: list[str] | None = msgspec.field(name="os.features", default=None)
    variant: str = ""
    features: list[str] | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class _Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    media_type: str = ""
    size: int = -1
    digest: str = ""
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str = ""
    data: str | None = None
    platform: MemberPlatform | None = None


class _Document(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Either of the two, before it is known which."""

    schema_version: int = 0
    media_type: str = ""
    artifact_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    annotations: dict[str, str] | None = None
    subject: _Descriptor | None = None
    fs_layers: Any = None
    history: Any = None


class Manifest(msgspec.Struct, frozen=True):
    """Of one image. The layers go from the base upwards."""

    media_type: str
    config: Blob
    layers: tuple[Blob, ...]
    annotations: dict[str, str] = {}
    artifact_type: str = ""
    subject: Blob | None = None

    @property
    def is_oci(self) -> bool:
        return self.media_type == OCI_MANIFEST


class Member(msgspec.Struct, frozen=True):
    """One manifest of a list."""

    blob: Blob
    platform: MemberPlatform = MemberPlatform()
    artifact_type: str = ""


class Index(msgspec.Struct, frozen=True):
    """A manifest list, or image index."""

    media_type: str
    members: tuple[Member, ...]
    annotations: dict[str, str] = {}
    artifact_type: str = ""
    subject: Blob | None = None

    def member(self, digest: str) -> Member | None:
        return next((each for each in self.members if each.blob.digest == digest), None)


_decoder = msgspec.json.Decoder(_Document)


def check_digest(digest: str, what: str = "a blob") -> str:
    """The digest, if content can be compared with it. ArchiveRefused, NotSupported."""
    if _DIGEST.fullmatch(digest):
        return digest
    if _OTHER_DIGEST.fullmatch(digest) and not digest.startswith("sha256:"):
        raise NotSupported(
            f"cannot verify {what} by the digest '{digest[:80]}': only sha256 is known", subject=digest[:80]
        )
    raise ArchiveRefused(f"cannot use the digest '{digest[:80]}' of {what}: it is none", subject=digest[:80])


def media_type_of(data: bytes) -> str:
    """What the document is, as it says itself or as its fields show; empty: neither manifest nor list."""
    try:
        document = _decoder.decode(data)
    except msgspec.DecodeError:
        return ""
    return _kind(document)


def decode(raw: RawManifest) -> Manifest | Index:
    """ArchiveRefused: damaged, or two things at once. NotSupported: of a kind that is not known here."""
    if len(raw.data) > MANIFEST_LIMIT:
        raise ArchiveRefused(
            f"cannot read a manifest of {len(raw.data)} bytes: {MANIFEST_LIMIT} are the most"
        )
    try:
        document = _decoder.decode(raw.data)
    except msgspec.DecodeError as error:
        raise ArchiveRefused(f"cannot read the manifest {raw.digest}: {error}", subject=raw.digest) from None
    kind = _kind(document)
    said = raw.media_type.partition(";")[0].strip()
    if said in _SCHEMA_1 or kind in _SCHEMA_1:
        raise NotSupported(
            f"cannot use the manifest {raw.digest}: it is of Docker's schema 1",
            subject=raw.digest,
            hint="build or push the image anew",
        )
    if kind not in MANIFESTS | INDEXES:
        what = f"of the type '{(kind or said)[:80]}'" if kind or said else "of no known type"
        raise NotSupported(f"cannot use the manifest {raw.digest}: it is {what}", subject=raw.digest)
    if said in MANIFESTS | INDEXES and said != kind:
        raise ArchiveRefused(
            f"cannot use the manifest {raw.digest}: it came as '{said}' and is '{kind}'", subject=raw.digest
        )
    return _manifest(document, kind, raw) if kind in MANIFESTS else _index(document, kind, raw)


def decode_manifest(raw: RawManifest) -> Manifest:
    """As `decode`; ArchiveRefused for a list."""
    found = decode(raw)
    if isinstance(found, Index):
        raise ArchiveRefused(
            f"cannot use {raw.digest} as an image: it is a manifest list", subject=raw.digest
        )
    return found


def decode_index(raw: RawManifest) -> Index:
    """As `decode`; ArchiveRefused for the manifest of one image."""
    found = decode(raw)
    if isinstance(found, Manifest):
        raise ArchiveRefused(
            f"cannot use {raw.digest} as a manifest list: it is an image", subject=raw.digest
        )
    return found


def _kind(document: _Document) -> str:
    if document.media_type:
        return document.media_type
    if document.schema_version == 1 or document.fs_layers is not None:
        return "application/vnd.docker.distribution.manifest.v1+json"
    if document.manifests is not None and document.layers is None:
        types = {each.media_type for each in document.manifests}
        return DOCKER_LIST if types and types <= {DOCKER_MANIFEST} else OCI_INDEX
    if document.config is not None:
        return DOCKER_MANIFEST if document.config.media_type == DOCKER_CONFIG else OCI_MANIFEST
    return ""


def _refuse_confusion(document: _Document, raw: RawManifest, *, index: bool) -> None:
    """A document that one reader takes for a list and another for an image is nobody's."""
    strangers = (
        {"config": document.config, "layers": document.layers} if index else {"manifests": document.manifests}
    )
    strangers |= {"fsLayers": document.fs_layers, "history": document.history}
    present = [name for name, value in strangers.items() if value is not None]
    if present:
        raise ArchiveRefused(
            f"cannot use the manifest {raw.digest}: it is a {'list' if index else 'manifest'} "
            f"with '{present[0]}', and could be taken for something else",
            subject=raw.digest,
        )
    if document.schema_version != 2:
        raise ArchiveRefused(
            f"cannot use the manifest {raw.digest}: its schemaVersion is {document.schema_version}, not 2",
            subject=raw.digest,
        )


def _manifest(document: _Document, kind: str, raw: RawManifest) -> Manifest:
    _refuse_confusion(document, raw, index=False)
    if document.config is None:
        raise ArchiveRefused(
            f"cannot use the manifest {raw.digest}: it names no configuration", subject=raw.digest
        )
    return Manifest(
        media_type=kind,
        config=_blob(document.config, "a configuration"),
        layers=tuple(_blob(each, "a layer") for each in document.layers or ()),
        annotations=document.annotations or {},
        artifact_type=document.artifact_type,
        subject=_subject(document.subject),
    )


def _index(document: _Document, kind: str, raw: RawManifest) -> Index:
    _refuse_confusion(document, raw, index=True)
    return Index(
        media_type=kind,
        members=tuple(
            Member(_blob(each, "a member of a list"), each.platform or MemberPlatform(), each.artifact_type)
            for each in document.manifests or ()
        ),
        annotations=document.annotations or {},
        artifact_type=document.artifact_type,
        subject=_subject(document.subject),
    )


def _subject(descriptor: _Descriptor | None) -> Blob | None:
    if descriptor is None:
        return None
    return msgspec.structs.replace(_blob(descriptor, "a subject"), artifact_type=descriptor.artifact_type)


def _blob(descriptor: _Descriptor, what: str) -> Blob:
    check_digest(descriptor.digest, what)
    if descriptor.size < 0:
        raise ArchiveRefused(
            f"cannot use {what} {descriptor.digest}: its size is {descriptor.size}", subject=descriptor.digest
        )
    return Blob(
        digest=descriptor.digest,
        size=descriptor.size,
        media_type=descriptor.media_type,
        annotations=descriptor.annotations or {},
        urls=tuple(descriptor.urls or ()),
    )


def encode_manifest(manifest: Manifest) -> RawManifest:
    """The bytes of a new manifest."""
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": manifest.media_type}
    if manifest.artifact_type:
        document["artifactType"] = manifest.artifact_type
    document["config"] = described_blob(manifest.config)
    document["layers"] = [described_blob(layer) for layer in manifest.layers]
    if manifest.subject is not None:
        document["subject"] = described_blob(manifest.subject)
    if manifest.annotations and manifest.is_oci:
        document["annotations"] = manifest.annotations
    return RawManifest(msgspec.json.encode(document), manifest.media_type)


def encode_index(index: Index) -> RawManifest:
    """The bytes of a new list."""
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": index.media_type}
    if index.artifact_type:
        document["artifactType"] = index.artifact_type
    oci = index.media_type == OCI_INDEX
    members: list[dict[str, Any]] = []
    for member in index.members:
        described = described_blob(member.blob)
        if not oci:
            described.pop("annotations", None)
        platform = msgspec.to_builtins(member.platform)
        if platform or not oci:
            described["platform"] = {"architecture": "", "os": "", **platform}
        if member.artifact_type and oci:
            described["artifactType"] = member.artifact_type
        members.append(described)
    document["manifests"] = members
    if index.subject is not None and oci:
        document["subject"] = described_blob(index.subject)
    if index.annotations and oci:
        document["annotations"] = index.annotations
    return RawManifest(msgspec.json.encode(document), index.media_type)


def described_blob(blob: Blob) -> dict[str, Any]:
    """A descriptor, as it stands in a document."""
    described: dict[str, Any] = {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
    if blob.artifact_type:
        described["artifactType"] = blob.artifact_type
    if blob.urls:
        described["urls"] = list(blob.urls)
    if blob.annotations:
        described["annotations"] = dict(blob.annotations)
    return described
