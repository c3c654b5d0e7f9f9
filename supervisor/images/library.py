"""The images of an engine: what callers ask of them, in one place.

Reads are views of the store, taken in a thread; changes go through the ledger, which tells them. Nothing here holds
the loop, and nothing belongs to a caller: whoever goes away only stops waiting, but for transfers, which end with the
last one who wants them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from pyman.api.image import HistoryReply, InspectImagesReply, ListImagesReply
from pyman.errors import InvalidArgument, NoSuchImage, PymanError, StorageFailed
from pyman.names import EventStatus
from supervisor.images import inspecting, listing
from supervisor.images.answers import info_of
from supervisor.images.events import Ledger, Proof, event
from supervisor.images.names import local_candidates, normalized
from supervisor.images.view import HERE, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyman.api.event import Actor
    from pyman.api.image import ImageSummary, Platform, TreeReply
    from supervisor.images.names import Found
    from supervisor.images.view import View
    from supervisor.registry.reference import Reference
    from supervisor.state.database import Database
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["Images"]

THREADS = 8
"""That images take at the same time, apart from every other room's."""
T = TypeVar("T")


class Images:
    """One for an engine; the runtime makes it and sets the callbacks."""

    def __init__(self, store: Store, database: Database) -> None:
        self.store = store
        self.limiter = trio.CapacityLimiter(THREADS)
        self.ledger = Ledger(database, store, self.limiter)
        self.reader = Reader(store, self._candidates)
        self.is_external: Callable[[str], bool] = lambda _container: True
        """Whether a container of the store, by its id, is of another engine's making."""

    def _candidates(self, short: Reference) -> Sequence[Reference]:
        return local_candidates(short, alias=None, search=())

    async def recover(self, intents: Mapping[str, bytes]) -> None:
        """Before anything else is done with images."""
        await self.ledger.recover(intents)

    # -- reading ------------------------------------------------------------------------------------

    async def read(self, look: Callable[[View], T]) -> T:
        """What `look` makes of a view, in a thread."""
        return await trio.to_thread.run_sync(lambda: look(self.reader.view()), limiter=self.limiter)

    async def list(
        self, filters: Mapping[str, Sequence[str]], names: Sequence[str], *, every: bool
    ) -> ListImagesReply:
        """InvalidArgument, StorageFailed."""

        def look(view: View) -> list[ImageSummary]:
            return listing.listed(view, filters, names, self.is_external, intermediate=every)

        return ListImagesReply(images=await self.read(look))

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

    async def config_bytes(self, image: Image) -> bytes:
        """The configuration of an image, as it is kept. StorageFailed, NotSupported (a manifest list)."""

        def look(view: View) -> bytes:
            view.documents.config(image)
            return view.documents.raw(image, view.documents.config_key(image))

        return await self.read(look)

    async def inspect(self, names: Sequence[str]) -> InspectImagesReply:
        """An error in the reply for each name that cannot be told of."""

        def look(view: View) -> InspectImagesReply:
            images: list[dict[str, Any]] = []
            errors = []
            for name in names:
                try:
                    images.append(inspecting.document(view, view.find(name).image, ""))
                except PymanError as error:
                    errors.append(info_of(error, name))
            return InspectImagesReply(images=images, errors=errors)

        return await self.read(look)

    async def history(self, name: str) -> HistoryReply:
        return await self.read(
            lambda view: HistoryReply(layers=inspecting.history(view, view.find(name).image))
        )

    async def tree(self, name: str, *, whatrequires: bool) -> TreeReply:
        return await self.read(
            lambda view: inspecting.tree(view, view.find(name).image, whatrequires=whatrequires)
        )

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
        act = partial(self._rename, image.id, full_names, ())
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
            act = partial(self._rename, image.id, (), lost)
            await self.ledger.carry_out(Proof(image=image.id, lost=lost), events, act)

    def _rename(self, id: str, new: Sequence[str], lost: Sequence[str]) -> None:
        names = [name for name in self.store.image(id).names if name not in lost]
        self.store.set_names(id, [*names, *(name for name in new if name not in names)])


def _own(image: Image) -> Image:
    if image.read_only:
        raise StorageFailed(
            f"cannot change the image {image.id[:12]}: it is in '{image.store}', which is only read",
            subject=image.id,
        )
    return image
