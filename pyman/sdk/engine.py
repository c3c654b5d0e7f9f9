"""The engine as an asynchronous client sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio

from pyman.api import event, system, usage
from pyman.api.method import Nothing
from pyman.sdk.containers import Containers
from pyman.sdk.events import PATIENCE, Events
from pyman.sdk.images import Images
from pyman.sdk.networks import Networks
from pyman.sdk.noun import listed
from pyman.sdk.pool import Pool
from pyman.sdk.secrets import Secrets
from pyman.sdk.volumes import Volumes
from pyman.wire import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Engine", "connect"]

_SYSTEM = "io.pyman.System"


def connect(
    path: str | None = None,
    *,
    root: str | None = None,
    runroot: str | None = None,
    tmpdir: str | None = None,
    config: str | None = None,
    start: bool = True,
) -> Engine:
    """The engine of this user: use it in an `async with` block, under asyncio or Trio.

    `path`: the supervisor's socket. Otherwise `root` and `config` (and CONTAINERS_CONF) select an engine as the
    options of the command line do; nothing given: the default one. `start`: bring up a supervisor where none
    answers. Entering the block raises EngineUnavailable, PermissionDenied, or OptionDiffers where the
    supervisor was started with other options.
    """
    if path is not None:
        return Engine(Pool(path), {})
    selection = Selection(root or "", runroot or "", tmpdir or "", config or "")

    async def launch() -> None:
        from pyman.cli.launch import launch as launch_now

        await anyio.to_thread.run_sync(launch_now, selection)

    return Engine(Pool(selection.socket, launch if start else None), selection.given())


class Engine:
    """Made by `connect`. Calls may run concurrently: each has a connection of its own."""

    def __init__(self, pool: Pool, given: Mapping[str, str]) -> None:
        self._pool = pool
        self._given = given
        self.containers = Containers(pool)
        self.images = Images(pool)
        self.networks = Networks(pool)
        self.secrets = Secrets(pool)
        self.volumes = Volumes(pool)

    async def __aenter__(self) -> Self:
        await self._pool.prepare()
        if self._given:
            try:
                await self._pool.call(f"{_SYSTEM}.Match", system.MatchRequest(**self._given), Nothing)
            except BaseException:
                self._pool.close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.close()

    @property
    def socket(self) -> str:
        """The path of the supervisor's socket."""
        return self._pool.path

    async def version(self) -> system.VersionReply:
        return await self._pool.call(f"{_SYSTEM}.Version", Nothing(), system.VersionReply)

    async def info(self) -> system.InfoReply:
        return await self._pool.call(f"{_SYSTEM}.Info", Nothing(), system.InfoReply)

    async def reload(self) -> system.ReloadReply:
        """Have the configuration files read again."""
        return await self._pool.call(f"{_SYSTEM}.Reload", Nothing(), system.ReloadReply)

    async def locks(self) -> system.LocksReply:
        return await self._pool.call(f"{_SYSTEM}.Locks", Nothing(), system.LocksReply)

    async def check(self, *, repair: bool = False) -> system.CheckReply:
        """Compare the state with what is really there."""
        return await self._pool.call(f"{_SYSTEM}.Check", system.CheckRequest(repair), system.CheckReply)

    async def disk_usage(self) -> usage.DiskUsageReply:
        """How much room images, containers and volumes take."""
        return await self._pool.call(f"{_SYSTEM}.DiskUsage", Nothing(), usage.DiskUsageReply)

    async def prune(
        self,
        *,
        all: bool = False,  # noqa: A002 - the name that the option has everywhere
        volumes: bool = False,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> usage.PruneSystemReply:
        """Remove what nothing uses. `all`: also images with names; `volumes`: also volumes."""
        request = usage.PruneSystemRequest(all, volumes, listed(filters))
        return await self._pool.call(f"{_SYSTEM}.Prune", request, usage.PruneSystemReply)

    async def shutdown(self, *, containers: str = "leave") -> None:
        """End the supervisor; `containers`: `leave` them running, or `stop` them."""
        await self._pool.call(f"{_SYSTEM}.Shutdown", system.ShutdownRequest(containers), Nothing)

    def events(
        self,
        filters: Mapping[str, Sequence[str]] | None = None,
        *,
        since: int | None = None,
        until: int | None = None,
        since_seq: int | None = None,
        journal: str = "",
        follow: bool = True,
        snapshot: bool = False,
        patience: float = PATIENCE,
    ) -> Events:
        """An iterator over events, which goes on by itself when the supervisor is replaced.

        Without `since` (nanoseconds since the epoch) or `since_seq` it begins with what happens from now on;
        `since_seq` needs the `journal` that the number belongs to. `follow=False` ends after the last event
        there is. `snapshot`: see `Events.snapshot`.
        """
        request = event.SubscribeRequest(
            filters=listed(filters),
            since=since,
            until=until,
            since_seq=since_seq,
            journal=journal,
            stream=follow,
            snapshot=snapshot,
        )
        return Events(self._pool, request, patience)

    async def prune_events(self, *, keep: int = 0, until: int | None = None) -> int:
        """Forget old events, but the newest `keep`; how many were forgotten."""
        request = event.PruneEventsRequest(keep, until)
        reply = await self._pool.call("io.pyman.Event.Prune", request, event.PruneEventsReply)
        return reply.removed
