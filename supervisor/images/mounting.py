"""Images as directories: mounted read-only, counted, and the differences between two."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyman.api.image import MountedImage, MountImagesReply
from pyman.errors import InvalidArgument, PymanError
from pyman.names import EventStatus
from supervisor.images.answers import info_of
from supervisor.images.events import Proof, event
from supervisor.images.inspecting import repo_tags

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyman.api.event import Actor
    from supervisor.images.library import Images
    from supervisor.images.names import Found
    from supervisor.images.view import View
    from supervisor.storage.records import Image

__all__ = ["listed", "mount", "unmount"]


def _chosen(names: Sequence[str], every: bool, view: View) -> list[Found | PymanError]:
    if every:
        return [
            view.find(image.id, lists="keep")
            for image in view.images
            if image.top_layer and not image.read_only
        ]
    found: list[Found | PymanError] = []
    for name in names:
        try:
            found.append(view.find(name))
        except PymanError as error:
            found.append(error)
    return found


async def mount(
    images: Images, names: Sequence[str], actor: Actor | None, *, every: bool
) -> MountImagesReply:
    """Once more for each. Errors stand beside the names."""

    async def once(image: Image, name: str) -> str:
        count = await images.in_thread(images.mount_count, image.id)
        done = await images.ledger.carry_out(
            Proof(image=image.id, mounts=count + 1),
            [event(EventStatus.MOUNT, image.id, name, actor)],
            partial(images.store.mount_image, image.id),
        )
        return done.path

    if not names and not every:
        return await listed(images)
    return await _each(images, names, every, "mount", once)


async def unmount(
    images: Images, names: Sequence[str], actor: Actor | None, *, every: bool, force: bool
) -> MountImagesReply:
    """One mount of each, with `force` all of them. What is not mounted is passed over."""

    async def once(image: Image, name: str) -> str | None:
        count = await images.in_thread(images.mount_count, image.id)
        if not count:
            return None
        await images.ledger.carry_out(
            Proof(image=image.id, mounts=0 if force else count - 1),
            [event(EventStatus.UNMOUNT, image.id, name, actor)],
            partial(images.store.unmount_image, image.id, force=force),
        )
        return ""

    if not names and not every:
        raise InvalidArgument("cannot unmount images: give names, or all")
    return await _each(images, names, every, "unmount", once)


async def _each(
    images: Images,
    names: Sequence[str],
    every: bool,
    doing: str,
    act: Callable[[Image, str], Awaitable[str | None]],
) -> MountImagesReply:
    """`act`: the path where an image is now, empty: nowhere; None: there was nothing to do."""
    if names and every:
        raise InvalidArgument(f"cannot {doing} images: give names or all, not both")
    chosen = await images.read(partial(_chosen, names, every))
    asked = names or [found.name for found in chosen if not isinstance(found, PymanError)]
    reply: list[MountedImage] = []
    for name, found in zip(asked, chosen, strict=True):
        if isinstance(found, PymanError):
            reply.append(MountedImage("", "", [], name, info_of(found, name)))
            continue
        image = found.image
        try:
            path = await act(image, name)
            if path is not None:
                reply.append(MountedImage(image.id, path, repo_tags(image), name))
        except PymanError as error:
            reply.append(MountedImage(image.id, "", repo_tags(image), name, info_of(error, name)))
    return MountImagesReply(images=reply)


async def listed(images: Images) -> MountImagesReply:
    """All that are mounted, by whatever engine."""
    found = await images.in_thread(images.store.mounted_images)
    return MountImagesReply(
        images=[MountedImage(each.image.id, each.path, repo_tags(each.image)) for each in found]
    )
