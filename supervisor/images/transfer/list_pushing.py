"""A manifest list pushed: its members first, perhaps in several compressions, then the list that names them.

An image compressed with zstd is marked by an annotation in the list, as other engines do, and stands behind those that
are not: who does not know zstd takes the first one that fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument, NotSupported
from supervisor.images.apart import apart
from supervisor.images.formats.convert import compression_in, converted_index
from supervisor.images.formats.manifests import (
    DOCKER_LIST,
    OCI_INDEX,
    decode_index,
    decode_manifest,
    encode_index,
)
from supervisor.images.transports.transport import Blob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from supervisor.images.formats.manifests import Index, Member
    from supervisor.images.transfer.sending import Receiver
    from supervisor.images.transfer.wishes import Wish
    from supervisor.images.transports.transport import RawManifest

__all__ = ["check_variants", "push_list"]

_ZSTD = "io.github.containers.compression.zstd"
_TRUE = "true"
VARIANTS = ("gzip", "zstd")


def check_variants(variants: Sequence[str], wish: Wish, *, every: bool) -> None:
    """InvalidArgument: these compressions cannot be added."""
    for variant in variants:
        if variant not in VARIANTS:
            raise InvalidArgument(
                f"cannot add images compressed with '{variant}'", hint=f"{', '.join(VARIANTS)} are known"
            )
    if variants and not every:
        raise InvalidArgument("cannot add images in other compressions where the images are not pushed")
    if "zstd" in variants and wish.format == "v2s2":
        raise InvalidArgument("cannot compress with zstd in the format v2s2", hint="use the format oci")


async def push_list(
    raw: RawManifest,
    send_member: Callable[[Member, Wish], Awaitable[RawManifest | None]],
    destination: Receiver,
    wish: Wish,
    variants: Sequence[str] = (),
) -> RawManifest:
    """`send_member`: what a member is there now; None: it is left out. `variants`: gzip, zstd: each platform gets an
    image compressed so. The list is sent byte for byte where nothing has changed."""
    index = await apart(len(raw.data), lambda: decode_index(raw))
    wanted = _type(index, destination, wish, variants)
    members: list[Member] = []
    added: list[Member] = []
    missing = _missing(index, variants)
    for member in index.members:
        sent = await send_member(member, wish)
        members.append(member if sent is None else _as_sent(member, sent, wanted))
        for variant in missing.get(member.blob.digest, ()):
            asked = msgspec.structs.replace(wish, compression=variant, level=None, force=True)
            sent = await send_member(member, asked)
            if sent is not None:
                added.append(_as_sent(member, sent, wanted))
    there = {member.blob.digest for member in members}
    members += [member for member in added if member.blob.digest not in there]
    if added:
        members.sort(key=_is_zstd)
    changed = msgspec.structs.replace(index, members=tuple(members))
    same = changed == index and wanted == index.media_type
    result = raw if same else encode_index(converted_index(changed, wanted))
    await destination.put_manifest(result)
    return result


def _type(index: Index, destination: Receiver, wish: Wish, variants: Sequence[str]) -> str:
    """The media type of the list there. NotSupported: it takes none, or not this one."""
    asked = {"oci": OCI_INDEX, "v2s2": DOCKER_LIST}.get(wish.format, "")
    wanted = asked or (OCI_INDEX if "zstd" in variants else index.media_type)
    types = destination.manifest_types
    if types and wanted not in types:
        if asked or OCI_INDEX not in types:
            raise NotSupported(
                f"cannot push a manifest list to '{destination.name}'", subject=destination.name
            )
        wanted = OCI_INDEX
    return wanted


def _missing(index: Index, variants: Sequence[str]) -> dict[str, list[str]]:
    """By the digest of a member, in which compressions its platform is not there."""
    present: dict[object, set[str]] = {}
    for member in index.members:
        present.setdefault(_platform(member), set()).add("zstd" if _is_zstd(member) else "gzip")
    found: dict[str, list[str]] = {}
    for member in index.members:
        if member.artifact_type:
            continue  # files are as they are
        there = present[_platform(member)]
        found[member.blob.digest] = [variant for variant in variants if variant not in there]
        there |= set(variants)
    return found


def _platform(member: Member) -> object:
    of = member.platform
    return of.architecture, of.os, of.os_version, of.variant, tuple(sorted(of.os_features or ()))


def _is_zstd(member: Member) -> bool:
    return member.blob.annotations.get(_ZSTD) == _TRUE


def _as_sent(member: Member, sent: RawManifest, list_type: str) -> Member:
    annotations = dict(member.blob.annotations)
    if sent.digest != member.blob.digest and list_type == OCI_INDEX:
        layers = decode_manifest(sent).layers
        annotations.pop(_ZSTD, None)
        if any(compression_in(layer.media_type) == "zstd" for layer in layers):
            annotations[_ZSTD] = _TRUE
    blob = Blob(sent.digest, len(sent.data), sent.media_type, annotations, member.blob.urls)
    return msgspec.structs.replace(member, blob=blob)
