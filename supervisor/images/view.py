"""The images of a store at one moment, with what they are of each other: names, layers, parents, members of lists.

A view is made of records that were read together; it is good until a writer, of whatever engine, has changed them, and
making one that nobody has changed costs microseconds. What images say of themselves is read once: documents are known
by their digests, which never come to mean something else.

An image that is damaged, or half gone because another engine removes it, is one of which less is known: it never
hides the others. Everything here blocks for as long as a disk takes and is called in a thread.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from pyman.api.image import Platform
from pyman.errors import InvalidArgument, NoSuchImage, NotSupported, PymanError
from supervisor.images.formats import platforms
from supervisor.images.formats.config import decode_config
from supervisor.images.formats.manifests import Index, decode
from supervisor.images.names import Found, Names
from supervisor.images.transports.transport import RawManifest
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.images.formats.config import History, ImageConfig
    from supervisor.images.formats.manifests import Manifest
    from supervisor.images.names import Candidates
    from supervisor.storage.records import Container, Image, Layer
    from supervisor.storage.store import Store

__all__ = ["HERE", "MANIFEST_KEY", "Documents", "Reader", "View", "repo_digests"]

MANIFEST_KEY = "manifest"
HERE = Platform()
"""No wish: this machine, and an image that is for another one is taken all the same."""
_D = TypeVar("_D")

_DOCUMENTS = 8192
"""Decoded documents that are kept, of both kinds together."""


class Documents:
    """Configurations and manifests of the store's images, decoded, by image and digest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._known: dict[tuple[str, str], Any] = {}

    def raw(self, image: Image, key: str) -> bytes:
        """StorageFailed."""
        return self._store.big_data(image, key)

    def manifest(self, image: Image) -> Manifest | Index:
        """Errors of `decode`; StorageFailed."""
        digest = image.big_data_digests.get(MANIFEST_KEY, "")
        return self._once(
            ("manifest", digest), lambda: decode(RawManifest(self.raw(image, MANIFEST_KEY), ""))
        )

    def config_key(self, image: Image) -> str:
        """The digest of its configuration, under which that is kept; empty: a manifest list has none. Errors of
        `decode`; StorageFailed."""
        usual = f"sha256:{image.id}"
        if usual in image.big_data_digests:
            return usual
        manifest = self.manifest(image)
        return "" if isinstance(manifest, Index) else manifest.config.digest

    def config(self, image: Image) -> ImageConfig:
        """NotSupported: of a manifest list. ArchiveRefused, StorageFailed."""
        key = self.config_key(image)
        if not key:
            raise NotSupported(f"cannot use {image.id[:12]} as an image: it is a manifest list")
        return self._once(("config", key), lambda: decode_config(self.raw(image, key), image.id[:12]))

    def _once(self, key: tuple[str, str], make: Callable[[], _D]) -> _D:
        with self._lock:
            if key[1] and key in self._known:
                return cast("_D", self._known[key])
        made = make()
        with self._lock:
            while len(self._known) >= _DOCUMENTS:
                del self._known[next(iter(self._known))]
            self._known[key] = made
        return made


class View:
    """Made by `Reader.view`."""

    def __init__(
        self,
        images: Sequence[Image],
        layers: Sequence[Layer],
        containers: Sequence[Container],
        documents: Documents,
        candidates: Candidates,
    ) -> None:
        self.images = images
        self.layer_list = layers
        self.containers = containers
        self.documents = documents
        self.names = Names(images, candidates)
        self._parents: dict[str, Image | None] = {}
        self.told: dict[str, Any] = {}
        """What was made of its images already, by id: good as long as the view is."""

    # -- names --------------------------------------------------------------------------------------

    def find(self, text: str, platform: Platform = HERE, *, lists: str = "member") -> Found:
        """The image that a name means. `lists`: what it is of a manifest list: its `member` for the platform (or for
        this machine); `keep`: the list; `prefer`: the member, else the list; `only`: it must be a list.

        An image that was not found by its id and is not for the `platform`, if one is asked for, is none. NoSuchImage,
        AmbiguousId, InvalidArgument.
        """
        found = self.names.find(text)
        index = self.index(found.image)
        if lists == "only" and index is None:
            raise InvalidArgument(f"cannot use '{text}' as a manifest list: it is an image", subject=text)
        if index is not None and lists in ("member", "prefer"):
            try:
                found = Found(self.instance(found, index, platform), found.name)
            except NoSuchImage:
                if lists == "member":
                    raise
                return found
        elif index is not None:
            return found
        asked = platform != HERE
        if asked and not found.by_id and not self._is_for(found.image, platform):
            raise NoSuchImage(
                f"cannot find the image '{text}' for {platforms.spoken(platforms.wanted(platform)[0])} here",
                subject=text,
            )
        return found

    def instance(self, found: Found, index: Index, platform: Platform) -> Image:
        """The member of a list that is here. NoSuchImage."""
        try:
            member = platforms.choose(index, platform, found.name)
        except NotSupported as error:
            raise NoSuchImage(error.message, subject=error.subject, hint=error.hint) from None
        images = self.names.with_digest(member.blob.digest)
        if not images:
            raise NoSuchImage(
                f"cannot find the member {member.blob.digest} of the manifest list '{found.name}' here",
                subject=found.name,
            )
        return images[0]

    def _is_for(self, image: Image, platform: Platform) -> bool:
        config = self.config(image)
        return config is None or platforms.matches(config, platform)

    # -- documents ----------------------------------------------------------------------------------

    def config(self, image: Image) -> ImageConfig | None:
        """None: it has none, or it cannot be read."""
        try:
            return self.documents.config(image)
        except PymanError:
            return None

    def index(self, image: Image) -> Index | None:
        """The manifest list that it is; None: it is none."""
        if image.top_layer:
            return None
        try:
            found = self.documents.manifest(image)
        except PymanError:
            return None
        return found if isinstance(found, Index) else None

    def digest(self, image: Image) -> str:
        return image.digests[0] if image.digests else ""

    # -- layers -------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> Mapping[str, Layer]:
        return {layer.id: layer for layer in self.layer_list}

    @cached_property
    def above(self) -> Mapping[str, list[Layer]]:
        """By a layer's id, those directly upon it."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layer_list:
            found.setdefault(layer.parent, []).append(layer)
        return found

    @cached_property
    def ending_at(self) -> Mapping[str, list[Image]]:
        """By a layer's id, the images whose last one it is; by an empty one, images without layers that are no lists."""
        found: dict[str, list[Image]] = {}
        for image in self.images:
            if image.top_layer or self.index(image) is None:
                found.setdefault(image.top_layer, []).append(image)
        return found

    def chain(self, image: Image) -> list[Layer]:
        """Its layers, topmost first, as far as they are there."""
        return self.below(image.top_layer)

    def below(self, id: str) -> list[Layer]:
        found: list[Layer] = []
        while (layer := self.layers.get(id)) is not None and len(found) <= len(self.layers):
            found.append(layer)
            id = layer.parent
        return found

    def layers_of(self, image: Image) -> list[Layer]:
        """Each once, with those that were made for user namespaces."""
        found = {layer.id: layer for layer in self.chain(image)}
        for mapped in image.mapped_layers:
            found.update({layer.id: layer for layer in self.below(mapped)})
        return [*found.values()]

    def size(self, image: Image) -> int:
        """Bytes: of the uncompressed archives of its layers, and of its documents."""
        layers = sum(max(layer.diff_size, 0) for layer in self.layers_of(image))
        return layers + sum(image.big_data_sizes.values())

    @cached_property
    def _uses(self) -> Mapping[str, int]:
        """By a layer's id, how many images have it."""
        found: dict[str, int] = {}
        for image in self.images:
            for layer in self.chain(image):
                found[layer.id] = found.get(layer.id, 0) + 1
        return found

    def shared_size(self, image: Image) -> int:
        """Bytes of the layers that other images have as well."""
        return sum(max(layer.diff_size, 0) for layer in self.chain(image) if self._uses[layer.id] > 1)

    # -- relations ----------------------------------------------------------------------------------

    def parent(self, image: Image) -> Image | None:
        """The image that it was built from, if that is here."""
        if image.id not in self._parents:
            self._parents[image.id] = self._find_parent(image)
        return self._parents[image.id]

    def _find_parent(self, image: Image) -> Image | None:
        child = self.config(image)
        if child is None:
            return None
        candidates = list(self.ending_at.get(image.top_layer, ()))
        layer = self.layers.get(image.top_layer)
        if layer is not None and layer.parent:
            candidates += self.ending_at.get(layer.parent, ())
        for other in candidates:
            config = self.config(other) if other.id != image.id else None
            if config is not None and _descends(config, child):
                return other
        return None

    @cached_property
    def children(self) -> Mapping[str, list[Image]]:
        """By an image's id, those built from it."""
        found: dict[str, list[Image]] = {}
        for image in self.images:
            parent = self.parent(image)
            if parent is not None:
                found.setdefault(parent.id, []).append(image)
        return found

    @cached_property
    def members(self) -> frozenset[str]:
        """Digests of what manifest lists name."""
        indexes = [self.index(image) for image in self.images]
        return frozenset(
            member.blob.digest for index in indexes if index is not None for member in index.members
        )

    def intermediate(self, image: Image) -> bool:
        """Without a name, and others are built from it."""
        return not image.names and image.id in self.children

    def dangling(self, image: Image) -> bool:
        """Without a name, and of no use to others."""
        return not (image.names or image.id in self.children or self.digest(image) in self.members)

    @cached_property
    def _users(self) -> Mapping[str, list[Container]]:
        found: dict[str, list[Container]] = {}
        for container in self.containers:
            found.setdefault(container.image, []).append(container)
        return found

    def users(self, image: Image) -> Sequence[Container]:
        """Containers made of it, of every engine."""
        return self._users.get(image.id, ())


def _descends(parent: ImageConfig, child: ImageConfig) -> bool:
    """The child has the parent's layers, its history, and one more step."""
    above, below = child.diff_ids, parent.diff_ids
    steps, former = child.steps, parent.steps
    return (
        len(steps) == len(former) + 1
        and above[: len(below)] == below
        and all(_same(a, b) for a, b in zip(former, steps, strict=False))
    )


def _same(a: History, b: History) -> bool:
    if a == b:
        return True
    fields = ("created", "created_by", "author", "comment", "empty_layer")
    return all((getattr(a, field) or None) == (getattr(b, field) or None) for field in fields)


def repo_digests(image: Image) -> list[str]:
    """`REPOSITORY@DIGEST` for each of its names and digests, sorted."""
    repositories = {_repository(name) for name in image.names} - {""}
    return sorted(f"{repository}@{digest}" for repository in repositories for digest in image.digests)


@lru_cache(_DOCUMENTS)
def _repository(name: str) -> str:
    try:
        return reference.parse(name).name
    except InvalidArgument:
        return ""


class Reader:
    """Makes views. One for an engine; in any thread."""

    def __init__(self, store: Store, candidates: Candidates) -> None:
        self._store = store
        self._candidates = candidates
        self.documents = Documents(store)
        self._last: View | None = None

    def view(self) -> View:
        """StorageFailed."""
        # In this order: what is added is added as layer, image, container; a view may have more than is used.
        containers, images, layers = self._store.containers(), self._store.images(), self._store.layers()
        last = self._last
        if (
            last is not None
            and last.images == images
            and last.layer_list == layers
            and last.containers == containers
        ):
            return last
        self._last = view = View(images, layers, containers, self.documents, self._candidates)
        return view

    def forget(self) -> None:
        """The registries that short names are looked for in have changed."""
        self._last = None


def replaced_names(image: Image, names: Sequence[str]) -> Image:
    """The record as it is shown where a query has asked for some of its names."""
    return msgspec.structs.replace(image, names=tuple(names))
