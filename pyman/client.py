"""The asynchronous client: `async with pyman.connect() as engine`, under asyncio or Trio.

::

    async with pyman.connect() as engine:
        async with await engine.containers.run(rootfs="/", rootfs_overlay=True, command=["date"]) as session:
            output = await session.collect()

docs/sdk.md has more of it. The parts live in `pyman.sdk`; what is listed here is what programs use.
"""

from __future__ import annotations

from pyman.api.container import ListContainer, Result, Selection
from pyman.api.event import Event, Gap, Snapshot
from pyman.api.image import ImageSummary, Platform, Progress, RegistryAccess
from pyman.api.limits import CpuLimits, MemoryLimits, PidsLimit, ResourceLimits, ThrottleDevice, WeightDevice
from pyman.api.network import InspectNetwork, Network, Route, SubnetWish
from pyman.api.secret import InspectSecret
from pyman.api.spec import (
    Caller,
    ContainerSpec,
    LogConfig,
    NamedVolume,
    Namespace,
    NetworkWish,
    PortMapping,
    RestartBackoff,
    Secret,
)
from pyman.api.volume import InspectVolume
from pyman.sdk.containers import Containers
from pyman.sdk.engine import Engine, connect
from pyman.sdk.events import Events
from pyman.sdk.images import Images, Transfer
from pyman.sdk.logs import Line, Logs
from pyman.sdk.networks import Networks
from pyman.sdk.secrets import Secrets
from pyman.sdk.session import Output, Session
from pyman.sdk.volumes import Volumes

__all__ = [
    "Caller",
    "ContainerSpec",
    "Containers",
    "CpuLimits",
    "Engine",
    "Event",
    "Events",
    "Gap",
    "ImageSummary",
    "Images",
    "InspectNetwork",
    "InspectSecret",
    "InspectVolume",
    "Line",
    "ListContainer",
    "LogConfig",
    "Logs",
    "MemoryLimits",
    "NamedVolume",
    "Namespace",
    "Network",
    "NetworkWish",
    "Networks",
    "Output",
    "PidsLimit",
    "Platform",
    "PortMapping",
    "Progress",
    "RegistryAccess",
    "ResourceLimits",
    "RestartBackoff",
    "Result",
    "Route",
    "Secret",
    "Secrets",
    "Selection",
    "Session",
    "Snapshot",
    "SubnetWish",
    "ThrottleDevice",
    "Transfer",
    "Volumes",
    "WeightDevice",
    "connect",
]
