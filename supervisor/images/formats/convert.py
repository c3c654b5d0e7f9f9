"""A manifest in the other of the two formats: OCI's, or Docker's schema 2.

The layers and the configuration keep their digests where the format permits it: both configurations are the same
document under two names, apart from what each alone has (Docker's health check, which OCI's readers ignore and
others keep).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyman.errors import NotSupported
from supervisor.images.formats import manifests as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.images.transports.transport import Blob

__all__ = ["FORMATS", "converted", "converted_index", "layer_type", "with_layers"]

FORMATS = {"oci": m.OCI_MANIFEST, "v2s2": m.DOCKER_MANIFEST}
"""The words of the command line."""

_TO_OCI = {
    m.DOCKER_LAYER: m.OCI_LAYER_GZIP,
    m.DOCKER_LAYER_PLAIN: m.OCI_LAYER,
    m.DOCKER_LAYER_ZSTD: m.OCI_LAYER_ZSTD,
    m.DOCKER_FOREIGN_LAYER: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    m.DOCKER_CONFIG: m.OCI_CONFIG,
}
_TO_DOCKER = {
    m.OCI_LAYER: m.DOCKER_LAYER_PLAIN,
    m.OCI_LAYER_GZIP: m.DOCKER_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": m.DOCKER_FOREIGN_LAYER,
    m.OCI_CONFIG: m.DOCKER_CONFIG,
}
_COMPRESSED = {
    m.OCI_MANIFEST: {"none": m.OCI_LAYER, "gzip": m.OCI_LAYER_GZIP, "zstd": m.OCI_LAYER_ZSTD},
    m.DOCKER_MANIFEST: {"none": m.DOCKER_LAYER_PLAIN, "gzip": m.DOCKER_LAYER},
}
_COMPRESSION_OF = {
    media_type: compression for types in _COMPRESSED.values() for compression, media_type in types.items()
} | {m.DOCKER_LAYER_ZSTD: "zstd"}


def layer_type(manifest_type: str, compression: str) -> str:
    """The media type of a layer compressed so, in a manifest of that type. NotSupported: the format has none."""
    found = _COMPRESSED[manifest_type].get(compression)
    if found is None:
        raise NotSupported(
            f"cannot put a layer compressed with {compression} into a manifest of Docker's format",
            hint="use the format oci",
        )
    return found


def compression_in(media_type: str) -> str:
    """How a layer of this type is compressed: none, gzip, zstd; empty: it is no layer of an image that is known here."""
    return _COMPRESSION_OF.get(media_type, "")


def converted(manifest: m.Manifest, media_type: str) -> m.Manifest:
    """The same image in a manifest of the other type. NotSupported: it has what the other cannot say."""
    if manifest.media_type == media_type:
        return manifest
    table = _TO_OCI if media_type == m.OCI_MANIFEST else _TO_DOCKER
    if media_type == m.DOCKER_MANIFEST and manifest.config.media_type not in (m.OCI_CONFIG, ""):
        raise NotSupported(
            f"cannot write an artifact of the type '{manifest.config.media_type}' in Docker's format",
            hint="use the format oci",
        )
    return m.Manifest(
        media_type=media_type,
        config=_retyped(manifest.config, table, drop=media_type == m.DOCKER_MANIFEST),
        layers=tuple(
            _retyped(layer, table, drop=media_type == m.DOCKER_MANIFEST) for layer in manifest.layers
        ),
        annotations=manifest.annotations if media_type == m.OCI_MANIFEST else {},
    )


def _retyped(blob: Blob, table: dict[str, str], *, drop: bool) -> Blob:
    media_type = table.get(blob.media_type)
    if media_type is None:
        raise NotSupported(
            f"cannot convert the manifest: the type '{blob.media_type}' of {blob.digest} has no counterpart",
            subject=blob.digest,
            hint="use the format oci" if drop else "",
        )
    return msgspec.structs.replace(blob, media_type=media_type, annotations={} if drop else blob.annotations)


def with_layers(manifest: m.Manifest, layers: Sequence[Blob], config: Blob | None = None) -> m.Manifest:
    """The same image with its layers stored otherwise (recompressed), from the base upwards."""
    return msgspec.structs.replace(manifest, layers=tuple(layers), config=config or manifest.config)


def converted_index(index: m.Index, media_type: str) -> m.Index:
    """A list in the other format; its members are the caller's to convert first, as their digests change."""
    if index.media_type == media_type:
        return index
    if media_type == m.OCI_INDEX:
        return msgspec.structs.replace(index, media_type=media_type)
    members = tuple(
        msgspec.structs.replace(
            member, artifact_type="", blob=msgspec.structs.replace(member.blob, annotations={})
        )
        for member in index.members
    )
    return m.Index(media_type=media_type, members=members)
