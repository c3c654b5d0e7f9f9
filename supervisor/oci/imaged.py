"""What a container has of its image beside what its spec says."""

from __future__ import annotations

import msgspec

__all__ = ["Healthcheck", "ImageUse"]


class Healthcheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times in nanoseconds."""

    test: list[str]
    """`CMD` and the words of a command, or `CMD-SHELL` and one line."""
    interval: int
    timeout: int
    start_period: int = 0
    retries: int = 3


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
    """`anonymous` or `tmpfs`; empty where it wants none, and where they are volumes of the container's spec."""
    healthcheck: Healthcheck | None = None
    own_work_dir: bool = False
    """The working directory is the image's, and is made where it is missing."""
