"""What an image says of the containers that are made from it, and how that goes together with what was asked for.

As in Podman: what was asked for wins; an entrypoint that was asked for takes the image's command away as well; of
labels and variables each counts for itself. An image comes from strangers. So only what describes its command is
taken from it: never a variable of the host (an entry without a value), never an annotation, a log or a path on the host.

Pure functions of configurations and specs; nothing is looked up.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pyman.errors import InvalidArgument
from supervisor.oci.imaged import Healthcheck, ImageUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyman.api.spec import ContainerSpec
    from supervisor.images.formats.config import Process

__all__ = ["VOLUME_MODES", "Chosen", "check", "use", "with_image"]


class Chosen(NamedTuple):
    """The image of a container to be."""

    id: str
    name: str
    """With registry and tag; empty: it has none."""
    digest: str
    """Of its manifest."""
    config: Process

    def taken(self, spec: ContainerSpec, volume_mode: str) -> tuple[ContainerSpec, ImageUse]:
        """The whole spec, and what of the image is kept beside it. `volume_mode`: the configured one.
        InvalidArgument."""
        shown = self.name or self.id[:12]
        check(self.config, shown)
        return with_image(spec, self.config), use(spec, self, volume_mode)


VOLUME_MODES = ("anonymous", "tmpfs", "ignore")
_TEXT_LIMIT = 256 * 1024
"""Characters of an image's labels together, and of its variables: they come with every event, or every process."""
_VOLUMES_LIMIT = 256
_INTERVAL, _TIMEOUT, _RETRIES = 30_000_000_000, 30_000_000_000, 3


def check(config: Process, name: str) -> None:
    """Refuse an image that says more than is sensible. InvalidArgument."""
    labels = [text for pair in (config.labels or {}).items() for text in pair]
    for what, texts in (("labels", labels), ("variables", config.env or [])):
        if sum(map(len, texts)) > _TEXT_LIMIT:
            raise InvalidArgument(
                f"cannot run image '{name}': its {what} take more than {_TEXT_LIMIT >> 10} KiB", subject=name
            )
    if len(config.volumes or {}) > _VOLUMES_LIMIT:
        raise InvalidArgument(
            f"cannot run image '{name}': it wants more than {_VOLUMES_LIMIT} volumes", subject=name
        )


def with_image(spec: ContainerSpec, config: Process) -> ContainerSpec:
    """The spec with whatever it left to the image. It is checked like any other afterwards."""
    entrypoint = spec.entrypoint
    if entrypoint is None:
        entrypoint = config.entrypoint or []
    command = spec.command
    if not command and not spec.entrypoint:
        command = config.cmd or []
    return msgspec.structs.replace(
        spec,
        entrypoint=[] if entrypoint == [""] else entrypoint,
        command=command,
        user=spec.user or config.user or "",
        work_dir=spec.work_dir or _absolute(config.working_dir or ""),
        stop_signal=spec.stop_signal or config.stop_signal or "",
        labels={**(config.labels or {}), **spec.labels},
    )


def use(spec: ContainerSpec, image: Chosen, volume_mode: str) -> ImageUse:
    """What is kept of an image beside the spec that was asked for. `volume_mode`: the configured one."""
    config, mode = image.config, spec.image_volume_mode or volume_mode or "anonymous"
    shown = image.name or image.id[:12]
    if mode not in VOLUME_MODES:
        raise InvalidArgument(
            f"cannot make the volumes of image '{shown}' be '{mode}'",
            hint=f"known are {', '.join(VOLUME_MODES)}",
        )
    volumes = [] if mode == "ignore" else _volumes(config.volumes or {}, shown)
    return ImageUse(
        id=image.id,
        name=image.name,
        digest=image.digest,
        env=_variables(config.env or []),
        ports=sorted(config.exposed_ports or {}),
        volumes=volumes,
        volume_mode=mode if volumes else "",
        healthcheck=None if spec.no_healthcheck else _healthcheck(config),
        own_work_dir=not spec.work_dir and bool(config.working_dir),
    )


def _healthcheck(config: Process) -> Healthcheck | None:
    """With Podman's defaults; none where there is nothing to run."""
    said = config.healthcheck
    if said is None or not said.test or said.test == ["NONE"]:
        return None
    return Healthcheck(
        test=said.test,
        interval=said.interval or _INTERVAL,
        timeout=said.timeout or _TIMEOUT,
        start_period=said.start_period,
        retries=said.retries or _RETRIES,
    )


def _absolute(path: str) -> str:
    """Cleaned; a relative one begins at the root."""
    return posixpath.normpath(f"/{path.lstrip('/')}") if path else ""


def _variables(entries: Sequence[str]) -> dict[str, str]:
    """Of the entries with a value. One without it would ask for the host's."""
    pairs = (entry.partition("=") for entry in entries)
    return {name: value for name, equals, value in pairs if equals and name and "\0" not in name + value}


def _volumes(wanted: Iterable[str], name: str) -> list[str]:
    found = sorted({_absolute(path) for path in wanted if path})
    if "/" in found:
        raise InvalidArgument(
            f"cannot run image '{name}': it wants a volume in the place of its root directory",
            subject=name,
            hint="use --image-volume ignore",
        )
    return found
