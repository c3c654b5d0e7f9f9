"""The images of an engine: what callers ask of them, in one place.

Reads are views of the store, taken in a thread; changes go through the ledger, which tells them. Nothing here holds
the loop, and nothing belongs to a caller: whoever goes away only stops waiting, but for transfers, which end with the
last one who wants them.
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from pyman.api.image import HistoryReply, InspectImagesReply, ListImagesReply
from pyman.api.pull import RegistryAccess
from pyman.errors import ImageInUse, InvalidArgument, NoSuchImage, PymanError, StorageFailed
from pyman.names import EventStatus
from supervisor.images import differing, inspecting, listing, mounting, removing
from supervisor.images.answers import info_of
from supervisor.images.build_cache import remove_build_cache
from supervisor.images.deeds import Deeds
from supervisor.images.events import Ledger, Proof, event
from supervisor.images.names import normalized
from supervisor.images.transfer.elsewhere import Elsewhere
from supervisor.images.transfer.layers import Layers
from supervisor.images.transfer.partials import Partials
from supervisor.images.transfer.pulling import Pulling, Wish
from supervisor.images.transfer.storing import Storing
from supervisor.images.view import HERE, Reader
from supervisor.logging import log
from supervisor.registry.client import Registries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from pyman.api.event import Actor
    from pyman.api.image import (
        DiffReply,
        ImageSummary,
        MountImagesReply,
        PruneImagesRequest,
        RemoveImagesReply,
        RemoveImagesRequest,
        TreeReply,
    )
    from pyman.api.pull import Platform, Progress
    from supervisor.images.names import Found
    from supervisor.images.view import View
    from supervisor.registry.reference import Reference
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import EngineSettings, Settings
    from supervisor.state.database import Database
    from supervisor.storage.records import Container, Image
    from supervisor.storage.store import Store

__all__ = ["Images"]

RECOVERY = 5.0
"""Seconds that the start waits for the locks of other engines."""
LOOKING = 4
CHANGING = 8
"""Threads, apart from those of every other room; those that only look never wait for the others."""
ANY_ACCESS = RegistryAccess()
T = TypeVar("T")


class Images:
    """One for an engine; the runtime makes it and sets the callbacks."""

    registries: Registries
    pulling: Pulling

    def __init__(self, store: Store, database: Database, settings: Settings, layout: Layout) -> None:
        self.store = store
        self._database = database
        self._settings = settings
        self._layout = layout
        self._running = False
        self._looking = trio.CapacityLimiter(LOOKING)
        self.limiter = trio.CapacityLimiter(CHANGING)
        """For what may wait for the locks of other engines."""
        self.ledger = Ledger(database, store, self.limiter)
        self.deeds = Deeds(database, store, self.limiter, layout.builds)
        self.reader = Reader(store, self._candidates)
        self.partials = Partials(layout.partials)
        self.is_external: Callable[[str], bool] = lambda _container: True
        """Whether a container of the store, by its id, is of another engine's making."""
        self.name_of: Callable[[str], str] = lambda _container: ""
        """What one of this engine's containers is called."""
        self.mounting: Callable[[str], Sequence[str]] = lambda _image: ()
        """The ids of this engine's containers in which an image, by its id, is mounted beside their own."""
        self.remove_container: Callable[[str, Actor | None], Awaitable[None]] = _no_containers
        """Remove one of this engine's containers, whatever it does."""
        self.settled: Callable[[Iterable[str]], Awaitable[None]] = _nothing_leaves
        """Wait for what is left of those of these containers that were removed."""
        self.ledger.mounts = self.mount_count

    def take(self, settings: Settings) -> None:
        """Settings after a reload: the policy of pulls, how often a registry is asked again."""
        self._settings = settings
        if self._running:
            self.registries.take(settings)

    @property
    def engine(self) -> EngineSettings:
        """As they are now."""
        return self._settings.engine

    async def recover(self, intents: Mapping[str, bytes], containers: Collection[str]) -> None:
        """Before anything else is done with images: what a supervisor that was killed has left goes, and what it had
        begun is told if it was done. `containers`: the ids of those that this engine has. Where another engine holds
        the store's locks, the first goes on beside the rest."""
        try:
            with trio.move_on_after(RECOVERY) as patience:
                act = partial(self.store.recover, containers)
                await trio.to_thread.run_sync(act, limiter=self.limiter, abandon_on_cancel=True)
            if patience.cancelled_caught:
                log.warning("another engine holds the image store: leftovers are removed when it lets go")
        except PymanError as error:  # what runs does not need the image store
            log.warning("cannot look for leftovers in the image store", error=str(error))
        self.layers.sweep()
        await self.elsewhere.recover(intents)
        await self.ledger.recover(intents)
        await self.deeds.recover(intents)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The life of what goes on for callers: transfers, and the program that talks to registries."""
        async with trio.open_nursery() as programs, trio.open_nursery() as works:
            self._works = works.cancel_scope
            self.registries = Registries(self._settings, programs)
            self._running = True
            self.layers = Layers(
                self.store,
                self.limiter,
                works,
                at_once=self._settings.engine.image_parallel_copies,
            )
            self.storing = Storing(self.store, self.ledger, self.layers)
            self.elsewhere = Elsewhere(self._database, self._settings, self._layout, works)
            self.deeds.open(self.registries, self.elsewhere.images_in, works)
            self.pulling = Pulling(self, self.registries, self.partials, self.layers, self.storing, works)
            await self.partials.clean()
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self.deeds.close()

    async def end(self) -> None:
        """Give up what goes on for callers. What has been begun in the store is finished, and told, on return."""
        self._works.cancel()
        self.layers.closed = True
        await self.ledger.wait_idle()
        await self.deeds.wait_idle()

    def _candidates(self, short: Reference) -> Sequence[Reference]:
        """In the thread of a view."""
        return trio.from_thread.run(self.registries.local_candidates, str(short))

    # -- reading ------------------------------------------------------------------------------------

    async def read(self, look: Callable[[View], T]) -> T:
        """What `look` makes of a view, in a thread."""
        return await trio.to_thread.run_sync(lambda: look(self.reader.view()), limiter=self._looking)

    async def list(
        self, filters: Mapping[str, Sequence[str]], names: Sequence[str], *, every: bool
    ) -> ListImagesReply:
        """InvalidArgument, StorageFailed."""

        def look(view: View) -> list[ImageSummary]:
            return listing.listed(view, filters, names, self.is_external, intermediate=every)

        return ListImagesReply(images=await self.read(look))

    async def has_container(self, name: str) -> bool:
        """Whether the store has a container of any engine with that name, or whose id begins so."""

        def look(view: View) -> bool:
            return bool(name) and any(
                name in container.names or container.id.startswith(name) for container in view.containers
            )

        return await self.read(look)

    async def find(self, name: str, platform: Platform = HERE, *, lists: str = "member") -> Found:
        """As `View.find`."""
        return await self.read(lambda view: view.find(name, platform, lists=lists))

    async def exists(self, name: str) -> bool:
        """StorageFailed."""
        try:
            await self.find(name, lists="prefer")
        except (NoSuchImage, InvalidArgument):
            return False
        return True

    async def inspect(self, names: Sequence[str]) -> InspectImagesReply:
        """An error in the reply for each name that cannot be told of."""

        def look(view: View) -> InspectImagesReply:
            images: list[dict[str, Any]] = []
            errors = []
            mounted = {each.image.id: each.path for each in self.store.mounted_images()}
            for name in names:
                try:
                    image = view.find(name).image
                    images.append(inspecting.document(view, image, mounted.get(image.id, "")))
                except PymanError as error:
                    errors.append(info_of(error, name))
            return InspectImagesReply(images=images, errors=errors)

        return await self.read(look)

    async def history(self, name: str) -> HistoryReply:
        return await self.read(
            lambda view: HistoryReply(layers=inspecting.history(view, view.find(name).image))
        )

    async def diff(self, names: Sequence[str]) -> DiffReply:
        return await differing.differ(self, names)

    async def tree(self, name: str, *, whatrequires: bool) -> TreeReply:
        return await self.read(
            lambda view: inspecting.tree(view, view.find(name).image, whatrequires=whatrequires)
        )

    # -- bringing -----------------------------------------------------------------------------------

    async def ensure(
        self,
        name: str,
        *,
        policy: str = "",
        platform: Platform = HERE,
        access: RegistryAccess = ANY_ACCESS,
        actor: Actor | None = None,
        report: Callable[[Progress | str], Awaitable[None]] | None = None,
        ask: bool = False,
        alias: str = "",
    ) -> Found:
        """The image of a container to be: what is here, or what is pulled. `policy`: empty means the configured one.
        `report` is told how a pull goes on. `ask`, `alias`: as of `Wish`. Errors of a pull."""
        policy = policy or self._settings.engine.pull_policy
        if policy in ("missing", "never") and platform == HERE:
            try:
                return await self.find(name)
            except NoSuchImage:
                if policy == "never":
                    raise
        wish = Wish(name, policy, platform=platform, access=access, ask=ask, alias=alias)
        async with self.pulling.lease(wish, actor) as (board, work):
            if report is not None:
                async with aclosing(board.read()) as told:
                    async for item in told:
                        await report(item)
            pulled = await work.result()
        return pulled.found[0]

    # -- names --------------------------------------------------------------------------------------

    async def tag(self, name: str, targets: Sequence[str], actor: Actor | None) -> None:
        """Give an image, or a manifest list, further names; whoever has one of them loses it. NoSuchImage,
        InvalidArgument, StorageFailed, DiskFull."""
        if not targets:
            raise InvalidArgument(f"cannot tag the image '{name}': no name is given", subject=name)
        wanted = [(target, normalized(target)) for target in targets]
        for target, full in wanted:
            if full.digest:
                raise InvalidArgument(f"cannot tag an image '{target}': it has a digest", subject=target)
        image = _own((await self.find(name, lists="keep")).image)
        full_names = tuple(dict.fromkeys(str(full) for _, full in wanted))
        events = [event(EventStatus.TAG, image.id, target, actor) for target, _ in wanted]
        act = partial(self.store.add_names, image.id, full_names)
        await self.ledger.carry_out(Proof(image=image.id, names=full_names), events, act)

    async def untag(self, name: str, targets: Sequence[str], actor: Actor | None) -> None:
        """Take names away; none are given: all. NoSuchImage, InvalidArgument (it has not the name), StorageFailed."""
        image = _own((await self.find(name, lists="keep")).image)
        lost = tuple(dict.fromkeys(str(normalized(target)) for target in targets)) if targets else image.names
        for each in lost:
            if each not in image.names:
                raise InvalidArgument(
                    f"cannot untag the image '{name}': it has not the name '{each}'", subject=each
                )
        if lost:
            events = [event(EventStatus.UNTAG, image.id, each, actor) for each in lost]
            act = partial(self.store.remove_names, image.id, lost)
            await self.ledger.carry_out(Proof(image=image.id, lost=lost), events, act)

    # -- removing and mounting ----------------------------------------------------------------------

    async def remove(self, request: RemoveImagesRequest, actor: Actor | None) -> RemoveImagesReply:
        return await removing.remove(self, request, actor)

    async def prune(self, request: PruneImagesRequest, actor: Actor | None) -> RemoveImagesReply:
        await self.partials.clean(0)
        if request.build_cache:
            await remove_build_cache(self._settings, request.tmpdir)
        return await removing.prune(self, request, actor)

    async def mount(self, names: Sequence[str], actor: Actor | None, *, every: bool) -> MountImagesReply:
        return await mounting.mount(self, names, actor, every=every)

    async def unmount(
        self, names: Sequence[str], actor: Actor | None, *, every: bool, force: bool
    ) -> MountImagesReply:
        return await mounting.unmount(self, names, actor, every=every, force=force)

    async def in_thread(self, act: Callable[..., T], *arguments: Any) -> T:
        """What may wait for the locks of other engines."""
        return await trio.to_thread.run_sync(act, *arguments, limiter=self.limiter)

    def mount_count(self, id: str) -> int:
        """How often an image is mounted. Blocking."""
        return next((each.count for each in self.store.mounted_images() if each.image.id == id), 0)

    async def is_mounted(self, container: Container) -> bool:
        """Whether a container of another engine has its root filesystem mounted, as far as it says so."""
        counts = await self.in_thread(self.store.counts.read)
        return container.layer in counts and counts[container.layer].count > 0

    async def remove_external(self, id: str) -> None:
        """Drop the record and the layer of another engine's container."""
        await self.in_thread(self.store.remove_container, id)
        self.layers.sweep()


async def _no_containers(id: str, _actor: Actor | None) -> None:
    raise ImageInUse(f"cannot remove the container {id[:12]}", subject=id)


async def _nothing_leaves(_ids: Iterable[str]) -> None:
    pass


def _own(image: Image) -> Image:
    if image.read_only:
        raise StorageFailed(
            f"cannot change the image {image.id[:12]}: it is in '{image.store}', which is only read",
            subject=image.id,
        )
    return image
