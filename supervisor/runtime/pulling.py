"""The image of a container to be: found here, or brought here first, as the caller wishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.runtime.imaged import Chosen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyman.api.pull import Platform, Progress, PullWish
    from supervisor.images.view import View
    from supervisor.runtime.services import Services

__all__ = ["chosen"]

_POLICIES = ("always", "missing", "newer", "never")


async def chosen(
    services: Services, name: str, wish: PullWish, _tell: Callable[[Progress | str], Awaitable[None]]
) -> Chosen:
    """`_tell`: lines for people and the states of blobs, while the image is pulled. Cancelled: so is the pull, unless
    others wait for it. NoSuchImage, and what can go wrong with a registry."""
    policy = wish.policy or services.settings.engine.pull_policy
    if policy not in _POLICIES:
        raise InvalidArgument(f"cannot pull '{policy}'", hint=f"known are {', '.join(_POLICIES)}")
    return await services.images.read(lambda view: _found(view, name, wish.platform))


def _found(view: View, name: str, platform: Platform) -> Chosen:
    """By its name here, or by its id: then its first name is shown."""
    found = view.find(name, platform)
    image = found.image
    shown = next(iter(image.names), "") if found.by_id else found.name
    return Chosen(image.id, shown, view.digest(image), view.documents.config(image).process)
