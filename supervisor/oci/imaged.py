"""What an image says of the containers that are made from it, and how that goes together with what was asked for.

As in Podman: what was asked for wins; an entrypoint that was asked for takes the image's command away as well; of
labels and variables each counts for itself. An image comes from strangers. So only what describes its command is
taken from it: never a variable of the host (an entry without a value), never an annotation, a log or a path on the host.

Pure functions of bytes and specs; nothing is looked up.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyman.api.spec import ContainerSpec

__all__ = ["VOLUME_MODES", "Healthcheck", "ImageUse", "RunConfig", "read_config", "use", "with_image"]

VOLUME_MODES = ("anonymous", "tmpfs", "ignore")
_TEXT_LIMIT = 256 * 1024
"""Characters of an image's labels together, and of its variables: they come with every event, or every process."""
_VOLUMES_LIMIT = 256
_INTERVAL, _TIMEOUT, _RETRIES = 30_000_000_000, 30_000_000_000, 3


class Healthcheck(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """Times in nanoseconds; 0: Podman's default."""

    test: list[str] | None = None
    """`CMD` and the words of a command, `CMD-SHELL` and one line, or `NONE`."""
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    def complete(self) -> Healthcheck | None:
        """With Podman's defaults; none where there is nothing to run."""
        if not self.test or self.test == ["NONE"]:
            return None
        return msgspec.structs.replace(
            self,
            interval=self.interval or _INTERVAL,
            timeout=self.timeout or _TIMEOUT,
            retries=self.retries or _RETRIES,
        )


class RunConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The part `config` of an image's configuration, as the OCI and Docker write it."""

    user: str | None = None
    env: list[str] | None = None
    entrypoint: list[str] | str | None = None
    cmd: list[str] | str | None = None
    working_dir: str | None = None
    stop_signal: str | None = None
    exposed_ports: dict[str, msgspec.Raw] | None = None
    labels: dict[str, str] | None = None
    volumes: dict[str, msgspec.Raw] | None = None
    healthcheck: Healthcheck | None = None


class _Configuration(msgspec.Struct, frozen=True):
    config: RunConfig | None = None


class ImageUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The image of a container, with what of it is not in the container's spec. Kept in its definition."""

    id: str = ""
    """Empty: the container has no image."""
    name: str = ""
    """With registry and tag; the image may have lost it since. Empty: it had none."""
    digest: str = ""
    """Of its manifest."""
    env: dict[str, str] = {}
    ports: list[str] = []
    """That it exposes: `80/tcp`."""
    volumes: list[str] = []
    """Where it wants volumes; paths in the container."""
    volume_mode: str = ""
    """One of VOLUME_MODES; empty where it wants none."""
    healthcheck: Healthcheck | None = None
    own_work_dir: bool = False
    """The working directory is the image's, and is made where it is missing."""


_decoder = msgspec.json.Decoder(_Configuration)


def read_config(data: bytes, name: str) -> RunConfig:
    """From an image's configuration. InvalidArgument: it is none, or says more than is sensible; `name` is told."""
    try:
        config = _decoder.decode(data).config or RunConfig()
    except msgspec.DecodeError as error:
        raise InvalidArgument(
            f"cannot use the configuration of image '{name}': {error}", subject=name
        ) from error
    for what, texts in (("labels", [*(config.labels or {}).items()]), ("variables", config.env or [])):
        if sum(sum(map(len, text)) for text in texts) > _TEXT_LIMIT:
            raise InvalidArgument(
                f"cannot run image '{name}': its {what} take more than {_TEXT_LIMIT >> 10} KiB", subject=name
            )
    if len(config.volumes or {}) > _VOLUMES_LIMIT:
        raise InvalidArgument(
            f"cannot run image '{name}': it wants more than {_VOLUMES_LIMIT} volumes", subject=name
        )
    return config


def with_image(spec: ContainerSpec, config: RunConfig) -> ContainerSpec:
    """The spec with whatever it left to the image. It is checked like any other afterwards."""
    entrypoint = spec.entrypoint
    if entrypoint is None:
        entrypoint = _words(config.entrypoint)
    command = spec.command
    if not command and not spec.entrypoint:
        command = _words(config.cmd)
    return msgspec.structs.replace(
        spec,
        entrypoint=[] if entrypoint == [""] else entrypoint,
        command=command,
        user=spec.user or config.user or "",
        work_dir=spec.work_dir or _absolute(config.working_dir or ""),
        stop_signal=spec.stop_signal or config.stop_signal or "",
        labels={**(config.labels or {}), **spec.labels},
    )


def use(
    spec: ContainerSpec, config: RunConfig, *, id: str, name: str, digest: str, volume_mode: str
) -> ImageUse:
    """What is kept of an image beside the spec that was asked for. `volume_mode`: the configured one."""
    mode = spec.image_volume_mode or volume_mode
    if mode not in VOLUME_MODES:
        raise InvalidArgument(
            f"cannot make the volumes of image '{name}' be '{mode}'",
            hint=f"known are {', '.join(VOLUME_MODES)}",
        )
    volumes = [] if mode == "ignore" else _volumes(config.volumes or {}, name)
    return ImageUse(
        id=id,
        name=name,
        digest=digest,
        env=_variables(config.env or []),
        ports=sorted(config.exposed_ports or {}),
        volumes=volumes,
        volume_mode=mode if volumes else "",
        healthcheck=config.healthcheck.complete() if config.healthcheck is not None else None,
        own_work_dir=not spec.work_dir and bool(config.working_dir),
    )


def _words(words: list[str] | str | None) -> list[str]:
    return [words] if isinstance(words, str) and words else list(words or [])


def _absolute(path: str) -> str:
    """Cleaned; a relative one begins at the root."""
    return posixpath.normpath(f"/{path.lstrip('/')}") if path else ""


def _variables(entries: Sequence[str]) -> dict[str, str]:
    """Of the entries with a value. One without it would ask for the host's."""
    pairs = (entry.partition("=") for entry in entries)
    return {name: value for name, equals, value in pairs if equals and name and "\0" not in name + value}


def _volumes(wanted: dict[str, msgspec.Raw], name: str) -> list[str]:
    found = sorted({_absolute(path) for path in wanted if path})
    if "/" in found:
        raise InvalidArgument(
            f"cannot run image '{name}': it wants a volume in the place of its root directory",
            subject=name,
            hint="use --image-volume ignore",
        )
    return found
