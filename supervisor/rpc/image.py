"""`io.pyman.Image`: from the rows of the contract to the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.container import ExistsReply
from pyman.api.event import Actor
from pyman.api.method import Nothing

if TYPE_CHECKING:
    from pyman.api import image as api
    from supervisor.images.library import Images
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.engine import Engine

__all__ = ["ImageHandlers"]


def actor_of(call: Call) -> Actor:
    return Actor(uid=call.caller.uid, pid=call.caller.pid)


class ImageHandlers:
    """Reads and transfers end with their caller; changes are finished without."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _images(self) -> Images:
        self._engine.check_valid()
        return self._engine.services.images

    # ------------------------------------------------------------------ reading

    async def list(self, request: api.ListImagesRequest, call: Call) -> api.ListImagesReply:
        return await self._images.list(request.filters, request.names, every=request.all)

    async def inspect(self, request: api.InspectImagesRequest, call: Call) -> api.InspectImagesReply:
        return await self._images.inspect(request.names)

    async def exists(self, request: api.OneNameRequest, call: Call) -> ExistsReply:
        return ExistsReply(exists=await self._images.exists(request.name))

    async def history(self, request: api.OneNameRequest, call: Call) -> api.HistoryReply:
        return await self._images.history(request.name)

    async def tree(self, request: api.TreeRequest, call: Call) -> api.TreeReply:
        return await self._images.tree(request.name, whatrequires=request.whatrequires)

    # ------------------------------------------------------------------ names

    async def tag(self, request: api.TagRequest, call: Call) -> Nothing:
        await self._images.tag(request.name, request.targets, actor_of(call))
        return Nothing()

    async def untag(self, request: api.TagRequest, call: Call) -> Nothing:
        await self._images.untag(request.name, request.targets, actor_of(call))
        return Nothing()
