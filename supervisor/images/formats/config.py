"""The configuration of an image: what it runs, for which machine, of which layers, and how it was made.

OCI's document and Docker's are nearly one; both are read into the same form. Unknown fields are left alone, as the
bytes are kept; a field of the wrong kind is refused. Go's programs write `null` for what is empty, and that is what it
means here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from pyman.errors import ArchiveRefused
from supervisor.images.formats.manifests import check_digest
from supervisor.images.transports.transport import CONFIG_LIMIT

__all__ = [
    "Healthcheck",
    "History",
    "ImageConfig",
    "Process",
    "RootFs",
    "decode_config",
    "parse_time",
    "stamp",
]

HISTORY_LIMIT = 10_000
"""Steps; more than that is no image that somebody has built."""


class Healthcheck(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """Durations in nanoseconds; 0: the default."""

    test: list[str] | None = None
    start_period: int = 0
    start_interval: int = 0
    interval: int = 0
    timeout: int = 0
    retries: int = 0


class Process(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """What a container of it does, unless it is told otherwise (`config` in the document)."""

    user: str | None = None
    exposed_ports: dict[str, Any] | None = None
    """`8080/tcp`; the values mean nothing."""
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    """Seconds; Docker's alone."""
    args_escaped: bool | None = None
    healthcheck: Healthcheck | None = None
    """Docker's alone."""
    on_build: list[str] | None = None
    shell: list[str] | None = None


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None
    """The step changed no file: no layer belongs to it."""


class RootFs(msgspec.Struct, frozen=True):
    type: str = "layers"
    diff_ids: list[str] | None = None
    """Digests of the layers' uncompressed archives, from the base upwards."""


class ImageConfig(msgspec.Struct, frozen=True):
    created: str | None = None
    author: str | None = None
    architecture: str = ""
    os: str = ""
    os_version: str | None = msgspec.field(name="os.version", default=None)
    variant: str | None = None
    config: Process | None = None
    rootfs: RootFs = RootFs()
    history: list[History] | None = None
    comment: str | None = None
    """Docker's, as what follows."""
    docker_version: str | None = None
    parent: str | None = None
    container_config: Process | None = None

    @property
    def process(self) -> Process:
        return self.config or Process()

    @property
    def diff_ids(self) -> list[str]:
        return self.rootfs.diff_ids or []

    @property
    def steps(self) -> list[History]:
        return self.history or []

    @property
    def labels(self) -> dict[str, str]:
        return self.process.labels or {}


_decoder = msgspec.json.Decoder(ImageConfig)


def decode_config(data: bytes, subject: str = "") -> ImageConfig:
    """ArchiveRefused: too long, damaged, or with digests that are none. `subject`: whose it is, for the message."""
    of = f" of {subject}" if subject else ""
    if len(data) > CONFIG_LIMIT:
        raise ArchiveRefused(
            f"cannot read the configuration{of}: it has {len(data)} bytes, and {CONFIG_LIMIT} are the most",
            subject=subject,
        )
    try:
        config = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveRefused(f"cannot read the configuration{of}: {error}", subject=subject) from None
    for digest in config.diff_ids:
        check_digest(digest, "a layer")
    if len(config.steps) > HISTORY_LIMIT:
        raise ArchiveRefused(
            f"cannot use the configuration{of}: its history has {len(config.steps)} steps", subject=subject
        )
    return config


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time, to the microsecond; None: there is none, or it is none."""
    if not text:
        return None
    try:
        return msgspec.convert(text, datetime).astimezone(UTC)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return None


def stamp(seconds: float | None = None) -> str:
    """RFC 3339 in UTC, as Go writes it."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat().replace("+00:00", "Z")
