"""Images from registries: what a name may mean there, when it is asked for at all, and the pull that many share.

As in Podman: a name that is here already is pulled under its full name; a short one is tried as registries.conf has
it, one place after the other. A platform that is asked for is looked up anew, as images say wrong things of theirs.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pyman.api.pull import Platform, RegistryAccess
from pyman.errors import AmbiguousId, EngineStopped, InvalidArgument, NoSuchImage, PymanError, RegistryFailed
from pyman.names import EventStatus
from supervisor.images.apart import apart
from supervisor.images.events import event
from supervisor.images.formats import platforms
from supervisor.images.formats.manifests import Index, decode
from supervisor.images.names import Found, no_such_image, stripped
from supervisor.images.transfer.progress import Board
from supervisor.images.transfer.sharing import Sharing
from supervisor.images.transports.docker import RegistrySource
from supervisor.images.view import HERE
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import trio

    from pyman.api.event import Actor
    from supervisor.images.library import Images
    from supervisor.images.transfer.layers import Layers
    from supervisor.images.transfer.partials import Partials
    from supervisor.images.transfer.sharing import Work
    from supervisor.images.transfer.storing import Storing
    from supervisor.images.transports.transport import RawManifest
    from supervisor.registry.client import Registries
    from supervisor.registry.reference import Reference

__all__ = ["POLICIES", "Pulled", "Pulling", "Wish"]

_ID = re.compile(r"[0-9a-f]{64}")
POLICIES = ("always", "missing", "newer", "never")


class Wish(msgspec.Struct, frozen=True):
    """What is pulled, and how."""

    name: str
    """A name, in full or short, perhaps with `docker://` in front."""
    policy: str = "always"
    all_tags: bool = False
    platform: Platform = HERE
    access: RegistryAccess = RegistryAccess()
    ask: bool = False
    """Somebody is there who can choose what a short name means."""
    alias: str = ""
    """The short name for which the name was chosen: remembered when the image is here."""


class Pulled(msgspec.Struct, frozen=True):
    """What is here now."""

    found: tuple[Found, ...]

    @property
    def ids(self) -> list[str]:
        return [each.image.id for each in self.found]

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.found]


class Pulling:
    """One for an engine. `nursery`: where pulls live, longer than their callers."""

    def __init__(
        self,
        images: Images,
        registries: Registries,
        partials: Partials,
        layers: Layers,
        storing: Storing,
        nursery: trio.Nursery,
    ) -> None:
        self._images = images
        self._registries = registries
        self._partials = partials
        self._layers = layers
        self._storing = storing
        self._works: Sharing[Pulled] = Sharing(nursery)

    @asynccontextmanager
    async def lease(
        self, wish: Wish, actor: Actor | None
    ) -> AsyncGenerator[tuple[Board, Work[Pulled]], None]:
        """The pull that was asked for, and what is told of it. It ends when nobody holds it."""
        fresh = Board()
        make = partial(self._run, wish, fresh, actor)
        async with self._works.lease(wish, make, fresh) as work:
            yield work.about, work

    async def _run(self, wish: Wish, board: Board, actor: Actor | None) -> Pulled:
        try:
            pulled = await self._pull(wish, board, actor)
            if wish.alias:
                await self._registries.record_alias(wish.alias, reference.parse(_name_of(wish)))
            return pulled
        except PymanError as error:
            if wish.policy != "never" and not (wish.ask and isinstance(error, AmbiguousId)):
                told = event(EventStatus.PULL_ERROR, "", wish.name, actor, {"error": str(error)})
                await self._images.ledger.tell(told)
            raise
        finally:
            board.close()

    async def _pull(self, wish: Wish, board: Board, actor: Actor | None) -> Pulled:
        name = _name_of(wish)
        if wish.alias:
            _check_alias(wish)
        if not wish.all_tags:
            return Pulled((await self._pull_one(name, wish, board, actor),))
        repository = (await self._registries.candidates(name)).references[0].bare()
        tags = await self._registries.tags(repository, wish.access)
        names = [str(repository.with_tag(tag)) for tag in tags]
        return Pulled(tuple([await self._pull_one(each, wish, board, actor) for each in names]))

    async def _pull_one(self, name: str, wish: Wish, board: Board, actor: Actor | None) -> Found:
        """NoSuchImage, SignatureRefused, what registries and the store raise."""
        local = await self._local(name, wish.platform)
        policy = "newer" if wish.platform != HERE and wish.policy == "missing" else wish.policy
        found = _settled(name, local, policy)
        if found is not None:
            return found
        fallback = local if policy == "newer" else None
        full = name if local is None or wish.platform != HERE else local.name
        try:
            candidates = await self._registries.candidates(full)
            candidates.refuse_ambiguous(ask=wish.ask)
        except (AmbiguousId, InvalidArgument):
            if fallback is not None:
                return fallback
            raise
        if candidates.description:
            board.say(candidates.description)
        errors: list[PymanError] = []
        for candidate in candidates.references:
            try:
                found = await self._try(stripped(candidate), fallback, wish, board, actor)
            except EngineStopped:
                raise
            except PymanError as error:
                errors.append(error)
            else:
                if found is not None:
                    return found
        if fallback is not None:
            return fallback
        raise _joined(name, errors)

    async def _local(self, name: str, platform: Platform) -> Found | None:
        try:
            return await self._images.find(name, platform)
        except (NoSuchImage, AmbiguousId, InvalidArgument):
            return None

    async def _try(
        self, wanted: Reference, former: Found | None, wish: Wish, board: Board, actor: Actor | None
    ) -> Found | None:
        """None: it is what is here already."""
        await self._registries.permit(wanted)
        source = RegistrySource(self._registries, self._partials, wanted, wish.access)
        source.retrying = self._layers.retrying
        if former is None:
            board.say(f"Trying to pull {wanted}...")
        raw = await source.manifest()
        chosen, top = await self._choose(source, raw, wish.platform)
        if former is not None:
            if chosen.digest in former.image.digests:
                return None
            board.say(f"Trying to pull {wanted}...")
        stored = await self._storing.store_image(
            source,
            chosen,
            top=top,
            names=(str(wanted),),
            board=board,
            status=EventStatus.PULL,
            event_name=wish.name,
            actor=actor,
        )
        if not platforms.matches(stored.config, wish.platform):
            there = stored.config
            has = platforms.spoken(Platform(there.os, there.architecture, there.variant or ""))
            wants = platforms.spoken(platforms.wanted(wish.platform)[0])
            board.say(f"WARNING: image platform ({has}) does not match the expected platform ({wants})")
        return Found(stored.image, str(wanted))

    async def _choose(
        self, source: RegistrySource, raw: RawManifest, platform: Platform
    ) -> tuple[RawManifest, RawManifest | None]:
        """The manifest of the image, and the list that names it."""
        parsed = await apart(len(raw.data), lambda: decode(raw))
        if not isinstance(parsed, Index):
            return raw, None
        member = platforms.choose(parsed, platform, source.name)
        return await source.manifest(member.blob.digest), raw


def _settled(name: str, local: Found | None, policy: str) -> Found | None:
    """What is here, where no registry is to be asked. NoSuchImage, InvalidArgument."""
    if _ID.fullmatch(name.removeprefix("sha256:")) or (local is not None and local.by_id):
        if local is not None and policy == "always":
            raise InvalidArgument(
                f"cannot pull '{name}': it is the id of an image that is here", subject=name
            )
    elif policy in ("always", "newer") or (policy == "missing" and local is None):
        return None
    if local is None:
        raise no_such_image(name)
    return local


def _name_of(wish: Wish) -> str:
    if wish.policy not in POLICIES:
        raise InvalidArgument(
            f"cannot pull by the policy '{wish.policy}'",
            subject=wish.name,
            hint=f"known are {', '.join(POLICIES)}",
        )
    if wish.name.startswith("docker://"):
        return str(reference.parse(wish.name.removeprefix("docker://")).tagged())
    return wish.name


def _check_alias(wish: Wish) -> None:
    short = reference.parse_short(wish.alias)
    if short.domain or short != short.bare():
        raise InvalidArgument(
            f"cannot remember '{wish.alias}' as an alias: it is no short name without a tag",
            subject=wish.alias,
        )


def _joined(name: str, errors: list[PymanError]) -> PymanError:
    """One error of those that the candidates have met."""
    if len(errors) == 1:
        return errors[0]
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else RegistryFailed
    shown = "; ".join(str(error) for error in errors)
    return kind(f"cannot pull '{name}' from any of {len(errors)} places: {shown}", subject=name)
