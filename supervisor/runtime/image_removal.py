"""An image that goes with its container (`run --rmi`).

What is to be done is recorded in the step in which the container is: a supervisor that is killed then leaves it to the next
one. It is Podman's rule: the name under which the image was asked for is taken from it, and without another name it goes,
unless something else uses it. A name that has been given to another image meanwhile stays.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.api.event import Actor
from pyman.api.image import RemoveImagesRequest
from pyman.errors import NoSuchImage, PymanError
from supervisor.logging import log
from supervisor.state.changes import DropIntent, PutIntent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.images.view import View
    from supervisor.runtime.answers import Answer
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["PREFIX", "begin", "intent", "resume", "why_it_stays"]

PREFIX = "rmi-"
"""Of the intents' keys."""


class _Intent(msgspec.Struct, frozen=True):
    id: str
    """Of the image."""
    name: str
    """Under which it was asked for; empty: by its id."""
    actor: Actor | None = None


def intent(container: Container, actor: Actor | None) -> PutIntent:
    """To be committed with the end of the container."""
    image = container.definition.image
    body = _Intent(image.id, image.name, actor)
    return PutIntent(f"{PREFIX}{container.id}", msgspec.json.encode(body))


def begin(services: Services, wish: PutIntent) -> Answer[str]:
    """Why the image stays; empty: it is gone."""
    return services.spawn(partial(_carry_out, services, wish.id, wish.body))


def resume(services: Services, intents: Mapping[str, bytes]) -> None:
    """What an earlier supervisor has left."""
    for key, body in intents.items():
        if key.startswith(PREFIX):
            services.spawn(partial(_carry_out, services, key, body))


async def why_it_stays(services: Services, container: Container) -> str:
    """Once it is decided; empty: it is gone, or nobody knows within the time for a call."""
    with trio.move_on_after(services.settings.pyman.call_deadline):
        await container.until(lambda: container.removed or None)
        if container.image_removal is not None:
            return await container.image_removal.get()
    return ""


async def _carry_out(services: Services, key: str, body: bytes) -> str:
    try:
        stays = await _remove(services, msgspec.json.decode(body, type=_Intent))
    except PymanError as error:
        stays = error.message
    if stays:
        log.warning("an image stays though its container was to take it along", reason=stays)
    await services.database.commit([DropIntent(key)])
    return stays


async def _remove(services: Services, wish: _Intent) -> str:
    images = services.images
    if not await images.read(partial(_is_still, wish)):
        return ""
    request = RemoveImagesRequest(names=[wish.name or wish.id], ignore=True)
    reply = await images.remove(request, wish.actor)
    return reply.errors[0].message if reply.errors else ""


def _is_still(wish: _Intent, view: View) -> bool:
    """The name is that image's."""
    try:
        return view.find(wish.name or wish.id).image.id == wish.id
    except NoSuchImage:
        return False
