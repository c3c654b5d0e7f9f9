"""What the registry program does for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotFound, ProtocolError, RegistryDenied
from supervisor.registry import blobs, credentials, manifests
from supervisor.registry.attempts import Attempts
from supervisor.registry.messages import (
    BlobReply,
    DownloadRequest,
    FlagReply,
    GetBlob,
    GetLogin,
    GetManifest,
    HasBlob,
    ListedReply,
    ListTags,
    Login,
    LoginStored,
    Logout,
    ManifestDigestReply,
    ManifestReply,
    MountBlob,
    PutManifest,
    SearchedReply,
    SearchRegistry,
    SizeReply,
    UploadBlob,
)
from supervisor.registry.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from supervisor.registry.messages import Request
    from supervisor.registry.reports import Reports
    from supervisor.registry.session import Pool, Session

__all__ = ["perform"]


async def perform(pool: Pool, request: Request, fds: Sequence[int], reports: Reports) -> msgspec.Struct:
    """The reply. Raises the errors of `pyman.errors`."""
    doing = _doing(request)
    if isinstance(request, GetLogin | Logout):
        return await _local(request)
    if not request.endpoints:
        raise ProtocolError("cannot carry out a request without a registry")

    attempts = Attempts(pool, request.context, request.endpoints, doing, reports.retrying)
    if isinstance(request, DownloadRequest):
        return await _download(request, attempts, fds, reports, doing)
    reading = isinstance(request, GetManifest | GetBlob | ListTags)

    async def attempt(number: int, session: Session) -> msgspec.Struct:
        return await _attempt(number, session, request, fds, reports)

    return await (attempts.first(attempt) if reading else attempts.last(attempt))


async def _attempt(
    number: int,
    session: Session,
    request: Request,
    fds: Sequence[int],
    reports: Reports,
) -> msgspec.Struct:
    tag = request.endpoints[number].reference.tag
    match request:
        case GetManifest():
            digest = request.digest or request.endpoints[number].reference.digest
            if request.head:
                found, kind = await manifests.head_manifest(session, tag, digest)
                return ManifestDigestReply(found, kind)
            data, kind = await manifests.fetch_manifest(session, tag, digest)
            return ManifestReply(data, kind, number)
        case GetBlob():
            return BlobReply(await blobs.fetch_blob(session, request.digest, request.limit))
        case HasBlob():
            return SizeReply(await blobs.has_blob(session, request.digest, "pull,push"))
        case MountBlob():
            return FlagReply(await blobs.mount_blob(session, request.digest, request.source))
        case UploadBlob():
            if len(fds) != 1:
                raise ProtocolError("cannot upload without a file")
            sent = await blobs.upload_blob(session, fds[0], request.digest, request.size, reports.bytes)
            return SizeReply(sent)
        case PutManifest():
            put = await manifests.put_manifest(session, request.data, request.media_type, request.target)
            return ManifestDigestReply(put, request.media_type)
        case ListTags():
            return ListedReply(await manifests.list_tags(session))
        case SearchRegistry():
            return SearchedReply(await manifests.search(session, request.term, request.limit))
        case Login():
            return await _login(session, request)
    raise ProtocolError(f"cannot carry out the request {type(request).__name__}")


async def _download(
    request: DownloadRequest,
    attempts: Attempts,
    fds: Sequence[int],
    reports: Reports,
    doing: str,
) -> SizeReply:
    if len(fds) != 1 + request.growth:
        raise ProtocolError("cannot download without a file")

    growth = fds[1] if request.growth else -1
    download = blobs.Download(fds[0], request.digest, request.size, growth, reports.bytes)
    return SizeReply(await download.run(attempts, doing, verify=request.verify))


# Logins


async def _login(session: Session, request: Login) -> LoginStored:
    known = await session.credentials()
    if not known:
        message = f"cannot log in to '{request.key}': there is neither a name and password nor a login that was kept"
        raise Trouble(RegistryDenied(message, subject=request.key))
    try:
        async with session.request("GET", "/v2/", scopes=[]):
            pass
    except Trouble as trouble:
        if isinstance(trouble.error, RegistryDenied):
            message = f"cannot log in to '{request.key}': the registry does not take this name and password"
            raise Trouble(RegistryDenied(message, subject=request.key)) from None
        raise
    if not request.context.username:
        return LoginStored(known.username, known.origin)  # what was kept before is still right
    stored = await credentials.store(request.context, request.key, known.username, known.password)
    return LoginStored(known.username, stored)


async def _local(request: GetLogin | Logout) -> msgspec.Struct:
    context, key = request.context, request.key
    if isinstance(request, GetLogin):
        known = await credentials.lookup(context, key)
        if not known.username:
            raise NotFound(f"cannot tell who is logged in to '{key}': nobody is", subject=key)
        return LoginStored(known.username, known.origin)
    if request.all:
        return ListedReply(await credentials.forget_all(context))
    if not key:
        raise InvalidArgument("cannot log out: no registry is named")
    if not await credentials.forget(context, key):
        raise NotFound(f"cannot log out of '{key}': nobody is logged in", subject=key)
    return ListedReply([key])


def _doing(request: Request) -> str:
    """What an error says cannot be done."""
    if not request.endpoints:
        return "ask the registry"
    reference = request.endpoints[-1].reference
    name = str(reference)
    match request:
        case GetManifest() if request.digest:
            return f"pull '{reference.name}@{request.digest}'"
        case GetManifest():
            return f"pull '{name}'"
        case GetBlob() | DownloadRequest():
            return f"pull the blob '{request.digest}' of '{reference.name}'"
        case HasBlob() | MountBlob() | UploadBlob():
            return f"push the blob '{request.digest}' to '{reference.name}'"
        case PutManifest():
            return f"push '{name}'"
        case ListTags():
            return f"list the tags of '{reference.name}'"
        case SearchRegistry():
            return f"search the registry '{reference.domain}'"
        case Login():
            return f"log in to '{request.key}'"
    return "ask the registry"
