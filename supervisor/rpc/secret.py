"""`io.pyman.Secret`: from the rows of the contract to the book of secrets."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pyman.api import secret as api
from pyman.api.container import ExistsReply
from pyman.errors import AmbiguousId, InvalidArgument, PymanError
from supervisor.rpc.rootfs import actor_of
from supervisor.runtime.many import info_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyman.api.event import Actor
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.secrets.book import Secrets

__all__ = ["SecretHandlers"]

T = TypeVar("T")
Removed = list[api.RemovedSecret]


class SecretHandlers:
    """Changes are finished without their caller. What only secrets need is imported when there is a call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _book(self) -> Secrets:
        self._engine.check_valid()
        return self._engine.services.secrets

    async def _finished(self, work: Callable[[], Awaitable[T]]) -> T:
        done: T = await self._engine.background(work).get()
        return done

    async def list(self, request: api.ListSecretsRequest, call: Call) -> api.ListSecretsReply:
        from supervisor.runtime.secrets.listing import inspected, selected

        found = selected(await self._book.every(), request.filters)
        return api.ListSecretsReply([inspected(secret) for secret in found])

    async def inspect(self, request: api.InspectSecretsRequest, call: Call) -> api.InspectSecretsReply:
        from supervisor.runtime.secrets.listing import inspected

        _require(request.names)
        found = (await self._book.find(request.names)).values()
        return api.InspectSecretsReply(
            [inspected(secret) for secret in found if not isinstance(secret, PymanError)],
            [info_of(error) for error in found if isinstance(error, PymanError)],
        )

    async def exists(self, request: api.SecretRequest, call: Call) -> ExistsReply:
        found = (await self._book.find([request.name]))[request.name]
        if isinstance(found, AmbiguousId):
            raise found
        return ExistsReply(exists=not isinstance(found, PymanError))

    async def read(self, request: api.SecretRequest, call: Call) -> api.InspectSecret:
        from supervisor.runtime.secrets.listing import inspected
        from supervisor.runtime.secrets.passing import to_send

        ((secret, data),) = await self._book.read([request.name])
        call.final_descriptors = [to_send(data)]
        return inspected(secret)

    async def create(self, request: api.CreateSecretRequest, call: Call) -> api.CreateSecretReply:
        from supervisor.runtime.secrets.passing import received
        from supervisor.runtime.secrets.records import Wish

        book, descriptors = self._book, call.take_descriptors()
        if len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise InvalidArgument("cannot make a secret without the descriptor of what is to be in it")
        data = await received(descriptors[0], self._engine.settings.pyman.call_deadline)
        wish = Wish(
            name=request.name,
            driver=request.driver,
            options=request.driver_options,
            labels=request.labels,
            replace=request.replace,
            ignore=request.ignore,
        )
        secret, created = await self._finished(partial(book.create, wish, data, actor_of(call)))
        return api.CreateSecretReply(secret.id, created)

    async def remove(self, request: api.RemoveSecretsRequest, call: Call) -> api.RemovedSecretsReply:
        if request.all and request.names:
            raise InvalidArgument("cannot combine names and --all")
        names = [secret.id for secret in await self._book.every()] if request.all else request.names
        if not request.all:
            _require(names)
        return api.RemovedSecretsReply(await self._finished(partial(self._remove, names, actor_of(call))))

    async def _remove(self, names: Sequence[str], actor: Actor) -> Removed:
        removed = []
        for name in names:
            try:
                secret = await self._book.remove(name, actor)
                removed.append(api.RemovedSecret(secret.id))
            except PymanError as error:
                removed.append(api.RemovedSecret(name, info_of(error)))
        return removed


def _require(names: Sequence[str]) -> None:
    if not names:
        raise InvalidArgument("cannot tell which secret is meant", hint="give a name")
