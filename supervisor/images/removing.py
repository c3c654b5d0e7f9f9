"""Images removed: by name, all that fit, all that nothing uses. The rules are Podman's.

A name of an image that has several is only taken from it; by its id such an image goes with `force` alone. An image
that containers use stays; with `force` this engine's containers go first, and those that other engines have left
without anything mounted. What an image was built from goes with it, if it has no name and nothing else is built from
it. An image from which others are built loses its record and its names, while its layers stay: it counts as untagged.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pyman.api.event import Actor
from pyman.api.image import RemovedImage, RemoveImagesReply
from pyman.errors import ImageInUse, InvalidArgument, NoSuchImage, PymanError
from pyman.names import EventStatus
from supervisor.images import listing
from supervisor.images.answers import info_of
from supervisor.images.events import Proof, event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyman.api.container import ErrorInfo
    from pyman.api.image import PruneImagesRequest, RemoveImagesRequest
    from supervisor.images.library import Images
    from supervisor.images.view import View
    from supervisor.storage.records import Container, Image

__all__ = ["Removal", "prune", "remove"]


class _Report:
    """What has become of one image."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.untagged: list[str] = []
        self.deleted: list[str] = []
        self.size = 0

    def told(self) -> RemovedImage:
        return RemovedImage(self.id, self.untagged, self.deleted, self.size)


class Removal(msgspec.Struct, frozen=True):
    """How images are removed."""

    force: bool = False
    external: bool = False
    """Containers of other engines' making go with them."""
    no_prune: bool = False
    actor: Actor | None = None


async def remove(images: Images, request: RemoveImagesRequest, actor: Actor | None) -> RemoveImagesReply:
    """InvalidArgument: neither names nor `all`. What cannot be removed is an error of the reply."""
    if bool(request.names) == request.all:
        raise InvalidArgument(
            "cannot remove images: give names, or all"
            if not request.all
            else "cannot remove images: give names or all, not both"
        )
    how = Removal(request.force, no_prune=request.no_prune, actor=actor)
    chosen, errors = await images.read(partial(_chosen, request))
    reports: dict[str, _Report] = {}
    for id, names in chosen.items():
        for name in names:
            try:
                await _remove(images, id, name, how, reports)
            except PymanError as error:
                errors.append(info_of(error, name or id))
    return RemoveImagesReply([report.told() for report in reports.values()], errors)


def _chosen(request: RemoveImagesRequest, view: View) -> tuple[dict[str, list[str]], list[ErrorInfo]]:
    """Ids, each with the names under which it was asked for; an empty one: under none."""
    if request.all:
        return {
            image.id: [""]
            for image in view.images
            if not (image.read_only or (request.manifests_only and view.index(image) is None))
        }, []
    found: dict[str, list[str]] = {}
    errors: list[ErrorInfo] = []
    for name in request.names:
        try:
            there = view.find(name, lists="only" if request.manifests_only else "prefer")
        except NoSuchImage as error:
            if not request.ignore:
                errors.append(info_of(error, name))
        except PymanError as error:
            errors.append(info_of(error, name))
        else:
            found.setdefault(there.image.id, []).append(there.name)
    return found, errors


async def prune(images: Images, request: PruneImagesRequest, actor: Actor | None) -> RemoveImagesReply:
    """What nothing uses, until there is no more of it. InvalidArgument, and errors of a removal."""
    filters = {key: list(values) for key, values in request.filters.items()}
    filters.setdefault("readonly", ["false"])
    filters.setdefault("containers", ["external" if request.external else "false"])
    if not request.all:
        filters.setdefault("dangling", ["true"])
    how = Removal(external=request.external, actor=actor)
    reports: dict[str, _Report] = {}
    errors: list[ErrorInfo] = []
    tried: set[str] = set()
    await images.settled([container.id for container in await images.read(lambda view: view.containers)])
    while True:
        fitting = await images.read(partial(_fitting, images, filters))
        if not (fresh := [id for id in fitting if id not in tried]):
            return RemoveImagesReply([report.told() for report in reports.values()], errors)
        for id in fresh:
            tried.add(id)
            try:
                await _remove(images, id, "", how, reports)
            except PymanError as error:
                errors.append(info_of(error, id))


def _fitting(images: Images, filters: Mapping[str, Sequence[str]], view: View) -> list[str]:
    fits = listing.compile_filters(view, filters, images.is_external)
    return [image.id for image in view.images if fits(image) and not images.mounting(image.id)]


async def _remove(images: Images, id: str, name: str, how: Removal, reports: dict[str, _Report]) -> None:
    """`name`: under which it was asked for; empty: it is one of many. Gone already: nothing is done."""
    view = await images.read(lambda view: view)
    image = view.names.get(id)
    if image is None:
        return
    if image.read_only:
        raise ImageInUse(
            f"cannot remove the image {id[:12]}: it is in '{image.store}', which is only read", subject=id
        )
    report = reports.get(id) or _Report(id)
    if name and len(image.names) != 1:
        by_id = id.startswith(name.removeprefix("sha256:"))
        if by_id and len(image.names) > 1 and not how.force:
            raise ImageInUse(
                f"cannot remove the image {id[:12]} by its id: it has the names {', '.join(image.names)}",
                subject=id,
                hint="use force, or remove its names",
            )
        if not by_id:
            await images.untag(id, [name], how.actor)
            report.untagged.append(name)
            reports[id] = report
            if len(image.names) > 1:
                return
            image = msgspec.structs.replace(image, names=())
    # One that has just ended and removed itself still has its layer.
    await images.settled([*(container.id for container in view.users(image)), *images.mounting(id)])
    await _free(images, image, await images.read(lambda view: view.users(image)), how)
    # Another view: what was removed for it may have been built upon it.
    has_children, parent = await images.read(lambda view: (id in view.children, view.parent(image)))
    await _delete(images, image, report, how.actor)
    if not has_children:
        report.deleted.append(id)
    reports[id] = report
    if parent is not None and not how.no_prune and await images.read(lambda view: _prunable(view, parent)):
        above = _Report(parent.id)
        await _remove(images, parent.id, "", how, inner := {parent.id: above})
        for each in inner.values():
            report.deleted += each.deleted
            report.size += each.size


def _prunable(view: View, parent: Image) -> bool:
    there = view.names.get(parent.id)
    return there is not None and not there.read_only and view.dangling(there) and not view.users(there)


async def _free(images: Images, image: Image, users: Sequence[Container], how: Removal) -> None:
    """Remove the containers that use it, as far as that is wished. ImageInUse names those that stay."""
    staying: list[str] = []
    for id in images.mounting(image.id):
        if how.force:
            await images.remove_container(id, how.actor)
        else:
            staying.append(images.name_of(id))
    for container in users:
        external = images.is_external(container.id)
        if how.force and not external:
            await images.remove_container(container.id, how.actor)
        elif (how.force or how.external) and external and not await images.is_mounted(container):
            await images.remove_external(container.id)
        else:
            name = images.name_of(container.id) or (*container.names, container.id[:12])[0]
            staying.append(f"{name} of another engine" if external else name)
    if staying:
        raise ImageInUse(
            f"cannot remove the image {image.id[:12]}: {len(staying)} containers use it: {', '.join(staying)}"
            if len(staying) > 1
            else f"cannot remove the image {image.id[:12]}: the container {staying[0]} uses it",
            subject=image.id,
            hint="remove them first" if how.force else "use force, or remove them first",
        )


async def _delete(images: Images, image: Image, report: _Report, actor: Actor | None) -> None:
    events = [event(EventStatus.UNTAG, image.id, name, actor) for name in image.names]
    events.append(event(EventStatus.REMOVE, image.id, (*image.names, "")[0], actor))
    act = partial(images.store.delete_image, image.id)
    removed = await images.ledger.carry_out(Proof(image=image.id, gone=True), events, act)
    report.untagged += image.names
    report.size += sum(max(layer.diff_size, 0) for layer in removed.layers)
    report.size += sum(image.big_data_sizes.values())
    images.layers.sweep()
