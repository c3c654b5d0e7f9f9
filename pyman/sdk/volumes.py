"""Volumes through the asynchronous client: `engine.volumes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api import volume as api
from pyman.api.container import ExistsReply
from pyman.api.method import Nothing
from pyman.sdk.noun import Noun, listed, raise_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Volumes"]

Inspected = list[api.InspectVolume]
Removed = list[api.RemovedVolume]


class Volumes(Noun):
    """Made by the engine. Volumes are found by their names, or by the beginning of one that no other has."""

    interface = "io.pyman.Volume"

    async def create(
        self,
        name: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        uid: int | None = None,
        gid: int | None = None,
        ignore: bool = False,
    ) -> str:
        """Its name: without one it gets 64 hexadecimal digits. `options`: type, device and o, copy, nocopy. `ignore`:
        one that is there is taken."""
        request = api.CreateVolumeRequest(
            name, labels=dict(labels or {}), options=dict(options or {}), uid=uid, gid=gid, ignore=ignore
        )
        return (await self._call("Create", request, api.CreateVolumeReply)).name

    async def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> Inspected:
        """By their names."""
        request = api.ListVolumesRequest(listed(filters))
        return (await self._call("List", request, api.ListVolumesReply)).volumes

    async def inspect(self, name: str) -> api.InspectVolume:
        reply = await self._call("Inspect", api.InspectVolumesRequest([name]), api.InspectVolumesReply)
        raise_first(reply.errors)
        return reply.volumes[0]

    async def exists(self, name: str) -> bool:
        """One of exactly that name."""
        return (await self._call("Exists", api.VolumeRequest(name), ExistsReply)).exists

    async def remove(self, name: str, *, force: bool = False, timeout: float | None = None) -> None:
        """`force`: with the containers that use it, which get `timeout` seconds to end."""
        request = api.RemoveVolumesRequest([name], force=force, timeout=timeout)
        reply = await self._call("Remove", request, api.RemovedVolumesReply)
        raise_first(each.error for each in reply.volumes)

    async def prune(
        self,
        *,
        all: bool = False,  # noqa: A002 - the name that the option has everywhere
        filters: Mapping[str, Sequence[str]] | None = None,
        dry_run: bool = False,
    ) -> Removed:
        """The anonymous ones that no container uses; `all`: the named ones, too. What was removed, or would be."""
        request = api.PruneVolumesRequest(all, listed(filters), dry_run)
        return (await self._call("Prune", request, api.RemovedVolumesReply)).volumes

    async def export(self, name: str, archive: int) -> None:
        """Write what is in it into a tar archive; a descriptor, which stays the caller's."""
        await self._call("Export", api.VolumeRequest(name), Nothing, [archive])

    async def import_(self, name: str, archive: int) -> None:
        """Unpack a tar archive, compressed or not, into it; a descriptor, which stays the caller's."""
        await self._call("Import", api.VolumeRequest(name), Nothing, [archive])

    async def mount(self, name: str) -> str:
        """Once more; the directory. For an ordinary user's engine it is in that engine's mount namespace."""
        return (await self._call("Mount", api.VolumeRequest(name), api.MountVolumeReply)).path

    async def unmount(self, name: str, *, force: bool = False) -> None:
        """One mount, with `force` all; none: nothing is done."""
        await self._call("Unmount", api.UnmountVolumeRequest(name, force), Nothing)

    async def reload(self) -> api.ReloadVolumesReply:
        """Compare drivers and records."""
        return await self._call("Reload", Nothing(), api.ReloadVolumesReply)
