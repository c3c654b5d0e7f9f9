"""Images that go: save, push, and manifest lists with their members.

Each call belongs to its caller: whoever goes away cancels it. What is told of it while it goes on is on the caller's
board; the event comes when all of it is there.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from pyman.errors import InvalidArgument, NoSuchImage, NotSupported, PymanError
from pyman.names import EventStatus
from supervisor.archive import jobs
from supervisor.images.events import Proof, event
from supervisor.images.lists import Lists
from supervisor.images.transfer import pushing, saving
from supervisor.images.transfer.arriving import path_of
from supervisor.images.transfer.artifacts import ArtifactSource
from supervisor.images.transfer.blobinfo import BlobInfo
from supervisor.images.transfer.list_pushing import check_variants, push_list
from supervisor.images.transfer.relaying import Relay
from supervisor.images.transfer.sending import Sender, outgoing
from supervisor.images.transfer.store_pushing import push_to_store
from supervisor.images.transfer.wishes import Wish, check_wish
from supervisor.images.transports import places as transports
from supervisor.images.transports.docker import RegistrySource
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from pyman.api.event import Actor
    from pyman.api.image import ManifestPushRequest, PushRequest, SaveRequest
    from pyman.api.pull import RegistryAccess
    from supervisor.images.deeds import Deed
    from supervisor.images.formats.manifests import Member
    from supervisor.images.library import Images
    from supervisor.images.lists import Kept
    from supervisor.images.names import Found
    from supervisor.images.transfer.arriving import Arriving
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transfer.sending import Outgoing, Receiver
    from supervisor.images.transports.places import Place
    from supervisor.images.transports.transport import RawManifest, Source
    from supervisor.registry.reference import Reference
    from supervisor.settings.layout import Layout
    from supervisor.storage.records import Image

__all__ = ["Leaving"]

T = TypeVar("T")


class Leaving:
    """One for an engine."""

    def __init__(self, images: Images, arriving: Arriving, layout: Layout) -> None:
        self._images = images
        self._arriving = arriving
        self._memory = BlobInfo(f"{layout.static}/blob-info.json")
        self.lists = Lists(images.store, images.find, self._remote, images.limiter)

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(act, limiter=self._images.limiter)

    async def _outgoing(self, image: Image) -> Outgoing:
        return await self._in_thread(partial(outgoing, self._images.store, image))

    def _sender(self, board: Board, destination: Receiver, wish: Wish) -> Sender:
        return Sender(
            destination,
            wish,
            pack=jobs.pack,
            memory=self._memory,
            spool_in=self._arriving.spool_in,
            board=board,
        )

    async def save(self, request: SaveRequest, fd: int, board: Board, actor: Actor | None) -> None:
        """`fd`: what an archive is written to; -1 for a directory. NoSuchImage, InvalidArgument, NotSupported,
        StorageFailed, DiskFull."""
        multi = request.multi_image_archive
        if multi is None:
            multi = self._images.engine.multi_image_archive
        saving.check(request, multi=multi)
        if request.format in saving.ARCHIVES and fd < 0:
            raise InvalidArgument("cannot save an archive: there is nothing to write it to")
        names = request.names if multi else request.names[:1]
        found = [await self._images.find(name) for name in names]
        chosen = saving.selected(found, () if multi else request.names[1:])
        images = [(each, await self._outgoing(each.found.image)) for each in chosen]
        path = request.path or path_of(fd)
        told = [event(EventStatus.SAVE, each.found.image.id, path, actor) for each in chosen]
        async with self._images.deeds.deed(*told) as deed:
            await saving.save(request, images, fd, partial(self._sender, board), deed)

    def _wish(self, request: PushRequest | ManifestPushRequest) -> Wish:
        """InvalidArgument: it is none that can be granted."""
        engine = self._images.engine
        wish = Wish(
            request.format,
            request.compression,
            request.compression_level,
            request.force_compression,
            usual=engine.compression_format,
            usual_level=engine.compression_level,
        )
        check_wish(wish)
        return wish

    async def push(self, request: PushRequest, fd: int, board: Board, actor: Actor | None) -> tuple[str, str]:
        """The id of the image, and the digest of the manifest that is there now. `fd`: an archive that the client has
        opened for it; -1: there is none. NoSuchImage, InvalidArgument; errors of the place."""
        wish = self._wish(request)
        found = await self._images.find(request.name, lists="prefer")
        text = request.destination or _own_name(found)
        if await self._images.read(lambda view: view.index(found.image)) is not None:
            return await self._push_list(
                request.name, text, wish, request.access, fd, board, actor, every=request.all
            )
        image = await self._outgoing(found.image)
        where = transports.parse(text)
        if where.transport == transports.STORAGE:
            spool_in = self._arriving.spool_in
            digest = await push_to_store(
                self._images, where, image, wish=wish, spool_in=spool_in, board=board, text=text, actor=actor
            )
            return image.id, digest
        tags = [] if found.by_id else [found.name]
        told = event(EventStatus.PUSH, found.image.id, text, actor)
        async with (
            self._images.deeds.deed(told) as deed,
            self._destination(where, tags, image, fd, request.access, board, deed) as destination,
        ):
            raw = await self._sender(board, destination, wish).send(image)
            await destination.finish()
        return found.image.id, raw.digest

    async def push_list(
        self, request: ManifestPushRequest, board: Board, actor: Actor | None
    ) -> tuple[str, str]:
        """The id of the list, and its digest there. As `push`; members that are neither here nor there are brought
        from where they were taken."""
        wish = self._wish(request)
        variants = request.add_compression
        if variants is None:
            usual = self._images.engine.add_compression if request.all else ()
            variants = [each for each in usual if each != "zstd" or wish.format != "v2s2"]
        check_variants(variants, wish, every=request.all)
        text = request.destination or request.name
        pushed = await self._push_list(
            request.name, text, wish, request.access, -1, board, actor, every=request.all, variants=variants
        )
        if request.remove_after:
            await self._remove(pushed[0], actor)
        return pushed

    async def _remove(self, id: str, actor: Actor | None) -> None:
        told = [event(EventStatus.REMOVE, id, id, actor)]
        store = self._images.store
        await self._images.ledger.carry_out(Proof(image=id, gone=True), told, partial(store.delete_image, id))
        await store.sweep()

    async def _push_list(
        self,
        name: str,
        text: str,
        wish: Wish,
        access: RegistryAccess,
        fd: int,
        board: Board,
        actor: Actor | None,
        *,
        every: bool,
        variants: Sequence[str] = (),
    ) -> tuple[str, str]:
        image, raw, kept = await self.lists.read(name)
        where = transports.parse(text)
        if where.transport == transports.DOCKER_ARCHIVE:
            raise NotSupported(f"cannot push a manifest list to '{text}'", hint="use oci-archive")
        if where.transport == transports.STORAGE:
            raise NotSupported(
                f"cannot push a manifest list to '{text}'",
                hint="push its images one by one; in this store, tag gives it another name",
            )
        told = event(EventStatus.PUSH, image.id, text, actor)
        async with (
            self._images.deeds.deed(told) as deed,
            self._destination(where, [], None, fd, access, board, deed) as destination,
        ):

            async def send_member(member: Member, wish: Wish) -> RawManifest | None:
                if not every:
                    return None
                return await self._send_member(member, kept, wish, destination, access, board)

            sent = await push_list(raw, send_member, destination, wish, variants)
            board.say("Writing manifest list to image destination")
            await destination.finish()
        return image.id, sent.digest

    async def _send_member(
        self,
        member: Member,
        kept: Kept,
        wish: Wish,
        destination: Receiver,
        access: RegistryAccess,
        board: Board,
    ) -> RawManifest:
        digest = member.blob.digest
        here = await self._in_thread(partial(self._images.store.images_with, digest=digest))
        own = [image for image in here if image.top_layer]
        if own:
            board.say(f"Copying image {digest}")
            sender = self._sender(board, destination, wish)
            return await sender.send(await self._outgoing(own[0]), member=True)
        relay = Relay(destination, wish, memory=self._memory, spool_in=self._arriving.spool_in, board=board)
        if digest in kept.artifacts.manifests:
            board.say(f"Copying artifact {digest}")
            artifact = ArtifactSource(kept.artifacts, digest)
            return await relay.pass_on(artifact, await artifact.manifest())
        where = kept.instances.get(digest, "")
        if not where or where.startswith(f"{transports.STORAGE}:"):
            raise NoSuchImage(
                f"cannot find the member {digest} of the manifest list here",
                subject=digest,
                hint="pull it, or take it out of the list",
            )
        board.say(f"Copying image {digest} from {where}")
        async with self._remote(where, access) as source:
            manifest = await source.manifest(digest)
            return await relay.pass_on(source, manifest)

    @asynccontextmanager
    async def _remote(self, name: str, access: RegistryAccess) -> AsyncIterator[Source]:
        """An image that is not of the store: by the name of a place, or a name in a registry, perhaps a short one."""
        if transports.has_transport(name) and not name.startswith("docker://"):
            async with self._arriving.source(name) as source:
                yield source
            return
        if name.startswith("docker://"):
            wanted = reference.parse(name.removeprefix("docker://")).tagged()
        else:
            wanted = (await self._images.registries.candidates(name)).references[0]
        await self._images.registries.permit(wanted)
        yield RegistrySource(self._images.registries, self._images.partials, wanted, access)

    @asynccontextmanager
    async def _destination(
        self,
        where: Place,
        tags: Sequence[str],
        image: Outgoing | None,
        fd: int,
        access: RegistryAccess,
        board: Board,
        deed: Deed,
    ) -> AsyncIterator[Receiver]:
        sources: Mapping[str, list[Reference]] = {}
        if where.transport == transports.REGISTRY and image is not None:
            domain = reference.parse(where.name).domain
            sources = await self._in_thread(partial(self._sources, image, domain))
        async with pushing.destination_for(
            where,
            tags=tags,
            fd=fd,
            registries=self._images.registries,
            memory=self._memory,
            deed=deed,
            access=access,
            sources=sources,
            retrying=lambda reason: board.say(f"Retrying: {reason}"),
        ) as destination:
            yield destination

    def _sources(self, image: Outgoing, domain: str) -> dict[str, list[Reference]]:
        """By the digest of a blob, repositories of the registry that an image here with the same layer came from."""
        wanted = {layer.id: layer.compressed_digest for layer in image.layers if layer.compressed_digest}
        found: dict[str, list[Reference]] = {}
        for other in self._images.store.images():
            names = [_parsed(name) for name in (*other.names, *other.names_history)]
            repositories = {name.bare() for name in names if name is not None and name.domain == domain}
            if not repositories:
                continue
            with suppress(PymanError):  # an image that another engine is removing
                for layer in self._images.store.chain(other.top_layer):
                    if digest := wanted.get(layer.id):
                        found.setdefault(digest, []).extend(repositories)
        return found


def _parsed(name: str) -> Reference | None:
    try:
        return reference.parse(name)
    except InvalidArgument:
        return None


def _own_name(found: Found) -> str:
    if found.by_id:
        raise InvalidArgument(
            f"cannot push the image '{found.name}': it is named by its id", hint="give a destination"
        )
    return found.name
