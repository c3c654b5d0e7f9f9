"""Archives of `docker save` from before Docker 1.10: `repositories`, and a directory for each layer.

Such an image is a chain of layers, each with a document (`ID/json`) that names its parent and what was done. A
configuration is made of the chain; the layers' digests, which nobody has recorded, are computed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import ArchiveRefused
from supervisor.images.transports.docker_archive import (
    LAYER_LIMIT,
    REPOSITORIES,
    DockerArchiveSource,
    Item,
    tags_of,
)
from supervisor.images.transports.folder import absent, hash_range, read_document
from supervisor.images.transports.transport import CONFIG_LIMIT, MANIFEST_LIMIT

if TYPE_CHECKING:
    from supervisor.images.transports.folder import Files

__all__ = ["images", "is_legacy", "source"]

_ID = re.compile(r"[0-9a-f]{64}")
_KEPT = (
    "architecture",
    "author",
    "config",
    "container",
    "container_config",
    "docker_version",
    "os",
    "variant",
)


class _Step(msgspec.Struct, frozen=True):
    """`ID/json`."""

    parent: str | None = None
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    throwaway: bool | None = None
    container_config: dict[str, Any] | None = None


async def is_legacy(files: Files) -> bool:
    return await files.size(REPOSITORIES) >= 0


async def images(files: Files) -> dict[str, list[str]]:
    """Ids of the last layers, each with the full names of its image. ArchiveRefused."""
    repositories = await read_document(files, REPOSITORIES, MANIFEST_LIMIT, dict[str, dict[str, str]])
    found: dict[str, list[str]] = {}
    for name, tags in repositories.items():
        for tag, id in tags.items():
            names = tags_of(Item("", [f"{name}:{tag}"]), files.name)
            found.setdefault(_checked(id, files), []).extend(names)
    return found


async def source(files: Files, id: str, name: str) -> DockerArchiveSource:
    """The image that ends with the layer `id`. ArchiveRefused."""
    steps: list[tuple[str, _Step]] = []
    top: dict[str, Any] = {}
    seen: set[str] = set()
    while id:
        if id in seen or len(seen) >= LAYER_LIMIT:
            raise ArchiveRefused(f"cannot use '{name}': its layers have no end", subject=name)
        seen.add(id)
        document = await _document(files, id)
        top = top or document
        step = _converted(document, files)
        steps.append((id, step))
        id = _checked(step.parent, files) if step.parent else ""
    steps.reverse()
    return await _assembled(files, name, top, steps)


async def _assembled(
    files: Files, name: str, top: dict[str, Any], steps: list[tuple[str, _Step]]
) -> DockerArchiveSource:
    members, diff_ids, history = [], [], []
    for id, step in steps:
        entry = {
            "created": step.created or "1970-01-01T00:00:00Z",
            "created_by": " ".join(map(str, (step.container_config or {}).get("Cmd") or ())),
            "author": step.author,
            "comment": step.comment,
        }
        entry = {key: value for key, value in entry.items() if value}
        if not step.throwaway:
            member = f"{id}/layer.tar"
            members.append(member)
            async with files.open(member) as feed:
                diff_ids.append(await hash_range(feed))
        history.append({**entry, "empty_layer": True} if step.throwaway else entry)
    config = {key: top[key] for key in _KEPT if top.get(key) is not None}
    config["created"] = top.get("created") or "1970-01-01T00:00:00Z"
    config["history"] = history
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    return await DockerArchiveSource.made(files, name, msgspec.json.encode(config), members)


async def _document(files: Files, id: str) -> dict[str, Any]:
    if await files.size(f"{id}/layer.tar") < 0:
        raise absent(files.name, f"{id}/layer.tar")
    return await read_document(files, f"{id}/json", CONFIG_LIMIT, dict[str, Any])


def _converted(document: dict[str, Any], files: Files) -> _Step:
    try:
        return msgspec.convert(document, _Step)
    except msgspec.ValidationError as error:
        raise ArchiveRefused(
            f"cannot use '{files.name}': a layer's json: {error}", subject=files.name
        ) from None


def _checked(id: str, files: Files) -> str:
    if not _ID.fullmatch(id):
        raise ArchiveRefused(
            f"cannot use '{files.name}': '{id[:80]}' is no id of a layer", subject=files.name
        )
    return id
