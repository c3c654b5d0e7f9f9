"""`io.pyman.System`: the supervisor itself."""

from __future__ import annotations

from typing import Any

import msgspec

from pyman.api.method import Access, Interface, Method, Nothing, Vanish
from pyman.api.usage import DiskUsageReply, PruneSystemReply, PruneSystemRequest

__all__ = [
    "INTERFACE",
    "CheckReply",
    "CheckRequest",
    "InfoReply",
    "Lock",
    "LocksReply",
    "MatchRequest",
    "Problem",
    "ReloadReply",
    "ShutdownRequest",
    "VersionReply",
]


class VersionReply(msgspec.Struct, frozen=True, rename="pascal"):
    version: str
    api_version: str
    python_version: str
    os: str
    arch: str
    kernel: str
    built: str = ""


class InfoReply(msgspec.Struct, frozen=True):
    """Podman's sections as it prints them, and `supervisor` (pid, keeperPid, socket, database, …)."""

    host: dict[str, Any]
    store: dict[str, Any]
    registries: dict[str, Any]
    plugins: dict[str, Any]
    version: dict[str, Any]
    supervisor: dict[str, Any]


class MatchRequest(msgspec.Struct, frozen=True):
    """Options the caller was started with; empty: not given. The first that differs from the supervisor's
    is answered with OptionDiffers."""

    namespace: str = ""
    """From here on this connection sees and makes only containers of this part of the state."""
    root: str = ""
    runroot: str = ""
    tmpdir: str = ""
    config: str = ""
    network_config_dir: str = ""


class ReloadReply(msgspec.Struct, frozen=True):
    changed: list[str]
    """Settings that are in force now, by their dotted name."""
    after_restart: list[str] = []
    """Settings that differ in the files but take effect only with the next supervisor."""


class Lock(msgspec.Struct, frozen=True):
    number: int
    kind: str
    id: str
    name: str


class LocksReply(msgspec.Struct, frozen=True):
    size: int
    """Locks there is room for at present."""
    locks: list[Lock]
    free: int
    conflicts: list[str] = []
    """Numbers that several objects claim, a sentence each."""


class CheckRequest(msgspec.Struct, frozen=True):
    repair: bool = False


class Problem(msgspec.Struct, frozen=True):
    subject: str
    text: str
    repaired: bool = False


class CheckReply(msgspec.Struct, frozen=True):
    problems: list[Problem]


class ShutdownRequest(msgspec.Struct, frozen=True):
    containers: str = "leave"
    """`leave` them running, or `stop` them."""


INTERFACE = Interface(
    name="io.pyman.System",
    doc=(__doc__ or "").strip(),
    methods=(
        Method("Version", Nothing, VersionReply, "Versions.", access=Access.READ),
        Method("Info", Nothing, InfoReply, "The host, the store and the supervisor.", access=Access.READ),
        Method(
            "Match",
            MatchRequest,
            Nothing,
            "Say which supervisor and which part of its state is meant.",
            access=Access.READ,
        ),
        Method("Reload", Nothing, ReloadReply, "Read the configuration files again.", access=Access.OWNER),
        Method("Locks", Nothing, LocksReply, "Locks and their owners.", access=Access.READ),
        Method(
            "Check", CheckRequest, CheckReply, "Compare the state with what is there.", access=Access.OWNER
        ),
        Method(
            "DiskUsage",
            Nothing,
            DiskUsageReply,
            "How much room images, containers and volumes take.",
            access=Access.READ,
            vanish=Vanish.CANCEL,
        ),
        Method(
            "Prune",
            PruneSystemRequest,
            PruneSystemReply,
            "Remove what nothing uses.",
            access=Access.OWNER,
        ),
        Method("Shutdown", ShutdownRequest, Nothing, "End the supervisor.", access=Access.OWNER),
    ),
)
