"""Registries, as the supervisor sees them: names resolved, images asked for, blobs fetched and sent, logins.

What registries.conf and policy.json say is decided here; the rest is done by the registry program. Configuration is
read again when a file has changed. All methods raise the errors of `pyman.errors` and can be cancelled at any time;
cancellation ends the operation in the program, too.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from pyman.api.image import RegistryAccess
from pyman.errors import InvalidArgument, RegistryFailed
from supervisor.kernel.begun import CLEAN_ENVIRONMENT
from supervisor.registry import messages
from supervisor.registry.calls import IDLE, Calls
from supervisor.registry.configuration import Configuration
from supervisor.registry.messages import Context, Endpoint
from supervisor.registry.proxies import VARIABLES
from supervisor.registry.reference import DEFAULT_DOMAIN, Reference, is_domain, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.registry.configuration import Candidates
    from supervisor.registry.messages import Found, Progress
    from supervisor.settings.model import Settings

__all__ = ["Fetched", "Head", "LoggedIn", "Registries"]

COPIES = 6
"""Blobs that are transferred at once, unless containers.conf says otherwise."""
_BLOB_LIMIT = 4 << 20
"""Bytes of a small blob."""
_ENVIRONMENT = (
    "HOME",
    "PATH",
    "LANG",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    *VARIABLES,
)
"""What of the supervisor's environment the program sees."""
_TYPE = TypeVar("_TYPE", bound=msgspec.Struct)
_ANY = RegistryAccess()


class Fetched(msgspec.Struct, frozen=True):
    """A manifest, byte for byte, verified where a digest was named."""

    data: bytes
    media_type: str
    digest: str
    endpoints: tuple[Endpoint, ...]
    """Where its blobs are: the one that had it first, then the others."""


class Head(msgspec.Struct, frozen=True):
    digest: str
    media_type: str


class LoggedIn(msgspec.Struct, frozen=True):
    username: str
    stored: str
    """The file or the program that has it."""


class Registries:
    """`programs`: the nursery that the registry program is waited for in.

    `environ`: the supervisor's environment, for proxies and for where configuration is. `stall`: seconds without a
    byte until a connection counts as broken.
    """

    def __init__(
        self,
        settings: Settings,
        programs: trio.Nursery,
        *,
        environ: Mapping[str, str] | None = None,
        idle: float = IDLE,
        stall: float = 30.0,
        configuration: Configuration | None = None,
    ) -> None:
        environ = dict(os.environ) if environ is None else environ
        self._settings = settings
        self._stall = stall
        self._configuration = configuration or Configuration(settings, environ)
        seen = {key: environ[key] for key in _ENVIRONMENT if key in environ}
        own = {
            "HOME": settings.xdg.home,
            **({"XDG_RUNTIME_DIR": settings.xdg.runtime_dir} if settings.uid else {}),
        }
        self._calls = Calls(programs, {**CLEAN_ENVIRONMENT, **own, **seen, **settings.engine.env}, idle)
        self._transfers = trio.CapacityLimiter(settings.engine.image_parallel_copies or COPIES)

    def take(self, settings: Settings) -> None:
        """Settings after a reload: how often, and how soon, a failed request is made again."""
        self._settings = settings

    @property
    def program_pid(self) -> int:
        """0: it does not run now."""
        return self._calls.pid

    async def warm(self) -> None:
        """Start the program while something else is done."""
        await self._calls.warm()

    async def aclose(self) -> None:
        await self._calls.aclose()

    # Names

    async def candidates(self, name: str) -> Candidates:
        """What a name may be pulled as, in order, each with a tag or a digest. Raises InvalidArgument, InvalidConfig."""
        return await self._configuration.candidates(name)

    async def local_candidates(self, name: str) -> list[Reference]:
        """The full names that a name may have in the store: an alias, localhost/, then the search list."""
        return await self._configuration.local_candidates(name)

    async def search_registries(self) -> tuple[str, ...]:
        return (await self._configuration.registries()).search

    async def record_alias(self, short: str, reference: Reference) -> None:
        """Remember what a user has chosen for a short name."""
        await self._configuration.record_alias(short, reference)

    async def permit(self, reference: Reference, transport: str = "docker") -> None:
        """Whether policy.json permits to take an image from there. Raises SignatureRefused, InvalidConfig."""
        await self._configuration.permit(reference, transport)

    async def permit_place(self, transport: str, path: str, full: str = "") -> None:
        """As `permit`, for what is in no registry: `full` is the path with what is chosen there."""
        await self._configuration.permit_place(transport, path, full or path)

    async def endpoints(
        self, reference: Reference, access: RegistryAccess = _ANY, *, push: bool = False
    ) -> tuple[Endpoint, ...]:
        """Where to ask for it: mirrors, then the registry itself; for `push` that one alone.

        Raises PermissionDenied: it is blocked.
        """
        return await self._configuration.endpoints(reference, access, push=push)

    # Reading

    async def manifest(
        self,
        reference: Reference,
        access: RegistryAccess = _ANY,
        *,
        digest: str = "",
        endpoints: Sequence[Endpoint] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> Fetched:
        """The manifest or the list that the name means, or with `digest` the one that has it.

        `endpoints`: those of an earlier answer, for the members of a list.
        """
        places = tuple(endpoints) or await self.endpoints(_pinned(reference, digest), access)
        request = partial(messages.GetManifest, digest=digest)
        reply = await self._ask(request, access, places, messages.ManifestReply, progress=progress)
        first = places[reply.endpoint]
        others = tuple(place for place in places if place is not first)
        return Fetched(reply.data, reply.media_type, _digest_of(reply.data), (first, *others))

    async def head(self, reference: Reference, access: RegistryAccess = _ANY) -> Head:
        """The digest that a name means now."""
        places = await self.endpoints(reference, access)
        reply = await self._ask(
            partial(messages.GetManifest, head=True), access, places, messages.ManifestDigestReply
        )
        return Head(reply.digest, reply.media_type)

    async def blob(
        self,
        reference: Reference,
        digest: str,
        access: RegistryAccess = _ANY,
        *,
        endpoints: Sequence[Endpoint] = (),
        limit: int = _BLOB_LIMIT,
    ) -> bytes:
        """A small blob, verified."""
        places = tuple(endpoints) or await self.endpoints(reference, access)
        request = partial(messages.GetBlob, digest=digest, limit=limit)
        return (await self._ask(request, access, places, messages.BlobReply)).data

    async def download(
        self,
        reference: Reference,
        digest: str,
        size: int,
        file: int,
        access: RegistryAccess = _ANY,
        *,
        endpoints: Sequence[Endpoint] = (),
        growth: int = -1,
        verify: bool | None = None,
        report: Callable[[int], None] | None = None,
        retrying: Callable[[str], None] | None = None,
    ) -> int:
        """Bring a blob into a file, which may hold the beginning of it; returns its size.

        `file` is open for reading and writing. `growth`: the writing end of a pipe, non-blocking, which is told how
        far the file has come, as `Feed` has it; both stay the caller's to close. Unless `verify` says otherwise, the
        file is verified at the end where nobody follows it; who does has to verify it. `report`: hears the bytes that
        are there, about ten times a second; `retrying`: why it is tried again. Waits for its turn: `Registries` does
        a few transfers at once.
        """
        places = tuple(endpoints) or await self.endpoints(reference, access)
        request = partial(
            messages.DownloadRequest,
            digest=digest,
            size=size,
            growth=growth >= 0,
            verify=growth < 0 if verify is None else verify,
        )
        fds = [file] if growth < 0 else [file, growth]
        if growth >= 0:
            os.set_blocking(growth, False)
        async with self._transfers:
            reply = await self._ask(
                request, access, places, messages.SizeReply, fds=fds, progress=_told(report, retrying)
            )
        return reply.size

    async def tags(self, reference: Reference, access: RegistryAccess = _ANY) -> list[str]:
        places = await self.endpoints(reference.bare(), access)
        return (await self._ask(messages.ListTags, access, places, messages.ListedReply)).items

    async def search(
        self, registry: str, term: str, limit: int, access: RegistryAccess = _ANY
    ) -> list[Found]:
        """Repositories of one registry whose names, or descriptions, have the term."""
        if not is_domain(registry):
            raise InvalidArgument(f"cannot search the registry '{registry}': it is not HOST[:PORT]")
        domain = "index.docker.io" if registry == DEFAULT_DOMAIN else registry
        term = term.removeprefix("library/") if registry == DEFAULT_DOMAIN else term
        places = await self._configuration.host(registry, access)
        places = tuple(msgspec.structs.replace(place, reference=Reference(domain, "")) for place in places)
        request = partial(messages.SearchRegistry, term=term, limit=limit)
        return (await self._ask(request, access, places, messages.SearchedReply)).results

    # Writing

    async def exists(self, reference: Reference, digest: str, access: RegistryAccess = _ANY) -> bool:
        """Whether the registry has the blob in this repository."""
        places = await self.endpoints(reference, access, push=True)
        reply = await self._ask(partial(messages.HasBlob, digest=digest), access, places, messages.SizeReply)
        return reply.size != -1

    async def mount(
        self, reference: Reference, digest: str, source: Reference, access: RegistryAccess = _ANY
    ) -> bool:
        """Have the registry take the blob from another repository of its own. False: it does not."""
        if source.domain != reference.domain or source.path == reference.path:
            return False
        places = await self.endpoints(reference, access, push=True)
        request = partial(messages.MountBlob, digest=digest, source=source.path)
        return (await self._ask(request, access, places, messages.FlagReply)).value

    async def upload(
        self,
        reference: Reference,
        digest: str,
        size: int,
        file: int,
        access: RegistryAccess = _ANY,
        *,
        report: Callable[[int], None] | None = None,
        retrying: Callable[[str], None] | None = None,
    ) -> None:
        """Send the first `size` bytes of a file, which stays the caller's. The registry checks the digest."""
        places = await self.endpoints(reference, access, push=True)
        request = partial(messages.UploadBlob, digest=digest, size=size)
        async with self._transfers:
            await self._ask(
                request, access, places, messages.SizeReply, fds=[file], progress=_told(report, retrying)
            )

    async def put_manifest(
        self,
        reference: Reference,
        data: bytes,
        media_type: str,
        access: RegistryAccess = _ANY,
        *,
        digest: str = "",
    ) -> str:
        """Give the name, or with `digest` only that one, this manifest; returns its digest."""
        places = await self.endpoints(reference, access, push=True)
        target = digest or reference.tag or reference.digest
        if not target:
            raise InvalidArgument(f"cannot push '{reference}': it has neither tag nor digest")
        request = partial(messages.PutManifest, data=data, media_type=media_type, target=target)
        return (await self._ask(request, access, places, messages.ManifestDigestReply)).digest

    # Logins

    async def login(self, registry: str, access: RegistryAccess) -> LoggedIn:
        """Ask the registry whether it takes the login, then keep it. Without a name: whether it takes the kept one.

        `registry`: HOST[:PORT], or a repository. Raises RegistryDenied.
        """
        key = login_key(registry)
        places = await self._configuration.host(key.partition("/")[0], access)
        reply = await self._ask(partial(messages.Login, key=key), access, places, messages.LoginStored)
        return LoggedIn(reply.username, reply.stored)

    async def logged_in(self, registry: str, access: RegistryAccess = _ANY) -> LoggedIn:
        """Who is logged in there. Raises NotFound."""
        request = partial(messages.GetLogin, key=login_key(registry))
        reply = await self._ask(request, access, (), messages.LoginStored)
        return LoggedIn(reply.username, reply.stored)

    async def logout(self, registry: str, access: RegistryAccess = _ANY, *, all: bool = False) -> list[str]:  # noqa: A002
        """Forget a login, or all; returns what was forgotten. Raises NotFound."""
        request = partial(messages.Logout, key="" if all else login_key(registry), all=all)
        return (await self._ask(request, access, (), messages.ListedReply)).items

    async def _ask(
        self,
        request: Callable[..., msgspec.Struct],
        access: RegistryAccess,
        endpoints: tuple[Endpoint, ...],
        expected: type[_TYPE],
        *,
        fds: Sequence[int] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> _TYPE:
        context = await self._context(access)
        reply = await self._calls.call(request(context=context, endpoints=endpoints), fds, progress)
        if not isinstance(reply, expected):
            raise RegistryFailed(
                f"cannot talk to the registry: its program answers with {type(reply).__name__}"
            )
        return reply

    async def _context(self, access: RegistryAccess) -> Context:
        for path, option in ((access.auth_file, "authfile"), (access.cert_dir, "cert-dir")):
            if path and not path.startswith("/"):
                raise InvalidArgument(f"cannot use --{option} '{path}': it is not an absolute path")
        engine = self._settings.engine
        registries = await self._configuration.registries()
        if access.docker_auth and not access.auth_file:
            raise InvalidArgument("cannot keep logins in Docker's form: no file is named")
        files = self._configuration.auth_files(access.auth_file, dockers=access.docker_auth)
        return Context(
            username=access.username,
            password=access.password,
            auth_files=files,
            # Docker knows nothing of those in registries.conf.
            credential_helpers=() if access.docker_auth else registries.credential_helpers,
            cert_dir=access.cert_dir,
            cert_roots=self._configuration.cert_roots,
            retry=max(0, engine.retry if access.retry is None else access.retry),
            retry_delay=engine.retry_delay if access.retry_delay is None else access.retry_delay,
            stall=self._stall,
        )


def login_key(text: str) -> str:
    """What a login is kept under: HOST[:PORT], or a repository. Raises InvalidArgument."""
    for scheme in ("https://", "http://"):
        if text.startswith(scheme):
            text = text.removeprefix(scheme).partition("/")[0]
    host, slash, path = text.partition("/")
    if not is_domain(host):
        raise InvalidArgument(f"cannot use '{text}' as a registry: it is not HOST[:PORT]", subject=text)
    if slash and not parse(f"registry.example/{path}").name_only:
        raise InvalidArgument(f"cannot use '{text}' as a repository: it has a tag or a digest", subject=text)
    return text


def _pinned(reference: Reference, digest: str) -> Reference:
    return reference.with_digest(digest) if digest else reference


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _told(
    report: Callable[[int], None] | None, retrying: Callable[[str], None] | None
) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.retrying and retrying is not None:
            retrying(progress.retrying)
        elif not progress.retrying and report is not None:
            report(progress.bytes)

    return tell
