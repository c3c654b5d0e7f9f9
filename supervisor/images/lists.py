"""Manifest lists of the store: made, changed, shown; as Podman and Buildah keep them.

A list is an image without layers. Beside its manifest it has `instances.json`, which says by digest where each member
came from; an entry without a digest is the list's own id. Members need not be in the store.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
import trio

from pyman.api.image import ManifestAnnotateRequest
from pyman.api.pull import RegistryAccess
from pyman.errors import InvalidArgument, NoSuchImage
from supervisor.images.apart import apart
from supervisor.images.formats import listings, platforms
from supervisor.images.formats.config import decode_config
from supervisor.images.formats.manifests import (
    DOCKER_CONFIG,
    OCI_CONFIG,
    Index,
    Manifest,
    MemberPlatform,
    decode,
    decode_index,
)
from supervisor.images.names import normalized
from supervisor.images.transfer import artifacts
from supervisor.images.transfer.artifacts import Artifacts
from supervisor.images.transports import places as transports
from supervisor.images.transports.transport import Blob, RawManifest
from supervisor.images.view import HERE
from supervisor.storage import bigdata
from supervisor.storage.records import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from pyman.api.image import (
        Artifact,
        ManifestAddRequest,
        ManifestCreateRequest,
    )
    from supervisor.images.formats.manifests import Member
    from supervisor.images.names import Found
    from supervisor.images.transports.transport import Source
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["INSTANCES", "Instances", "Kept", "Lists", "Remote"]

INSTANCES = "instances.json"
Instances = dict[str, str]
T = TypeVar("T")


class Kept(msgspec.Struct):
    """What is kept beside a list."""

    instances: Instances
    artifacts: Artifacts


class Remote(Protocol):
    """How an image that is not of the store is reached."""

    def __call__(self, name: str, access: RegistryAccess) -> AbstractAsyncContextManager[Source]: ...


class _Finder(Protocol):
    async def __call__(self, name: str, *, lists: str) -> Found: ...


class Lists:
    """One for an engine. `find`: images of the store by name; `remote`: those elsewhere."""

    def __init__(self, store: Store, find: _Finder, remote: Remote, limiter: trio.CapacityLimiter) -> None:
        self._store = store
        self._find = find
        self._remote = remote
        self._limiter = limiter
        self._changing = trio.Lock()
        """A list is read, changed and written by one at a time."""

    async def _in_thread(self, act: Callable[..., Any], *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(act, *arguments, limiter=self._limiter)

    async def create(self, request: ManifestCreateRequest) -> str:
        """The id of the list. InvalidArgument: the name is in use, or `amend` and it is no list."""
        name = str(normalized(request.name))
        members: dict[str, tuple[Member, str]] = {}
        for text in request.images:
            members |= await self._members(text, request.access, every=request.all)
        async with self._changing:
            present: Image | None = await self._in_thread(self._store.named, name)
            if present is not None and not request.amend:
                raise InvalidArgument(
                    f"cannot make the manifest list '{name}': an image has that name",
                    subject=name,
                    hint="use --amend to change a list, or another name",
                )
            index, kept = listings.EMPTY, Kept({}, Artifacts())
            if present is not None:
                index, kept = await self._read(present.id, name)
            if request.annotations:
                index = listings.index_annotated(index, request.annotations)
            index = listings.added(index, [member for member, _ in members.values()])
            kept.instances |= {digest: where for digest, (_, where) in members.items()}
            if present is not None:
                await self._write(present.id, index, kept)
                return present.id
            id = new_id()
            data = _data(index, Kept({**kept.instances, "": id} if members else {}, kept.artifacts))
            digest = bigdata.digest_of(data[bigdata.MANIFEST])
            await self._in_thread(partial(self._store.put_image, id, [name], "", data, digest=digest))
        return id

    async def add(self, request: ManifestAddRequest) -> str:
        """The id of the list. NoSuchImage, InvalidArgument; errors of the places of its members."""
        id = (await self._find(request.name, lists="only")).image.id
        if request.artifact is not None:
            return await self._add_artifact(id, request, request.artifact)
        members: dict[str, tuple[Member, str]] = {}
        for text in request.images:
            members |= await self._members(text, request.access, every=request.all)
        wish = _wish(request)
        async with self._changing:
            index, kept = await self._read(id, request.name)
            index = listings.added(index, [member for member, _ in members.values()])
            for digest in members:
                index = listings.annotated(
                    index, digest, request.name, platform=wish, annotations=request.annotations
                )
            kept.instances |= {digest: where for digest, (_, where) in members.items()}
            await self._write(id, index, kept)
        return id

    async def _add_artifact(self, id: str, request: ManifestAddRequest, wish: Artifact) -> str:
        if request.all:
            raise InvalidArgument("cannot add all images of a list as an artifact")
        subject = await self._subject(wish.subject, request.access) if wish.subject else None
        made = await artifacts.made(request.images, wish, subject)
        raw = made.manifest
        member = listings.member_of(
            Blob(raw.digest, len(raw.data), raw.media_type), None, artifact_type=made.artifact_type
        )
        async with self._changing:
            index, kept = await self._read(id, request.name)
            index = listings.annotated(
                listings.added(index, [member]),
                raw.digest,
                request.name,
                platform=_wish(request),
                annotations=request.annotations,
            )
            kept.artifacts.add(made)
            await self._write(id, index, kept)
        return id

    async def annotate(self, request: ManifestAnnotateRequest) -> str:
        """The id of the list. NoSuchImage; InvalidArgument: it has no such member, or that cannot be said of it."""
        wish = _wish(request)
        _check(request, wish)
        id = (await self._find(request.name, lists="only")).image.id
        subject = await self._subject(request.subject, RegistryAccess()) if request.subject else None
        digest = await self._digest(id, request.digest) if request.digest else ""
        async with self._changing:
            index, kept = await self._read(id, request.name)
            if request.remove:
                index = listings.removed(index, digest, request.name)
                kept.instances.pop(digest, None)
                kept.artifacts.remove(digest)
            elif not digest:
                index = listings.index_annotated(index, request.annotations, subject)
            else:
                index = listings.annotated(
                    index, digest, request.name, platform=wish, annotations=request.annotations
                )
            await self._write(id, index, kept)
        return id

    async def _digest(self, id: str, text: str) -> str:
        """What a member is called: its digest, a file of an artifact, or an image of the store."""
        if text.startswith("sha256:"):
            return text
        image = await self._in_thread(self._store.image, id)
        if found := (await self._kept(image)).artifacts.of_file(text):
            return found
        image = (await self._find(text, lists="member")).image
        return bigdata.digest_of(await self._in_thread(self._store.big_data, image, bigdata.MANIFEST))

    async def _subject(self, text: str, access: RegistryAccess) -> Blob:
        """The manifest of an image, or of a list as it is: of the store, else of a registry."""
        try:
            image = (await self._find(text, lists="keep")).image
            data = await self._in_thread(self._store.big_data, image, bigdata.MANIFEST)
        except NoSuchImage:
            async with self._remote(text, access) as source:
                data = (await source.manifest()).data
        raw = RawManifest(data, "")
        decoded = await apart(len(data), partial(decode, raw))
        kind = decoded.artifact_type if isinstance(decoded, Manifest) else ""
        return Blob(raw.digest, len(data), decoded.media_type, artifact_type=kind)

    async def inspect(self, name: str, access: RegistryAccess) -> dict[str, Any]:
        """The document of a list here, else the manifest of an image elsewhere."""
        try:
            found = await self._find(name, lists="only")
        except (NoSuchImage, InvalidArgument):
            async with self._remote(name, access) as source:
                raw = await source.manifest()
            decoded = await apart(len(raw.data), partial(decode, raw))
            if isinstance(decoded, Index):
                return listings.described(decoded)
            document: dict[str, Any] = msgspec.json.decode(raw.data)
            return document
        index, kept = await self._read(found.image.id, name)
        return listings.described(index, kept.artifacts.files)

    async def read(self, name: str) -> tuple[Image, RawManifest, Kept]:
        """A list of the store, byte for byte. NoSuchImage, InvalidArgument, StorageFailed."""
        image = (await self._find(name, lists="only")).image
        data = await self._in_thread(self._store.big_data, image, bigdata.MANIFEST)
        raw = RawManifest(data, "")
        index = await apart(len(data), partial(decode_index, raw))
        return image, RawManifest(data, index.media_type), await self._kept(image)

    async def _read(self, id: str, name: str) -> tuple[Index, Kept]:
        """By its id: a record that was read before is not that of a list which has been changed meanwhile."""
        image: Image = await self._in_thread(self._store.image, id)
        data = await self._in_thread(self._store.big_data, image, bigdata.MANIFEST)
        decoded = await apart(len(data), partial(decode, RawManifest(data, "")))
        if not isinstance(decoded, Index):
            raise InvalidArgument(f"cannot change '{name}': it is no manifest list", subject=name)
        return decoded, await self._kept(image)

    async def _kept(self, image: Image) -> Kept:
        """A list that was pulled has nothing of it."""
        return Kept(
            await self._beside(image, INSTANCES, Instances) or {},
            await self._beside(image, artifacts.ARTIFACTS, Artifacts) or Artifacts(),
        )

    async def _beside(self, image: Image, key: str, kind: type[T]) -> T | None:
        """None: there is none, or it cannot be understood."""
        if key not in image.big_data_names:
            return None
        data = await self._in_thread(self._store.big_data, image, key)
        try:
            return await apart(len(data), lambda: msgspec.json.decode(data, type=kind))
        except msgspec.DecodeError:
            return None

    async def _write(self, id: str, index: Index, kept: Kept) -> None:
        data = _data(index, Kept({**kept.instances, "": id}, kept.artifacts))
        digest = bigdata.digest_of(data[bigdata.MANIFEST])
        await self._in_thread(partial(self._store.set_big_data, id, data, digest=digest))

    # -- members ------------------------------------------------------------------------------------

    async def _members(
        self, text: str, access: RegistryAccess, *, every: bool
    ) -> dict[str, tuple[Member, str]]:
        """By digest, what a text adds to a list, and where it is: an image of the store, else one elsewhere."""
        if transports.has_transport(text):
            where = transports.parse(text)
            if where.transport == transports.STORAGE and not where.graph_root:
                return await self._members_here(where.name, every=every)
            return await self._members_there(text, str(where), access, every=every)
        try:
            return await self._members_here(text, every=every)
        except NoSuchImage:
            where = transports.parse(f"docker://{text}")
            return await self._members_there(text, str(where), access, every=every)

    async def _members_here(self, name: str, *, every: bool) -> dict[str, tuple[Member, str]]:
        found = await self._find(name, lists="keep" if every else "member")
        data = await self._in_thread(self._store.big_data, found.image, bigdata.MANIFEST)
        raw = RawManifest(data, "")
        decoded = await apart(len(raw.data), partial(decode, raw))
        where = self._where(found)
        if isinstance(decoded, Index):
            return {member.blob.digest: (member, where) for member in decoded.members}

        async def read(blob: Blob) -> bytes:
            config: bytes = await self._in_thread(self._store.big_data, found.image, blob.digest)
            return config

        return {raw.digest: (await _member(decoded, raw, read), where)}

    def _where(self, found: Found) -> str:
        """As other engines name an image of this store."""
        layout = self._store.layout
        name = f"@{found.image.id}" if found.by_id else found.name
        return f"{transports.STORAGE}:[overlay@{layout.graph_root}+{layout.run_root}]{name}"

    async def _members_there(
        self, text: str, where: str, access: RegistryAccess, *, every: bool
    ) -> dict[str, tuple[Member, str]]:
        async with self._remote(text, access) as source:
            raw = await source.manifest()
            decoded = await apart(len(raw.data), partial(decode, raw))
            if not isinstance(decoded, Index):
                return {raw.digest: (await _member(decoded, raw, source.blob), where)}
            chosen = decoded.members if every else (platforms.choose(decoded, HERE, text),)
            return {member.blob.digest: (member, where) for member in chosen}


async def _member(manifest: Manifest, raw: RawManifest, read: Callable[[Blob], Any]) -> Member:
    blob = Blob(raw.digest, len(raw.data), manifest.media_type)
    is_image = manifest.config.media_type in (OCI_CONFIG, DOCKER_CONFIG) and not manifest.artifact_type
    config = decode_config(await read(manifest.config)) if is_image else None
    return listings.member_of(blob, config, manifest.artifact_type)


def _data(index: Index, kept: Kept) -> dict[str, bytes]:
    return {
        bigdata.MANIFEST: listings.written(index).data,
        INSTANCES: msgspec.json.encode(kept.instances),
        artifacts.ARTIFACTS: msgspec.json.encode(kept.artifacts),
    }


def _wish(request: ManifestAddRequest | ManifestAnnotateRequest) -> MemberPlatform:
    wish = platforms.normalized(request.platform)
    os_features = request.os_features if isinstance(request, ManifestAnnotateRequest) else []
    return MemberPlatform(
        architecture=wish.arch,
        os=wish.os,
        os_version=request.os_version,
        os_features=os_features or None,
        variant=wish.variant,
        features=request.features or None,
    )


def _check(request: ManifestAnnotateRequest, wish: MemberPlatform) -> None:
    if request.digest and request.subject:
        raise InvalidArgument(
            f"cannot set the subject of '{request.digest}': only a list as a whole has one here",
            subject=request.digest,
        )
    if not request.digest and (wish != MemberPlatform() or request.remove):
        raise InvalidArgument(
            f"cannot change '{request.name}': a platform and features are those of an image in it",
            subject=request.name,
            hint="name one by its digest",
        )
