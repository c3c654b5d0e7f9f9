"""What the configuration files say of registries, read again when one has changed, and applied to a name."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import AmbiguousId, InvalidArgument, PermissionDenied, SignatureRefused
from supervisor.logging import log
from supervisor.registry.aliases import record_alias
from supervisor.registry.messages import AuthFile, Endpoint
from supervisor.registry.reference import Reference, is_domain, parse, parse_short
from supervisor.settings import files, policy, registries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.image import RegistryAccess
    from supervisor.settings.model import Settings
    from supervisor.settings.policy import Policy
    from supervisor.settings.registries import RegistriesSettings

__all__ = ["Candidates", "Configuration"]

_limiter = trio.CapacityLimiter(2)


class Candidates(msgspec.Struct, frozen=True):
    """What a name may be pulled as."""

    references: tuple[Reference, ...]
    description: str = ""
    """How they were found, for people; empty: the name was a full one."""
    choose: bool = False
    """The configuration wants the user to choose among them, where there is a user to ask (`refuse_ambiguous`); then
    `Registries.record_alias` remembers it."""
    enforced: bool = False
    """Where nobody can be asked, the name is refused."""
    short: str = ""
    """The short name, without tag and digest."""

    def refuse_ambiguous(self, *, ask: bool = False) -> None:
        """Raises AmbiguousId where a user has to be asked, or, with `ask`, should be, who can be."""
        if self.choose and (self.enforced or ask):
            listed = ", ".join(str(reference) for reference in self.references)
            mode = "enforcing" if self.enforced else "permissive"
            raise AmbiguousId(
                f"cannot tell which image '{self.short}' means: it may be {listed}",
                subject=self.short,
                hint=f"give the full name; the short-name-mode in registries.conf is '{mode}'",
            )


class Configuration:
    """`system` and `administrator`: where the files of these are; `aliases`: another short-name-aliases.conf."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        system: str = files.SYSTEM,
        administrator: str = files.ADMINISTRATOR,
        aliases: str | None = None,
    ) -> None:
        self._settings = settings
        self._environ = dict(environ)
        self._system = system
        self._administrator = administrator
        self._aliases = registries.aliases_path(settings.uid, settings.xdg) if aliases is None else aliases
        self._registries: tuple[object, RegistriesSettings] | None = None
        self._policy: tuple[object, Policy] | None = None

    @property
    def cert_roots(self) -> tuple[str, ...]:
        """The user's certificates come first."""
        own = f"{self._settings.xdg.config_home}/containers/certs.d"
        return (own, f"{self._administrator}/certs.d", "/etc/docker/certs.d")

    def auth_files(self, explicit: str, *, dockers: bool = False) -> tuple[AuthFile, ...]:
        """Where logins are kept, in the order of containers-auth.json(5); the first is written. `dockers`: the explicit
        one is in Docker's form."""
        if explicit:
            return (AuthFile(explicit, docker=dockers),)
        xdg, environ = self._settings.xdg, self._environ
        docker = environ.get("DOCKER_CONFIG") or f"{xdg.home}/.docker"
        found = [f"{xdg.config_home}/containers/auth.json", f"{docker}/config.json"]
        runtime = xdg.runtime_dir if self._settings.uid else environ.get("XDG_RUNTIME_DIR", "")
        first = [f"{runtime}/containers/auth.json"] if runtime and os.path.isdir(runtime) else []
        if not self._settings.uid:
            first.append("/run/containers/0/auth.json")
        return (
            *(AuthFile(path) for path in [*first, *found]),
            AuthFile(f"{xdg.home}/.dockercfg", legacy=True),
        )

    # Reading

    async def registries(self) -> RegistriesSettings:
        """Raises InvalidConfig."""
        return await trio.to_thread.run_sync(self._registries_now, limiter=_limiter)

    def _registries_now(self) -> RegistriesSettings:
        paths = registries.paths(
            self._environ,
            self._settings.xdg,
            self._aliases,
            system=self._system,
            administrator=self._administrator,
        )
        stamp = [_seen(path) for path in paths]  # before they are read: what changes meanwhile is read again
        known = self._registries
        if known is None or known[0] != stamp:
            known = self._registries = (stamp, registries.load(paths, self._aliases, is_domain=is_domain))
            for warning in known[1].warnings:
                log.warning(warning)
        return known[1]

    async def policy(self) -> Policy:
        """Raises InvalidConfig."""
        return await trio.to_thread.run_sync(self._policy_now, limiter=_limiter)

    def _policy_now(self) -> Policy:
        paths = policy.files(self._settings.xdg, self._administrator)
        stamp = [_seen(path) for path in paths]
        if self._policy is None or self._policy[0] != stamp:
            self._policy = (stamp, policy.load(paths))
        return self._policy[1]

    # Names

    async def candidates(self, name: str) -> Candidates:
        short = parse_short(name)
        if short.domain:
            return Candidates((parse(name).tagged(),))
        settings = await self.registries()
        bare = str(short.bare())
        alias = settings.aliases.get(bare)
        if alias is not None and alias.value:
            full = _with_suffix(parse(alias.value), short)
            text = f'Resolved "{bare}" as an alias ({alias.file})'
            return Candidates((full.tagged(),), text, short=bare)
        if not settings.search:
            where = f" in '{settings.search_file}'" if settings.search_file else ""
            raise InvalidArgument(
                f"cannot tell which image '{name}' means: it is no alias, and no registries to search are set{where}",
                subject=name,
                hint="give the full name, such as docker.io/library/NAME, or set unqualified-search-registries",
            )
        found = tuple(parse(f"{registry}/{name}").tagged() for registry in settings.search)
        text = f'Resolving "{bare}" using unqualified-search registries ({settings.search_file})'
        choose = len(found) > 1 and settings.short_name_mode != "disabled"
        enforced = settings.short_name_mode == "enforcing"
        return Candidates(found, text, choose=choose, enforced=enforced, short=bare)

    async def local_candidates(self, name: str) -> list[Reference]:
        short = parse_short(name)
        if short.domain:
            return [parse(name).tagged()]
        settings = await self.registries()
        alias = settings.aliases.get(str(short.bare()))
        found = (
            [_with_suffix(parse(alias.value), short).tagged()] if alias is not None and alias.value else []
        )
        return [*found, *(parse(f"{place}/{name}").tagged() for place in ("localhost", *settings.search))]

    async def record_alias(self, short: str, reference: Reference) -> None:
        write = partial(record_alias, self._aliases, short, reference.name)
        await trio.to_thread.run_sync(write, limiter=_limiter)

    async def permit(self, reference: Reference, transport: str) -> None:
        found = await self.policy()
        refused = policy.refusal(found, transport, reference.name, str(reference.tagged()))
        if refused:
            raise SignatureRefused(f"cannot take the image '{reference}': {refused}", subject=str(reference))

    async def permit_place(self, transport: str, path: str, full: str) -> None:
        refused = policy.refusal(await self.policy(), transport, path, full)
        if refused:
            raise SignatureRefused(f"cannot take the image '{transport}:{full}': {refused}", subject=path)

    async def endpoints(
        self, reference: Reference, access: RegistryAccess, *, push: bool
    ) -> tuple[Endpoint, ...]:
        settings = await self.registries()
        self._refuse_blocked(settings, reference.name)
        found: list[Endpoint] = []
        rewritten = registries.sources(settings, reference.name, by_digest=bool(reference.digest))
        for number, (name, place) in enumerate(rewritten):
            where = parse(name)
            last = number == len(rewritten) - 1
            found.append(
                Endpoint(
                    Reference(where.domain, where.path, reference.tag, reference.digest),
                    insecure=_insecure(access, place.insecure),
                    mirror=not last,
                    foreign=where.domain != parse(rewritten[-1][0]).domain,
                )
            )
        return tuple(found[-1:] if push else found)

    async def host(self, registry: str, access: RegistryAccess) -> tuple[Endpoint, ...]:
        """A registry as a whole."""
        settings = await self.registries()
        self._refuse_blocked(settings, registry)
        entry = registries.find(settings, registry)
        insecure = entry is not None and entry.location.insecure
        return (Endpoint(Reference(registry, ""), insecure=_insecure(access, insecure)),)

    def _refuse_blocked(self, settings: RegistriesSettings, name: str) -> None:
        entry = registries.find(settings, name)
        if entry is not None and entry.blocked:
            raise PermissionDenied(
                f"cannot use '{name}': '{entry.prefix}' is blocked in '{entry.file}'", subject=name
            )


def _insecure(access: RegistryAccess, configured: bool) -> bool:
    return configured if access.tls_verify is None else not access.tls_verify


def _with_suffix(full: Reference, short: Reference) -> Reference:
    return Reference(full.domain, full.path, short.tag, short.digest)


def _seen(path: str) -> tuple[str, int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (path, 0, 0, 0)
    return (path, status.st_mtime_ns, status.st_size, status.st_ino)
