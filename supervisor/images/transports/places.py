"""Names of places that images are copied from and to: `docker://…`, `oci:/srv/image:tag`, `docker-archive:/srv/a.tar`.

`parse` makes a `Place` of one. What has no transport in front is a name in a registry, also if it is called `docker`,
as in Podman. Transports that exist elsewhere and not here are refused by name. Pure functions.
"""

from __future__ import annotations

import os
import re

import msgspec

from pyman.errors import InvalidArgument, NotSupported
from supervisor.registry import reference

__all__ = ["ARCHIVES", "DIRECTORIES", "REGISTRY", "STORAGE", "TRANSPORTS", "Place", "has_transport", "parse"]

REGISTRY = "docker"
STORAGE = "containers-storage"
DOCKER_ARCHIVE, OCI_ARCHIVE, OCI, DIR = "docker-archive", "oci-archive", "oci", "dir"
ARCHIVES = frozenset({DOCKER_ARCHIVE, OCI_ARCHIVE})
"""They are one file, or a stream."""
DIRECTORIES = frozenset({OCI, DIR})
TRANSPORTS = (REGISTRY, DOCKER_ARCHIVE, OCI_ARCHIVE, OCI, DIR, STORAGE)

_ELSEWHERE = {
    "docker-daemon": "save the image with 'docker save' and give 'docker-archive:PATH'",
    "ostree": "",
    "sif": "",
    "atomic": "",
    "tarball": "use import",
    "docker-tar": "give 'docker-archive:PATH'",
}
_PART = r"[A-Za-z0-9]+(?:(?:--|[-._:@+])[A-Za-z0-9]+)*"
_LAYOUT_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
"""What OCI permits as `org.opencontainers.image.ref.name`."""
_ID = re.compile(r"[0-9a-f]{64}")
_NAME_LIMIT = 512
_INDEX_DIGITS = 6
_PATH_LIMIT = 4095


class Place(msgspec.Struct, frozen=True):
    """`name`: within the place; a full name for a registry and a docker-archive, a name or an id in a store, what
    OCI calls a reference name elsewhere; empty: its only image, or all."""

    transport: str
    path: str = ""
    """Absolute."""
    name: str = ""
    index: int = -1
    """Counted from 0, in place of a name (`:@0`); -1: none is given."""
    driver: str = ""
    """Of another store, as its two roots; empty: this engine's."""
    graph_root: str = ""
    run_root: str = ""
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.transport == REGISTRY:
            return f"docker://{self.name}"
        if self.transport == STORAGE:
            return f"{STORAGE}:{self._store}{self.name}"
        inside = f":@{self.index}" if self.index >= 0 else f":{self.name}" if self.name else ""
        return f"{self.transport}:{self.path}{inside}"

    @property
    def wanted(self) -> tuple[str, str]:
        """Of an image that is written to a store: the full name that it gets there, and the id that it has to have;
        either may be empty. InvalidArgument."""
        before, at, after = self.name.rpartition("@")
        if _ID.fullmatch(after):
            return (str(reference.parse(before).tagged()) if at else ""), after
        return str(reference.parse(self.name).tagged()), ""

    @property
    def _store(self) -> str:
        if not self.graph_root:
            return ""
        driver = f"{self.driver}@" if self.driver else ""
        run_root = f"+{self.run_root}" if self.run_root else ""
        options = f":{','.join(self.options)}" if self.options else ""
        return f"[{driver}{self.graph_root}{run_root}{options}]"


def has_transport(text: str) -> bool:
    """A transport stands in front of it, known here or not."""
    transport, colon, rest = text.partition(":")
    if transport == REGISTRY:
        return rest.startswith("//")
    return bool(colon) and (transport in TRANSPORTS or transport in _ELSEWHERE)


def parse(text: str) -> Place:
    """The place that a text names. Raises InvalidArgument, NotSupported."""
    if not has_transport(text):
        return Place(REGISTRY, name=str(reference.parse(text).tagged()))
    transport, _, rest = text.partition(":")
    if transport in _ELSEWHERE:
        raise NotSupported(
            f"cannot use the transport '{transport}'", subject=transport, hint=_ELSEWHERE[transport]
        )
    if transport == REGISTRY:
        return Place(REGISTRY, name=str(reference.parse(rest.removeprefix("//")).tagged()))
    if transport == STORAGE:
        return _storage(rest, text)
    path, name, index = _inside(transport, rest, text)
    if not os.path.isabs(path) or "\0" in path or len(path) > _PATH_LIMIT:
        raise _refused(text, "its path is empty or is not an absolute one")
    return Place(transport, path=path, name=name, index=index)


def _inside(transport: str, rest: str, text: str) -> tuple[str, str, int]:
    if transport == DIR:
        return rest, "", -1
    path, _, inside = rest.partition(":")
    if not inside:
        return path, "", -1
    if inside.startswith("@"):
        number = inside[1:]
        if not number.isdecimal() or len(number) > _INDEX_DIGITS:
            raise _refused(text, "what follows ':@' is the number of an image, counted from 0")
        return path, "", int(number)
    if transport == DOCKER_ARCHIVE:
        found = reference.parse(inside)
        if found.digest:
            raise _refused(text, "images in a docker-archive have no digests")
        return path, str(found.tagged()), -1
    if len(inside) > _NAME_LIMIT or not _LAYOUT_NAME.fullmatch(inside):
        raise _refused(text, f"'{inside}' is no name of an image in a layout")
    return path, inside, -1


def _storage(rest: str, text: str) -> Place:
    driver = graph_root = run_root = ""
    options: tuple[str, ...] = ()
    if rest.startswith("["):
        inside, bracket, rest = rest[1:].partition("]")
        before, at, after = inside.partition("@")
        driver, where = (before, after) if at else ("", before)
        where, colon, listed = where.partition(":")
        graph_root, plus, run_root = where.partition("+")
        options = tuple(listed.split(",")) if colon else ()
        roots = [graph_root, run_root] if plus else [graph_root]
        if not bracket or (at and not driver) or not all(os.path.isabs(root) for root in roots):
            raise _refused(text, "a store is given as [DRIVER@GRAPHROOT+RUNROOT], with absolute paths")
    name = rest.removeprefix("@")
    if not name:
        raise _refused(text, "it names no image")
    return Place(STORAGE, name=name, driver=driver, graph_root=graph_root, run_root=run_root, options=options)


def _refused(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use '{text}': {why}", subject=text)
