"""`io.pyman.Image`: from the rows of the contract to the library."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyman.api import image as api
from pyman.api.container import ExistsReply
from pyman.api.image import TransferReply
from pyman.api.method import Nothing
from supervisor.images import searching
from supervisor.images.names import stripped
from supervisor.images.transfer.pulling import Wish
from supervisor.images.transports import places as transports
from supervisor.rpc.image_transfer import TransferHandlers, tell
from supervisor.rpc.rootfs import actor_of

if TYPE_CHECKING:
    from supervisor.rpc.dispatch import Call

__all__ = ["ImageHandlers"]


class ImageHandlers(TransferHandlers):
    """Reads and transfers end with their caller; changes are finished without."""

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

    async def diff(self, request: api.DiffRequest, call: Call) -> api.DiffReply:
        return await self._images.diff(request.names)

    # ------------------------------------------------------------------ transfers

    async def pull(self, request: api.PullRequest, call: Call) -> TransferReply:
        if transports.has_transport(request.reference) and not request.reference.startswith("docker://"):
            return await self.pull_place(request, call)
        wish = Wish(
            request.reference,
            request.policy,
            request.all_tags,
            request.platform,
            request.access,
            request.ask,
            request.alias,
        )
        async with self._images.pulling.lease(wish, actor_of(call)) as (board, work):
            await tell(board, call, quiet=request.quiet)
            pulled = await work.result()
        return TransferReply(ids=pulled.ids, names=pulled.names)

    # ------------------------------------------------------------------ registries

    async def candidates(self, request: api.CandidatesRequest, call: Call) -> api.CandidatesReply:
        found = await self._images.registries.candidates(request.reference.removeprefix("docker://"))
        return api.CandidatesReply(
            [str(stripped(reference)) for reference in found.references], found.short, found.choose
        )

    async def search(self, request: api.SearchRequest, call: Call) -> api.SearchReply:
        return await searching.search(self._images.registries, request)

    async def login(self, request: api.LoginRequest, call: Call) -> api.LoginReply:
        return await searching.login(self._images.registries, request)

    async def logout(self, request: api.LogoutRequest, call: Call) -> Nothing:
        await searching.logout(self._images.registries, request)
        return Nothing()

    # ------------------------------------------------------------------ names

    async def tag(self, request: api.TagRequest, call: Call) -> Nothing:
        await self._finished(partial(self._images.tag, request.name, request.targets, actor_of(call)))
        return Nothing()

    async def untag(self, request: api.TagRequest, call: Call) -> Nothing:
        await self._finished(partial(self._images.untag, request.name, request.targets, actor_of(call)))
        return Nothing()

    # ------------------------------------------------------------------ removing and mounting

    async def remove(self, request: api.RemoveImagesRequest, call: Call) -> api.RemoveImagesReply:
        return await self._finished(partial(self._images.remove, request, actor_of(call)))

    async def prune(self, request: api.PruneImagesRequest, call: Call) -> api.RemoveImagesReply:
        return await self._finished(partial(self._images.prune, request, actor_of(call)))

    async def mount(self, request: api.NamesRequest, call: Call) -> api.MountImagesReply:
        work = partial(self._images.mount, request.names, actor_of(call), every=request.all)
        return await self._finished(work)

    async def unmount(self, request: api.UnmountRequest, call: Call) -> api.MountImagesReply:
        work = partial(
            self._images.unmount, request.names, actor_of(call), every=request.all, force=request.force
        )
        return await self._finished(work)
