"""Containers through the asynchronous client: `engine.containers`.

Where a method takes `which`, a name or id means that container, and its failure is raised; a `Selection`
means any number, each with its own `Result`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, overload

import msgspec

from pyman.api import container as api
from pyman.api.copying import CopyAcrossRequest, CopyInRequest, CopyOutRequest, CopyReply
from pyman.api.method import Nothing
from pyman.api.spec import Caller, ContainerSpec
from pyman.api.update import UpdateRequest
from pyman.api.usage import PruneContainersReply, PruneContainersRequest
from pyman.api.watching import StatsRequest, TopReply, TopRequest
from pyman.errors import InvalidArgument, NoSuchContainer, ProtocolError
from pyman.hostpaths import destination, means_contents, name_of, opened, opened_directory
from pyman.sdk.connection import close_all
from pyman.sdk.logs import Logs
from pyman.sdk.noun import Noun, listed, raise_first
from pyman.sdk.session import Session
from pyman.sdk.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyman.api.container import Result, Selection
    from pyman.api.inspect import ExecInspect, InspectContainer
    from pyman.api.usage import Pruned

__all__ = ["Containers"]

Results = list["Result"]
Listed = list[api.ListContainer]


class Containers(Noun):
    """Made by the engine."""

    interface = "io.pyman.Container"

    # Making and running

    async def create(
        self,
        spec: ContainerSpec | None = None,
        *,
        caller: Caller | None = None,
        replace: bool = False,
        **fields: Any,
    ) -> api.CreateReply:
        """Define a container: by a spec, by its fields (`rootfs="/srv/x", command=["true"]`), or both."""
        spec, caller = _asked(spec, caller, fields)
        return await self._call("Create", api.CreateRequest(spec, caller, replace), api.CreateReply)

    async def run(
        self,
        spec: ContainerSpec | None = None,
        *,
        attach: bool = True,
        detach: bool = False,
        stdin: bool = False,
        caller: Caller | None = None,
        replace: bool = False,
        stdio: tuple[int, int, int] | None = None,
        preserve: Mapping[int, int] | None = None,
        **fields: Any,
    ) -> Session[api.RunReply]:
        """Create and start; returns when the command runs, or raises.

        `attach`: the session has the streams; `stdin`: also the input (the container is made with one).
        `detach`: nothing is held open; the session's `wait` asks the journal.
        `stdio`: three descriptors for the log driver `passthrough`; they stay the caller's.
        `preserve`: further descriptors that it gets, by their numbers there, from 3 on; they stay the caller's, too.
        """
        if preserve:
            fields["preserve_fd"] = [*preserve]
        if stdin:
            fields["stdin"] = True
        spec, caller = _asked(spec, caller, fields)
        request = api.RunRequest(
            spec, caller, replace, attach=attach and not detach, detach=detach, attach_stdin=stdin
        )
        return await self._session(
            "Run", request, api.RunReply, "started", [*(stdio or ()), *(preserve or {}).values()]
        )

    async def attach(self, name: str, *, start: bool = False, stdin: bool = True) -> Session[api.AttachReply]:
        """The streams of a container; `start`: start it first if it does not run, so that nothing is missed."""
        request = api.AttachRequest(name, start=start, stdin=stdin)
        return await self._session("Attach", request, api.AttachReply, "attached")

    async def exec(
        self,
        name: str,
        command: Sequence[str],
        *,
        detach: bool = False,
        preserve: Mapping[int, int] | None = None,
        **fields: Any,
    ) -> Session[api.ExecReply]:
        """Run a further command; `fields` are those of ExecRequest (`env`, `user`, `stdin`, `terminal`, …).

        A detached one has no streams, and its `wait` asks the journal. `preserve`: as for `run`.
        """
        given = preserve or {}
        request = api.ExecRequest(name, list(command), detach=detach, preserve_fd=[*given], **fields)
        return await self._session("Exec", request, api.ExecReply, "started", [*given.values()])

    async def health_check(self, name: str) -> str:
        """Run its health check once, now: healthy, unhealthy, starting (the start-up check failed) or stopped."""
        request = api.NameRequest(name)
        return (await self._call("HealthCheck", request, api.HealthCheckReply)).status

    async def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[Pruned]:
        """Remove those that do not run and will not by themselves; `filters`: label, label!, until."""
        request = PruneContainersRequest(listed(filters))
        return (await self._call("Prune", request, PruneContainersReply)).containers

    # The life of containers

    @overload
    async def init(self, which: str) -> Result: ...
    @overload
    async def init(self, which: Selection) -> Results: ...
    async def init(self, which: str | Selection) -> Result | Results:
        """Create it in the OCI runtime, without starting its command."""
        return await self._each("Init", which, api.SelectionRequest(_selection(which)))

    @overload
    async def start(self, which: str) -> Result: ...
    @overload
    async def start(self, which: Selection) -> Results: ...
    async def start(self, which: str | Selection) -> Result | Results:
        return await self._each("Start", which, api.SelectionRequest(_selection(which)))

    @overload
    async def stop(self, which: str, *, timeout: float | None = ..., signal: str = ...) -> Result: ...
    @overload
    async def stop(self, which: Selection, *, timeout: float | None = ..., signal: str = ...) -> Results: ...
    async def stop(
        self, which: str | Selection, *, timeout: float | None = None, signal: str = ""
    ) -> Result | Results:
        """`timeout`: seconds until SIGKILL; none: the container's own."""
        return await self._each("Stop", which, api.StopRequest(_selection(which), timeout, signal))

    @overload
    async def restart(self, which: str, *, timeout: float | None = ...) -> Result: ...
    @overload
    async def restart(self, which: Selection, *, timeout: float | None = ...) -> Results: ...
    async def restart(self, which: str | Selection, *, timeout: float | None = None) -> Result | Results:
        return await self._each("Restart", which, api.RestartRequest(_selection(which), timeout))

    @overload
    async def kill(self, which: str, signal: str = ...) -> Result: ...
    @overload
    async def kill(self, which: Selection, signal: str = ...) -> Results: ...
    async def kill(self, which: str | Selection, signal: str = "KILL") -> Result | Results:
        return await self._each("Kill", which, api.KillRequest(_selection(which), signal))

    @overload
    async def pause(self, which: str) -> Result: ...
    @overload
    async def pause(self, which: Selection) -> Results: ...
    async def pause(self, which: str | Selection) -> Result | Results:
        return await self._each("Pause", which, api.SelectionRequest(_selection(which)))

    @overload
    async def unpause(self, which: str) -> Result: ...
    @overload
    async def unpause(self, which: Selection) -> Results: ...
    async def unpause(self, which: str | Selection) -> Result | Results:
        return await self._each("Unpause", which, api.SelectionRequest(_selection(which)))

    @overload
    async def remove(self, which: str, *, force: bool = ..., timeout: float | None = ...) -> Result: ...
    @overload
    async def remove(
        self, which: Selection, *, force: bool = ..., timeout: float | None = ...
    ) -> Results: ...
    async def remove(
        self, which: str | Selection, *, force: bool = False, timeout: float | None = None
    ) -> Result | Results:
        """`force`: also one that runs, and one that does not exist; `timeout` as for `stop`."""
        request = api.RemoveRequest(_selection(which), force=force, ignore=force, timeout=timeout)
        return await self._each("Remove", which, request)

    @overload
    async def wait(self, which: str, *conditions: str) -> int: ...
    @overload
    async def wait(self, which: Selection, *conditions: str) -> Results: ...
    async def wait(self, which: str | Selection, *conditions: str) -> int | Results:
        """Until it is in one of the conditions (default: it has ended); the exit code, -1 unless that was its end."""
        request = api.WaitRequest(_selection(which), list(conditions))
        answer = await self._each("Wait", which, request)
        if isinstance(answer, list):
            return answer
        return -1 if answer.exit_code is None else answer.exit_code

    async def rename(self, name: str, new_name: str) -> None:
        await self._call("Rename", api.RenameRequest(name, new_name), Nothing)

    async def update(self, name: str, **changes: Any) -> api.CreateReply:
        """`changes`: fields of `UpdateRequest`, such as `resource_limits=ResourceLimits(…)`; all of them, or nothing."""
        return await self._call("Update", UpdateRequest(name, **changes), api.CreateReply)

    async def resize(self, name: str, rows: int, columns: int) -> None:
        """The size of its terminal, in characters."""
        await self._call("Resize", api.ResizeRequest(rows, columns, name=name), Nothing)

    # Files

    async def copy_in(
        self,
        name: str,
        path: str,
        *,
        source: str | os.PathLike[str] = "",
        archive: int = -1,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> CopyReply:
        """Copy the file or directory `source` to a path in the container; or unpack a tar archive there, from a descriptor
        that stays the caller's.

        `source` with `/.` at its end: what is in the directory. `keep_owner`: else the container's user owns the copy.
        `overwrite`: a directory may be replaced by something else, and the other way round.
        """
        if (archive < 0) is not bool(source):
            raise InvalidArgument("cannot copy into a container: give either a source or an archive")
        request = CopyInRequest(name, path, archive=not keep_owner, overwrite=overwrite)
        if archive >= 0:
            return await self._call("CopyIn", request, CopyReply, [archive])
        own = os.fspath(source)
        called, contents = name_of(own)
        request = msgspec.structs.replace(request, source=called, contents=contents)
        with opened(own) as descriptor:
            return await self._call("CopyIn", request, CopyReply, [descriptor])

    async def copy_out(
        self,
        name: str,
        path: str,
        *,
        target: str | os.PathLike[str] = "",
        archive: int = -1,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> CopyReply:
        """Copy what is at a path in the container to `target`, or write a tar archive of it to a descriptor.

        `path` with `/.` at its end: what is in the directory. `keep_owner`: else everything in an archive belongs to the
        container's user; what comes to `target` belongs to the caller. `overwrite`: as with `copy_in`.
        """
        if (archive < 0) is not bool(target):
            raise InvalidArgument("cannot copy out of a container: give either a target or an archive")
        request = CopyOutRequest(
            name, path, contents=means_contents(path), archive=not keep_owner, overwrite=overwrite
        )
        if archive >= 0:
            request = msgspec.structs.replace(request, as_archive=True)
            return await self._call("CopyOut", request, CopyReply, [archive])
        own = os.fspath(target)
        directory, called, exists = destination(own)
        request = msgspec.structs.replace(request, target=called, exists=exists)
        with opened_directory(directory, own) as descriptor:
            return await self._call("CopyOut", request, CopyReply, [descriptor])

    async def copy_across(
        self,
        source: str,
        source_path: str,
        target: str,
        target_path: str,
        *,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> CopyReply:
        """Copy from one container to another, or within one. See `copy_in`."""
        contents = means_contents(source_path)
        request = CopyAcrossRequest(
            source, source_path, target, target_path, contents, not keep_owner, overwrite
        )
        return await self._call("CopyAcross", request, CopyReply)

    # What is known of them

    async def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the name that the option has everywhere
        filters: Mapping[str, Sequence[str]] | None = None,
        last: int = 0,
        size: bool = False,
    ) -> Listed:
        """Newest first. `all`: also those that do not run."""
        request = api.ListRequest(all=all, last=last, size=size, filters=listed(filters))
        return (await self._call("List", request, api.ListReply)).containers

    async def inspect(self, name: str, *, size: bool = False) -> InspectContainer:
        reply = await self._call("Inspect", api.InspectRequest([name], size=size), api.InspectReply)
        raise_first(reply.errors)
        if not reply.containers:
            raise NoSuchContainer(f"cannot find the container '{name}'", subject=name)
        return reply.containers[0]

    async def exec_inspect(self, exec_id: str) -> ExecInspect:
        request = api.ExecInspectRequest(exec_id)
        return (await self._call("ExecInspect", request, api.ExecInspectReply)).session

    async def exists(self, name: str) -> bool:
        return (await self._call("Exists", api.ExistsRequest(name), api.ExistsReply)).exists

    async def why(self, name: str) -> api.WhyReply:
        """Why it was, or was not, restarted."""
        return await self._call("Why", api.NameRequest(name), api.WhyReply)

    async def top(self, name: str, *descriptors: str) -> TopReply:
        """Its processes; the columns are those of the command line (`pid`, `user`, `args`, …)."""
        return await self._call("Top", TopRequest(name, descriptors=[*descriptors]), TopReply)

    def stats(
        self,
        *names: str,
        all: bool = False,  # noqa: A002 - the name that the option has everywhere
        latest: bool = False,
        follow: bool = True,
        interval: float = 5.0,
    ) -> Stats:
        """An iterator over lists: what these containers use, or all of them, or those that run.

        `follow=False`: one list, at once. `interval`: seconds between two.
        """
        request = StatsRequest([*names], all=all, latest=latest, stream=follow, interval=interval)
        return Stats(self._pool, request)

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Logs:
        """An iterator over the lines. `follow`: until the container has ended, or is removed.

        `tail`: begin with the last so many lines. `since`, `until`: seconds since the epoch.
        """
        request = api.LogsRequest([name], follow=follow)
        return Logs(self._pool, request, tail=tail, since=since, until=until)

    # How

    async def _each(self, method: str, which: str | Selection, request: msgspec.Struct) -> Result | Results:
        results = (await self._call(method, request, api.ResultsReply)).results
        if not isinstance(which, str):
            return results
        if len(results) != 1:
            raise ProtocolError(f"cannot use the answer to {method}: {len(results)} results for '{which}'")
        raise_first([results[0].error])
        return results[0]

    async def _session(
        self, method: str, request: msgspec.Struct, kind: type[Any], awaited: str, stdio: Sequence[int] = ()
    ) -> Session[Any]:
        """Read replies up to the one with which the process runs."""
        begun = time.time_ns()
        replies = await self._pool.stream(f"{self.interface}.{method}", request, kind, stdio)
        warnings: list[str] = []
        try:
            while (answer := await replies.next()) is not None:
                reply, descriptors = answer
                warnings += getattr(reply, "warnings", [])
                if reply.phase == awaited or reply.exit_code is not None:
                    session = Session(self._pool, replies, reply, descriptors, begun)
                    session.id = reply.id
                    session.name = getattr(reply, "name", "")
                    session.exec_id = getattr(reply, "exec_id", "")
                    session.warnings = warnings
                    return session
                close_all(descriptors)
        except BaseException:
            replies.close()
            raise
        raise ProtocolError(f"cannot use the answer to {method}: it ended before it said '{awaited}'")


def _selection(which: str | Selection) -> Selection:
    return api.Selection([which]) if isinstance(which, str) else which


def _asked(
    spec: ContainerSpec | None, caller: Caller | None, fields: dict[str, Any]
) -> tuple[ContainerSpec, Caller]:
    spec = msgspec.structs.replace(spec or ContainerSpec(), **fields)
    if caller is None:
        environment = dict(os.environ) if spec.env_host else {}
        caller = Caller(cwd=os.getcwd(), environment=environment)
    return spec, caller
