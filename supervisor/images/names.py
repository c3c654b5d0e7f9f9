"""Which image a name means: an id, the beginning of one, a name in any of its forms, a digest.

The order is that of Podman: what is clearly an id; then, for a short name, `localhost/`, an alias and the registries
that are searched; then docker.io; then the beginning of an id; and at last any image whose name ends so. Pure
functions of the images that there are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import AmbiguousId, InvalidArgument, NoSuchImage
from supervisor.registry import reference
from supervisor.registry.reference import Reference
from supervisor.storage.records import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


__all__ = ["Found", "Names", "local_candidates", "no_such_image", "normalized", "stripped"]

_ID = re.compile(r"[0-9a-f]{64}")
_ID_BEGINNING = re.compile(r"[0-9a-f]{1,64}")
_STORE = "containers-storage:"
_SHOWN = 10
"""Ids that the error about an ambiguous one names."""

if TYPE_CHECKING:
    Candidates = Callable[[Reference], Sequence[Reference]]
    """The full names that a short one may stand for, in order, before docker.io."""


class Found(msgspec.Struct, frozen=True):
    """An image, and the name under which it was found: a full one, or what was asked for if that is an id."""

    image: Image
    name: str

    @property
    def by_id(self) -> bool:
        return self.image.id.startswith(self.name.removeprefix("sha256:"))


def no_such_image(text: str) -> NoSuchImage:
    return NoSuchImage(f"cannot find the image '{text}': there is none of that name or id here", subject=text)


def stripped(found: Reference) -> Reference:
    """Of a name with tag and digest the digest counts alone."""
    return found.with_digest(found.digest) if found.tag and found.digest else found


def normalized(text: str) -> Reference:
    """The full name that an image is given: without a registry it is of `localhost`, without a tag `latest`.
    InvalidArgument."""
    if text.startswith("sha256:"):
        raise InvalidArgument(f"cannot use '{text}' as the name of an image: it is a digest", subject=text)
    short = reference.parse_short(text)
    full = reference.parse(text if short.domain else f"localhost/{text}")
    return stripped(full).tagged()


def local_candidates(short: Reference, *, alias: Reference | None, search: Iterable[str]) -> list[Reference]:
    """What a short name may stand for here: `alias` (without a tag), `localhost/`, the registries that are searched."""
    found = [] if alias is None else [Reference(alias.domain, alias.path, short.tag, short.digest)]
    found += [reference.parse(f"{domain}/{short}") for domain in ("localhost", *search)]
    return [each.tagged() for each in found]


class Names:
    """The images as they were at one moment, by what they are called."""

    def __init__(self, images: Sequence[Image], candidates: Candidates) -> None:
        """`images`: those of the engine's own store before those of additional ones."""
        self._candidates = candidates
        self._by_id: dict[str, Image] = {}
        self._by_name: dict[str, Image] = {}
        self._by_digest: dict[str, list[Image]] = {}
        for image in images:
            if image.id in self._by_id:
                continue
            self._by_id[image.id] = image
            for name in image.names:
                self._by_name.setdefault(name, image)
            for digest in image.digests:
                self._by_digest.setdefault(digest, []).append(image)

    def get(self, id: str) -> Image | None:
        return self._by_id.get(id)

    def named(self, name: str) -> Image | None:
        """Whose full name it is."""
        return self._by_name.get(name)

    def with_digest(self, digest: str) -> list[Image]:
        return self._by_digest.get(digest, [])

    def find(self, text: str) -> Found:
        """NoSuchImage, AmbiguousId, InvalidArgument (it can be no name)."""
        text = text.removeprefix(_STORE)
        whole = text.removeprefix("sha256:")
        if _ID.fullmatch(whole):
            image = self._by_id.get(whole)
            if image is None:
                raise no_such_image(text)
            return Found(image, text)
        if whole != text:
            raise InvalidArgument(f"cannot use '{text}' as a digest: it has not 64 digits", subject=text)
        short = stripped(self._parsed(text))
        found = self._by_candidates(text, short) or self._by_beginning(text) or self._by_end(short)
        if found is None:
            raise no_such_image(text)
        return found

    def _parsed(self, text: str) -> Reference:
        try:
            return reference.parse_short(text)
        except InvalidArgument:
            # Capitals, for one: whatever it is, no image here is called so.
            if not text or text.strip() != text:
                raise
            raise no_such_image(text) from None

    def _by_candidates(self, text: str, short: Reference) -> Found | None:
        candidates = [] if short.domain else list(self._candidates(short))
        for candidate in (*candidates, stripped(reference.parse(text)).tagged()):
            image = self._by_name.get(str(candidate)) or self._of_repository(candidate)
            if image is not None:
                return Found(image, str(candidate))
        return None

    def _of_repository(self, wanted: Reference) -> Image | None:
        """One with that digest and any name of the same repository."""
        if not wanted.digest:
            return None
        for image in self.with_digest(wanted.digest):
            if any(name == wanted.name for name in map(_repository, image.names)):
                return image
        return None

    def _by_beginning(self, text: str) -> Found | None:
        if not _ID_BEGINNING.fullmatch(text):
            return None
        fitting = [id for id in self._by_id if id.startswith(text)]
        if len(fitting) > 1:
            shown = ", ".join(sorted(id[:12] for id in fitting)[:_SHOWN])
            raise AmbiguousId(
                f"cannot tell which image '{text}' is: {len(fitting)} ids begin so", subject=text, hint=shown
            )
        return Found(self._by_id[fitting[0]], text) if fitting else None

    def _by_end(self, short: Reference) -> Found | None:
        """Any image whose name ends like this one: `org/app:1` for `registry.example/org/app:1`."""
        if short.domain:
            return None
        wanted = short.tagged()
        for name, image in self._by_name.items():
            there = _parse(name)
            if there is None or (wanted.tag and there.tag != wanted.tag):
                continue
            if there.name != wanted.path and not there.name.endswith(f"/{wanted.path}"):
                continue
            if not wanted.digest:
                return Found(image, name)
            if wanted.digest in image.digests:
                return Found(image, str(there.with_digest(wanted.digest)))
        return None


def _parse(name: str) -> Reference | None:
    """A name in the store, which other engines have written too."""
    try:
        return reference.parse_short(name)
    except InvalidArgument:
        return None


def _repository(name: str) -> str:
    found = _parse(name)
    return "" if found is None else found.name
