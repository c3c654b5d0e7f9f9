"""Images through the asynchronous client: `engine.images`.

Where a method takes one name its failure is raised; with several the reply has an error for each that failed. What
takes long is a `Transfer`: iterate it for progress, or only ask for its `result`. Leaving it before its end gives it
up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pyman.api import image as api
from pyman.api.container import ExistsReply
from pyman.api.method import Nothing
from pyman.errors import ProtocolError
from pyman.sdk.noun import Noun, listed, raise_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from pyman.sdk.pool import Pool, Stream

__all__ = ["Images", "Transfer"]

Summaries = list[api.ImageSummary]
Steps = list[api.HistoryEntry]


class Transfer:
    """A pull, push, load, save or import. Iterating gives each `Progress`, and lines for people as `str`.

    Use it in an `async with` block, or ask for its `result` alone, which is the last reply: `ids`, `names`, `digest`.
    """

    def __init__(
        self, pool: Pool, method: str, request: msgspec.Struct, descriptors: Sequence[int] = ()
    ) -> None:
        self._pool = pool
        self._method = f"{Images.interface}.{method}"
        self._request = request
        self._descriptors = descriptors
        self._replies: Stream[api.TransferReply] | None = None
        self._last: api.TransferReply | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give it up, if it has not come to its end."""
        if self._replies is not None:
            self._replies.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> api.Progress | str:
        while self._last is None:
            if self._replies is None:
                self._replies = await self._pool.stream(
                    self._method, self._request, api.TransferReply, self._descriptors
                )
            answer = await self._replies.next()
            if answer is None:
                raise ProtocolError(f"cannot use the answer to {self._method}: it has no result")
            reply = answer[0]
            if self._replies.finished:
                self._last = reply
            elif reply.progress is not None:
                return reply.progress
            elif reply.text:
                return reply.text
        raise StopAsyncIteration

    async def result(self) -> api.TransferReply:
        """Wait for the end. Raises what it failed of."""
        try:
            async for _ in self:
                pass
        except BaseException:
            self.close()
            raise
        assert self._last is not None  # noqa: S101 - the iteration ends so
        return self._last


class Images(Noun):
    """Made by the engine."""

    interface = "io.pyman.Image"

    # What is there

    async def list(
        self,
        *names: str,
        all: bool = False,  # noqa: A002 - the name that the option has everywhere
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Summaries:
        """The newest first. `names`: references or patterns of them; `all`: also intermediate images of builds."""
        request = api.ListImagesRequest(filters=listed(filters), names=[*names], all=all)
        return (await self._call("List", request, api.ListImagesReply)).images

    async def inspect(self, name: str) -> dict[str, Any]:
        """Podman's document of an image."""
        reply = await self._call("Inspect", api.InspectImagesRequest([name]), api.InspectImagesReply)
        raise_first(reply.errors)
        return reply.images[0]

    async def exists(self, name: str) -> bool:
        return (await self._call("Exists", api.OneNameRequest(name), ExistsReply)).exists

    async def history(self, name: str) -> Steps:
        """The newest step first."""
        return (await self._call("History", api.OneNameRequest(name), api.HistoryReply)).layers

    async def tree(self, name: str, *, whatrequires: bool = False) -> api.TreeReply:
        return await self._call("Tree", api.TreeRequest(name, whatrequires), api.TreeReply)

    async def diff(self, *names: str) -> api.DiffReply:
        """What the last layer changes, or what the first image changes of a second that it is built upon."""
        return await self._call("Diff", api.DiffRequest([*names]), api.DiffReply)

    async def candidates(self, reference: str) -> api.CandidatesReply:
        """What a name may be pulled as, by registries.conf."""
        return await self._call("Candidates", api.CandidatesRequest(reference), api.CandidatesReply)

    # Bringing and sending

    def pull(
        self,
        reference: str,
        *,
        policy: str = "always",
        all_tags: bool = False,
        platform: api.Platform | None = None,
        access: api.RegistryAccess | None = None,
    ) -> Transfer:
        """`policy`: always, missing, newer or never."""
        request = api.PullRequest(
            reference, all_tags, policy, platform or api.Platform(), access or api.RegistryAccess()
        )
        return Transfer(self._pool, "Pull", request)

    def push(
        self,
        name: str,
        destination: str = "",
        *,
        access: api.RegistryAccess | None = None,
        **options: Any,
    ) -> Transfer:
        """`destination`: with a transport, or a name for a registry; none: the image's own name. `options` are fields
        of PushRequest."""
        request = api.PushRequest(name, destination, access or api.RegistryAccess(), **options)
        return Transfer(self._pool, "Push", request)

    def load(self, archive: int) -> Transfer:
        """The images of an archive; a descriptor, which stays the caller's."""
        return Transfer(self._pool, "Load", api.LoadRequest(), [archive])

    def save(self, archive: int, *names: str, format: str = "docker-archive", **options: Any) -> Transfer:  # noqa: A002
        """Write images into an archive; a descriptor, which stays the caller's. `options` are fields of SaveRequest."""
        return Transfer(self._pool, "Save", api.SaveRequest([*names], format, **options), [archive])

    # Changing

    async def tag(self, name: str, *targets: str) -> None:
        await self._call("Tag", api.TagRequest(name, [*targets]), Nothing)

    async def untag(self, name: str, *targets: str) -> None:
        """No targets: all of its names."""
        await self._call("Untag", api.TagRequest(name, [*targets]), Nothing)

    async def remove(self, name: str, *, force: bool = False, no_prune: bool = False) -> api.RemovedImage:
        """`force`: also with several names, and with the containers that use it."""
        request = api.RemoveImagesRequest([name], force=force, no_prune=no_prune)
        reply = await self._call("Remove", request, api.RemoveImagesReply)
        raise_first(reply.errors)
        return reply.images[0]

    async def prune(
        self,
        *,
        all: bool = False,  # noqa: A002 - as above
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> api.RemoveImagesReply:
        """What has no name and is of no use; `all`: whatever no container uses."""
        request = api.PruneImagesRequest(all=all, filters=listed(filters))
        return await self._call("Prune", request, api.RemoveImagesReply)

    async def mount(self, name: str) -> str:
        """Once more; the directory. For an ordinary user's engine it is in that engine's mount namespace."""
        (mounted,) = (await self._call("Mount", api.NamesRequest([name]), api.MountImagesReply)).images
        raise_first([mounted.error])
        return mounted.path

    async def unmount(self, name: str, *, force: bool = False) -> None:
        """One mount, with `force` all; none: nothing is done."""
        request = api.UnmountRequest([name], force=force)
        reply = await self._call("Unmount", request, api.MountImagesReply)
        raise_first(each.error for each in reply.images)
