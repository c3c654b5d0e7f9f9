"""The secrets that a container to be asks for: looked up, checked, and copied for it.

As in Podman a container keeps what was in a secret when it was created, whatever becomes of that: the copies lie in its
static directory and go with it. For variables only the name is kept: each start takes what the secret has then.
"""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import InvalidArgument, PymanError
from supervisor.kernel import files
from supervisor.kernel.idmaps import has_inside
from supervisor.logging import log
from supervisor.oci.given import SECRETS, Given
from supervisor.oci.host import this_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyman.api.spec import ContainerSpec, Secret
    from supervisor.kernel.idmaps import IdMaps
    from supervisor.runtime.records import Definition
    from supervisor.runtime.secrets.book import Secrets
    from supervisor.runtime.secrets.records import Secret as KnownSecret
    from supervisor.runtime.services import Services

__all__ = ["Chosen", "check_owner", "choose", "values"]

MOST = 256
"""Secrets of one container."""
MOST_BYTES = 16 << 20
"""In all files that are secrets."""
_ID_MOST = (1 << 32) - 2
_MODE_MOST = 0o7777
_VARIABLE_MOST = 128 * 1024
"""Bytes of a variable with its name, for the kernel."""


class Chosen:
    """Of one container, until it is recorded."""

    def __init__(
        self, services: Services, spec: ContainerSpec, given: list[Given], data: list[bytes]
    ) -> None:
        self._services = services
        self.spec = spec
        """With the names of the secrets that are variables."""
        self._given = given
        self._data = data
        self._directory = ""

    def taken(self, definition: Definition) -> Definition:
        """The definition with them. InvalidArgument: an owner that the container does not have, or something else is
        mounted in the place of one."""
        maps = definition.userns.maps
        own = bool(maps.uids)
        if not own:
            maps = this_host().id_maps
        others = {each.destination for each in definition.mounted}
        others.update(each.dest for each in definition.spec.volumes)
        for each in self._given:
            check_owner(each, maps)
            if each.destination in others:
                raise InvalidArgument(
                    f"cannot give the container secret '{each.name}': something else is mounted at"
                    f" '{each.destination}'",
                    subject=each.name,
                )
        return msgspec.structs.replace(definition, secrets=self._given)

    async def keep(self, id: str) -> None:
        """Copy them. StorageFailed, DiskFull."""
        if self._given:
            self._directory = self._services.layout.container_secrets(id)
            await trio.to_thread.run_sync(self._keep, limiter=self._services.disk)

    async def drop(self) -> None:
        """The container is not recorded after all. What cannot be removed now, the next supervisor removes."""
        if self._directory:
            with trio.CancelScope(shield=True):
                try:
                    await files.remove_tree(os.path.dirname(self._directory))
                except PymanError as error:
                    log.warning("cannot take back the copies of secrets", error=str(error))

    def _keep(self) -> None:
        try:
            os.mkdir(os.path.dirname(self._directory), 0o700)
            os.mkdir(self._directory, 0o700)
            for number, data in enumerate(self._data):
                files.write_atomic(f"{self._directory}/{number}", data, durable=True)
        except OSError as error:
            raise files.storage_error(error, "make", self._directory) from error


async def choose(services: Services, spec: ContainerSpec) -> Chosen:
    """InvalidArgument, NoSuchSecret, AmbiguousId, NotSupported, StorageFailed, DeadlineExceeded."""
    if len(spec.secrets) + len(spec.secret_env) > MOST:
        raise InvalidArgument(f"cannot give a container more than {MOST} secrets")
    for name in spec.secret_env:
        if not name or "=" in name or "\0" in name:
            raise InvalidArgument(f"cannot set the environment variable '{name}' to a secret", subject=name)
    for wish in spec.secrets:
        _check_wish(wish)
    book = services.secrets
    if spec.secret_env:
        spec = msgspec.structs.replace(spec, secret_env=await _named(book, spec.secret_env))
    read = await book.read([wish.source for wish in spec.secrets]) if spec.secrets else []
    if sum(len(data) for _, data in read) > MOST_BYTES:
        raise InvalidArgument(f"cannot give a container secrets of more than {MOST_BYTES} bytes together")
    given = _placed(spec.secrets, [secret for secret, _ in read])
    return Chosen(services, spec, given, [data for _, data in read])


async def _named(book: Secrets, variables: Mapping[str, str]) -> dict[str, str]:
    """By the names of the secrets, however they were asked for."""
    found = await book.find([*variables.values()])
    names: dict[str, str] = {}
    for variable, source in variables.items():
        known = found[source]
        if isinstance(known, PymanError):
            raise known
        names[variable] = known.name
    return names


def _placed(wishes: Sequence[Secret], secrets: Sequence[KnownSecret]) -> list[Given]:
    """Each in a place of its own."""
    given: dict[str, Given] = {}
    for wish, secret in zip(wishes, secrets, strict=True):
        where = _destination(wish.target or secret.name, secret.name)
        if where in given:
            raise InvalidArgument(
                f"cannot give the container secret '{secret.name}': '{given[where].name}' is to be at '{where}', too",
                subject=secret.name,
            )
        given[where] = Given(secret.id, secret.name, where, wish.uid, wish.gid, wish.mode)
    for where, each in given.items():
        above = next((other for other in given if where.startswith(f"{other}/")), None)
        if above is not None:
            raise InvalidArgument(
                f"cannot give the container secret '{each.name}': '{above}' is a secret, and no directory",
                subject=each.name,
            )
    return [*given.values()]


def _check_wish(wish: Secret) -> None:
    for what, number, most in (
        ("uid", wish.uid, _ID_MOST),
        ("gid", wish.gid, _ID_MOST),
        ("mode", wish.mode, _MODE_MOST),
    ):
        if not 0 <= number <= most:
            raise InvalidArgument(
                f"cannot give the container secret '{wish.source}' with the {what} {number}",
                subject=wish.source,
            )
    if "\0" in wish.target:
        raise InvalidArgument(
            f"cannot give the container secret '{wish.source}': there is a NUL in its target"
        )


def _destination(target: str, name: str) -> str:
    path = posixpath.normpath(posixpath.join(SECRETS, target))
    if path.startswith("//"):
        path = path[1:]
    outside = not posixpath.isabs(target) and not path.startswith(f"{SECRETS}/")
    if outside or path in ("/", SECRETS):
        raise InvalidArgument(
            f"cannot give the container secret '{name}' as '{target}'",
            subject=name,
            hint="the target is a file below /run/secrets, or an absolute path",
        )
    return path


def check_owner(given: Given, maps: IdMaps) -> None:
    """InvalidArgument: it does not exist in a user namespace with these maps."""
    for what, number, lines in (("uid", given.uid, maps.uids), ("gid", given.gid, maps.gids)):
        if not has_inside(number, lines):
            raise InvalidArgument(
                f"cannot give the container secret '{given.name}' with the {what} {number}: its user namespace does"
                " not have it",
                subject=given.name,
            )


async def values(services: Services, spec: ContainerSpec) -> dict[str, str]:
    """The variables that are secrets, with their values of now. As `choose`; InvalidArgument: what is in one cannot be
    the value of a variable."""
    names = [*dict.fromkeys(spec.secret_env.values())]
    # It may have been removed: another one whose id begins with its name is not meant.
    read = await services.secrets.read(names, exactly=True)
    by_name = dict(zip(names, (data for _, data in read), strict=True))
    return {variable: _value(variable, name, by_name[name]) for variable, name in spec.secret_env.items()}


def _value(variable: str, name: str, data: bytes) -> str:
    problem = ""
    if b"\0" in data:
        problem = "there is a zero byte in it"
    elif len(data) + len(variable.encode(errors="surrogateescape")) + 2 > _VARIABLE_MOST:
        problem = "it is too long"
    else:
        try:
            return data.decode()
        except UnicodeDecodeError:
            problem = "it is not UTF-8"
    raise InvalidArgument(
        f"cannot set the environment variable '{variable}' to secret '{name}': {problem}",
        subject=name,
        hint="type=mount takes any data",
    ) from None
