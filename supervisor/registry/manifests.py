"""Manifests, tags and names of repositories: what is small and comes as JSON."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import httpx
import msgspec

from pyman.errors import DigestMismatch, NotSupported
from supervisor.registry.messages import Found
from supervisor.registry.reference import is_digest
from supervisor.registry.session import read_body
from supervisor.registry.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from supervisor.registry.session import Scope, Session

__all__ = [
    "MANIFEST_LIMIT",
    "MEDIA_TYPES",
    "digest_of",
    "fetch_manifest",
    "head_manifest",
    "list_tags",
    "media_type_of",
    "put_manifest",
    "search",
    "verified",
]

MANIFEST_LIMIT = 4 << 20
"""Bytes of a manifest."""
MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_INDEX, _MANIFEST, _DOCKER_LIST, _DOCKER_MANIFEST = MEDIA_TYPES
_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_ACCEPT = ", ".join((*MEDIA_TYPES, *_SCHEMA1))
"""Also what is refused: else some registries would say that there is nothing."""
_PAGE_LIMIT = 4 << 20
"""Bytes of one page of a listing, and of all names in it together."""
_MOST_PAGES = 1000


class _Head(msgspec.Struct):
    """What tells the kinds of manifests apart."""

    schemaVersion: int = 0  # noqa: N815 - as the format has it
    mediaType: str = ""  # noqa: N815
    manifests: list[msgspec.Raw] | None = None
    config: msgspec.Raw = msgspec.Raw()


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class _Catalog(msgspec.Struct):
    repositories: list[str] | None = None


class _OldResult(msgspec.Struct):
    name: str
    description: str | None = None
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


class _OldResults(msgspec.Struct):
    results: list[_OldResult] = []


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def verified(data: bytes, digest: str, doing: str) -> None:
    """Raises Trouble with DigestMismatch."""
    algorithm, _, expected = digest.partition(":")
    found = hashlib.new(algorithm, data, usedforsecurity=True).hexdigest()
    if found != expected:
        message = f"cannot {doing}: its content is {algorithm}:{found}, not {digest}"
        raise Trouble(DigestMismatch(message, subject=digest))


def media_type_of(data: bytes, declared: str, doing: str) -> str:
    """Which of MEDIA_TYPES a manifest is; what it says itself counts, then what the registry says.

    Trouble: it is none, or one of the kind before (schema 1).
    """
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Trouble(NotSupported(f"cannot {doing}: the registry sends what is no manifest")) from error
    declared = declared.partition(";")[0].strip().lower()
    if head.schemaVersion == 1 or declared in _SCHEMA1 or head.mediaType in _SCHEMA1:
        message = f"cannot {doing}: its manifest is of Docker's schema 1, which is out of use"
        raise Trouble(NotSupported(message, hint="push the image again with a current program"))
    for kind in (head.mediaType, declared):
        if kind in MEDIA_TYPES and (head.manifests is not None) == (kind in (_INDEX, _DOCKER_LIST)):
            return kind
    if head.mediaType and head.mediaType not in MEDIA_TYPES:
        shown = head.mediaType[:100]
        raise Trouble(NotSupported(f"cannot {doing}: its manifest is of the unknown kind '{shown}'"))
    if head.schemaVersion == 2 and (head.manifests is not None or bytes(head.config)):
        return _MANIFEST if head.manifests is None else _INDEX
    raise Trouble(NotSupported(f"cannot {doing}: the registry sends what is no manifest"))


def _pull(session: Session) -> list[Scope]:
    return [(session.path, "pull")]


async def fetch_manifest(session: Session, tag: str, digest: str) -> tuple[bytes, str]:
    """The manifest and its media type, verified."""
    headers = {"Accept": _ACCEPT}
    path = f"/v2/{session.path}/manifests/{digest or tag}"
    async with session.request("GET", path, scopes=_pull(session), headers=headers) as response:
        data = await read_body(session, response, MANIFEST_LIMIT)
        declared = response.headers.get("content-type", "")
        named = response.headers.get("docker-content-digest", "")
    kind = media_type_of(data, declared, session.doing)
    wanted = digest or (named if is_digest(named) else "")
    if wanted:
        verified(data, wanted, session.doing)
    return data, kind


async def head_manifest(session: Session, tag: str, digest: str) -> tuple[str, str]:
    """Digest and media type of what a name means now; by asking for it, where a registry does not tell otherwise."""
    headers = {"Accept": _ACCEPT}
    path = f"/v2/{session.path}/manifests/{digest or tag}"
    async with session.request("HEAD", path, scopes=_pull(session), headers=headers) as response:
        named = response.headers.get("docker-content-digest", "")
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if is_digest(named) and kind in MEDIA_TYPES:
        return named, kind
    data, kind = await fetch_manifest(session, tag, digest)
    return digest_of(data), kind


async def put_manifest(session: Session, data: bytes, media_type: str, target: str) -> str:
    path = f"/v2/{session.path}/manifests/{target}"
    scopes = [(session.path, "pull,push")]
    headers = {"Content-Type": media_type}
    async with session.request(
        "PUT", path, scopes=scopes, headers=headers, content=data, expected=frozenset({200, 201, 202})
    ) as response:
        named = response.headers.get("docker-content-digest", "")
    own = digest_of(data)
    if named.startswith("sha256:") and named != own:
        raise session.failed(f"the registry has stored it as {named[:100]}, not {own}")
    return own


async def list_tags(session: Session) -> list[str]:
    found: list[str] = []
    async for data in _pages(session, f"/v2/{session.path}/tags/list", _pull(session)):
        try:
            found += msgspec.json.decode(data, type=_Tags).tags or []
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise session.failed("the registry sends what is no list of tags") from error
    return found


async def _pages(session: Session, path: str, scopes: list[Scope]) -> AsyncIterator[bytes]:
    """The pages of a listing, within bounds."""
    total = 0
    seen: set[str] = set()
    while path and path not in seen and len(seen) < _MOST_PAGES:
        seen.add(path)
        async with session.request("GET", path, scopes=scopes) as response:
            data = await read_body(session, response, _PAGE_LIMIT)
            path = _next(session, response.headers)
        total += len(data)
        if total > _PAGE_LIMIT:
            raise session.failed(f"the registry's list is larger than {_PAGE_LIMIT} bytes")
        yield data


def _next(session: Session, headers: Mapping[str, str]) -> str:
    """Path and query of the next page; the host stays what it is. Empty: this was the last one."""
    address, _, relation = headers.get("link", "").partition(";")
    address = address.strip()
    if not (address.startswith("<") and address.endswith(">")) or "next" not in relation:
        return ""
    url = session.resolve(address[1:-1])
    return url.raw_path.decode("ascii")


async def search(session: Session, term: str, limit: int) -> list[Found]:
    """What a registry finds itself, as Docker's does; else the names in its catalogue that contain the term."""
    if term:
        try:
            return await _old_search(session, term, limit)
        except Trouble:
            pass  # most registries do not know it
    found: list[Found] = []
    async for data in _pages(session, "/v2/_catalog", [("", "")]):
        try:
            names = msgspec.json.decode(data, type=_Catalog).repositories or []
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise session.failed("the registry sends what is no list of repositories") from error
        for name in names:
            if name == term:
                found.insert(0, Found(name))
            elif term in name:
                found.append(Found(name))
        if len(found) >= limit:
            break
    return found[:limit]


async def _old_search(session: Session, term: str, limit: int) -> list[Found]:
    query = httpx.QueryParams({"q": term, "n": str(limit)})
    async with session.request("GET", f"/v1/search?{query}", scopes=[]) as response:
        data = await read_body(session, response, _PAGE_LIMIT)
    try:
        reply = msgspec.json.decode(data, type=_OldResults)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise session.failed("the registry sends what is no result of a search") from error
    return [
        Found(one.name, one.description or "", one.star_count, one.is_official, one.is_automated)
        for one in reply.results[:limit]
    ]
