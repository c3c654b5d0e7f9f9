"""What a manifest list says, changed: pure functions on `Index`.

A list is written in OCI's form as soon as it has a member, and in Docker's only if it says what OCI's cannot, as other
engines do; one without members says in Docker's form what it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import InvalidArgument
from supervisor.images.formats.manifests import (
    DOCKER_LIST,
    OCI_INDEX,
    Index,
    Member,
    MemberPlatform,
    described_blob,
    encode_index,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from supervisor.images.formats.config import ImageConfig
    from supervisor.images.transports.transport import Blob, RawManifest

__all__ = [
    "EMPTY",
    "MEMBER_LIMIT",
    "added",
    "annotated",
    "described",
    "index_annotated",
    "member_of",
    "removed",
    "written",
]

EMPTY = Index(DOCKER_LIST, ())
MEMBER_LIMIT = 1000


def member_of(blob: Blob, config: ImageConfig | None, artifact_type: str = "") -> Member:
    """An image as a list has it: for the machine that its configuration names."""
    if config is None:
        return Member(blob, artifact_type=artifact_type)
    platform = MemberPlatform(
        architecture=config.architecture,
        os=config.os,
        os_version=config.os_version or "",
        variant=config.variant or "",
    )
    return Member(blob, platform, artifact_type)


def added(index: Index, members: Iterable[Member]) -> Index:
    """With these members at the end; one that was there already is moved. InvalidArgument: there are too many."""
    fresh = {member.blob.digest: member for member in members}
    kept = [member for member in index.members if member.blob.digest not in fresh]
    if len(kept) + len(fresh) > MEMBER_LIMIT:
        raise InvalidArgument(f"cannot add to the manifest list: {MEMBER_LIMIT} members are the most")
    return _with(index, (*kept, *fresh.values()))


def removed(index: Index, digest: str, name: str) -> Index:
    """InvalidArgument: it has no such member."""
    _member(index, digest, name)
    return _with(index, tuple(member for member in index.members if member.blob.digest != digest))


def annotated(
    index: Index,
    digest: str,
    name: str,
    *,
    platform: MemberPlatform,
    annotations: Mapping[str, str],
) -> Index:
    """What is said of a member changed; what is empty stays as it is. InvalidArgument: it has no such member."""
    member = _member(index, digest, name)
    fields = {key: value for key, value in msgspec.structs.asdict(platform).items() if value}
    blob = member.blob
    if annotations:
        blob = msgspec.structs.replace(blob, annotations={**blob.annotations, **annotations})
    changed = msgspec.structs.replace(
        member, blob=blob, platform=msgspec.structs.replace(member.platform, **fields)
    )
    return _with(index, tuple(changed if each.blob.digest == digest else each for each in index.members))


def index_annotated(index: Index, annotations: Mapping[str, str], subject: Blob | None = None) -> Index:
    """What is said of the list as a whole; `subject`: what it belongs to; None: as before."""
    return msgspec.structs.replace(
        index, annotations={**index.annotations, **annotations}, subject=subject or index.subject
    )


def _member(index: Index, digest: str, name: str) -> Member:
    member = index.member(digest)
    if member is None:
        raise InvalidArgument(f"cannot find {digest} in the manifest list '{name}'", subject=digest)
    return member


def _with(index: Index, members: tuple[Member, ...]) -> Index:
    return msgspec.structs.replace(index, members=members)


def written(index: Index) -> RawManifest:
    """The bytes of a list, in the form that can say all of it."""
    return encode_index(msgspec.structs.replace(index, media_type=_form(index)))


def _form(index: Index) -> str:
    only_oci = index.artifact_type or index.subject is not None or index.annotations
    if only_oci or any(member.artifact_type or member.blob.annotations for member in index.members):
        return OCI_INDEX
    if any(member.platform.features for member in index.members):
        return DOCKER_LIST
    return OCI_INDEX if index.members else DOCKER_LIST


def described(index: Index, files: Mapping[str, Sequence[str] | None] | None = None) -> dict[str, Any]:
    """The document that `manifest inspect` shows: Docker's, and what OCI's has besides. `files`: those of artifacts, by
    their digests."""
    members: list[dict[str, Any]] = []
    for member in index.members:
        entry: dict[str, Any] = {
            "mediaType": member.blob.media_type,
            "size": member.blob.size,
            "digest": member.blob.digest,
        }
        if member.blob.urls:
            entry["urls"] = list(member.blob.urls)
        entry["platform"] = {"architecture": "", "os": "", **msgspec.to_builtins(member.platform)}
        if member.blob.annotations:
            entry["annotations"] = dict(member.blob.annotations)
        if member.artifact_type:
            entry["artifactType"] = member.artifact_type
        if files and (paths := files.get(member.blob.digest)):
            entry["files"] = list(paths)
        members.append(entry)
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": _form(index), "manifests": members}
    if index.artifact_type:
        document["artifactType"] = index.artifact_type
    if index.subject is not None:
        document["subject"] = described_blob(index.subject)
    if index.annotations:
        document["annotations"] = dict(index.annotations)
    return document
