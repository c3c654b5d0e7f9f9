"""What is told of one image: Podman's document, its history, the tree of its layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.api.image import HistoryEntry, TreeLayer, TreeReply
from pyman.errors import InvalidArgument
from supervisor.images.formats.manifests import Index
from supervisor.images.view import repo_digests
from supervisor.registry import reference
from supervisor.storage.records import Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.images.formats.config import History, ImageConfig, Process
    from supervisor.images.view import View
    from supervisor.storage.records import Image

__all__ = ["document", "history", "repo_tags", "tree"]

_CONFIG = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
)
"""What OCI's configuration has; the rest is Docker's."""
_ZEROS = re.compile(r"(\.\d*?)0+(?=[Z+-]|$)")


def document(view: View, image: Image, mounted: str) -> dict[str, Any]:
    """As `podman image inspect` has it. `mounted`: where it is, or empty. NotSupported: a manifest list. ArchiveRefused,
    StorageFailed: it is damaged."""
    config = view.documents.config(image)
    manifest = view.documents.manifest(image)
    assert not isinstance(manifest, Index)  # noqa: S101 - that one has no configuration
    parent, size = view.parent(image), view.size(image)
    found: dict[str, Any] = {
        "Id": image.id,
        "Digest": view.digest(image),
        "RepoTags": repo_tags(image),
        "RepoDigests": repo_digests(image),
        "Parent": "" if parent is None else parent.id,
        "Comment": _comment(config, oci=manifest.is_oci),
        "Created": _time(config.created),
        "Config": _config(config.process),
        "Version": config.docker_version or "",
        "Author": config.author or "",
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Name": "overlay", "Data": _driver_data(view, image, mounted)},
        "RootFS": {"Type": config.rootfs.type, "Layers": config.diff_ids},
        "Labels": config.process.labels,
        "Annotations": manifest.annotations,
        "ManifestType": manifest.media_type,
        "User": config.process.user or "",
        "History": [_step(step) for step in config.steps],
        "NamesHistory": list(image.names_history) or None,
    }
    health = _health(config, oci=manifest.is_oci)
    if health is not None:
        found["Healthcheck"] = health
    return found


def repo_tags(image: Image) -> list[str]:
    return [name for name in image.names if _tagged(name)]


def _tagged(name: str) -> bool:
    try:
        return bool(reference.parse_short(name).tag)
    except InvalidArgument:
        return False


def _time(text: str | None) -> str | None:
    """As Go writes it: no zeros at the end of a fraction."""
    if not text:
        return None
    return _ZEROS.sub(lambda match: match[1] if match[1] != "." else "", text)


def _comment(config: ImageConfig, *, oci: bool) -> str:
    if not oci:
        return config.comment or ""
    return (config.steps[0].comment or "") if config.steps else ""


def _config(process: Process) -> dict[str, Any]:
    fields = msgspec.to_builtins(process)
    return {key: fields[key] for key in _CONFIG if fields.get(key)}


def _health(config: ImageConfig, *, oci: bool) -> dict[str, Any] | None:
    """Docker's format alone has one."""
    if oci:
        return None
    for process in (config.container_config, config.config):
        if process is not None and process.healthcheck is not None:
            found: dict[str, Any] = msgspec.to_builtins(process.healthcheck)
            return found
    return None


def _step(step: History) -> dict[str, Any]:
    fields = msgspec.to_builtins(step)
    if step.created:
        fields["created"] = _time(step.created)
    return {key: value for key, value in fields.items() if value}


def _driver_data(view: View, image: Image, mounted: str) -> dict[str, str]:
    chain = view.chain(image)
    if not chain:
        return {}
    found = {}
    if len(chain) > 1:
        found["LowerDir"] = ":".join(f"{layer.store}/overlay/{layer.id}/diff" for layer in chain[1:])
    top = f"{chain[0].store}/overlay/{chain[0].id}"
    if mounted:
        found["MergedDir"] = mounted
    return {**found, "UpperDir": f"{top}/diff", "WorkDir": f"{top}/work"}


def history(view: View, image: Image) -> list[HistoryEntry]:
    """The newest step first. An id stands at the step with which an image ends. Errors of `document`."""
    config = view.documents.config(image)
    layers = iter(view.chain(image))
    layer = next(layers, None)
    told: set[str] = set()
    found: list[HistoryEntry] = []
    for step in reversed(config.steps):
        ending = [] if layer is None else view.ending_at.get(layer.id, [])
        id = ending[0].id if ending and ending[0].id not in told else ""
        told.add(id)
        size = 0
        if not step.empty_layer:
            size = 0 if layer is None else max(layer.diff_size, 0)
            layer = next(layers, None)
        found.append(
            HistoryEntry(
                id=id,
                created=_time(step.created) or "",
                created_by=step.created_by or "",
                size=size,
                comment=step.comment or "",
                tags=[name for each in ending for name in each.names],
            )
        )
    return found


def tree(view: View, image: Image, *, whatrequires: bool) -> TreeReply:
    """Its layers from the base upwards; with `whatrequires` its last one and all that lie upon that, each after the
    one that it lies upon."""
    if whatrequires:
        top = view.layers.get(image.top_layer)
        layers = [] if top is None else list(_upwards(view, top))
    else:
        layers = view.chain(image)[::-1]
    return TreeReply(
        id=image.id,
        names=repo_tags(image),
        size=view.size(image),
        layers=[
            TreeLayer(
                id=layer.id,
                size=max(layer.diff_size, 0),
                top_of=_names_at(view.ending_at.get(layer.id, ())),
                parent=layer.parent,
            )
            for layer in layers
        ],
    )


def _names_at(images: Sequence[Image]) -> list[str]:
    return list(dict.fromkeys(name for image in images for name in repo_tags(image)))


def _upwards(view: View, layer: Layer) -> list[Layer]:
    found, waiting = list[Layer](), [layer]
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting += reversed(view.above.get(each.id, ()))
    return found
