"""The image of a container to be: found here, or brought here first, as the caller wishes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pyman.api.pull import Platform
from pyman.errors import NoSuchImage
from supervisor.runtime.creation.imaged import Chosen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyman.api.event import Actor
    from pyman.api.pull import Progress, PullWish
    from supervisor.images.names import Found
    from supervisor.images.view import View
    from supervisor.runtime.services import Services

__all__ = ["chosen"]

_LOCAL = ("missing", "never")


async def chosen(
    services: Services,
    name: str,
    wish: PullWish,
    actor: Actor | None,
    tell: Callable[[Progress | str], Awaitable[None]],
) -> Chosen:
    """`tell`: lines for people and the states of blobs, while the image is pulled. Cancelled: so is the pull, unless
    others wait for it. NoSuchImage, and what can go wrong with a registry."""
    policy = wish.policy or services.settings.engine.pull_policy
    if policy in _LOCAL and wish.platform == Platform():
        # Nearly always it is there: one look will do.
        with suppress(NoSuchImage):
            return await services.images.read(lambda view: _chosen(view, view.find(name)))
    found = await services.images.ensure(
        name,
        policy=policy,
        platform=wish.platform,
        access=wish.access,
        actor=actor,
        report=None if wish.quiet else tell,
        ask=wish.ask,
        alias=wish.alias,
    )
    return await services.images.read(lambda view: _chosen(view, found))


def _chosen(view: View, found: Found) -> Chosen:
    """An image that was found by its id is shown by its first name."""
    image = found.image
    shown = next(iter(image.names), "") if found.by_id else found.name
    return Chosen(image.id, shown, view.digest(image), view.documents.config(image).process)
