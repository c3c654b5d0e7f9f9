"""`io.pyman.System`: the supervisor about itself."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from pyman.api.method import Nothing
from pyman.errors import InvalidArgument, OptionDiffers
from supervisor.rpc.rootfs import actor_of
from supervisor.runtime.recovery import check
from supervisor.runtime.views import info

if TYPE_CHECKING:
    from pyman.api import system as api
    from pyman.api.usage import DiskUsageReply, PruneSystemReply, PruneSystemRequest
    from supervisor.rpc.dispatch import Call
    from supervisor.rpc.handlers import Control
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.registry import View

__all__ = ["SystemHandlers"]


class SystemHandlers:
    def __init__(self, engine: Engine, control: Control) -> None:
        self._engine = engine
        self._control = control

    async def version(self, request: Nothing, call: Call) -> api.VersionReply:
        return info.version()

    async def info(self, request: Nothing, call: Call) -> api.InfoReply:
        self._engine.check_valid()
        return await info.info(self._engine, self._control.facts)

    async def match(self, request: api.MatchRequest, call: Call) -> Nothing:
        """The first option that differs is refused by name."""
        layout, options = self._engine.layout, self._engine.settings.options
        present = {
            "root": layout.graph_root,
            "runroot": layout.run_root,
            "tmpdir": layout.tmp,
            "config": os.path.abspath(options.config) if options.config else "",
            "network_config_dir": layout.networks,
        }
        for name, has in present.items():
            wanted = getattr(request, name)
            if wanted and os.path.abspath(wanted) != has:
                option = name.replace("_", "-")
                raise OptionDiffers(
                    f"cannot use --{option} '{wanted}': the running supervisor has '{has}'",
                    subject=option,
                    hint="give another --root, or stop that supervisor first",
                )
        if request.namespace:
            call.session["namespace"] = request.namespace
        return Nothing()

    async def reload(self, request: Nothing, call: Call) -> api.ReloadReply:
        self._engine.check_valid()
        return self._control.reload()

    async def locks(self, request: Nothing, call: Call) -> api.LocksReply:
        self._engine.check_valid()
        return check.locks(self._engine)

    async def check(self, request: api.CheckRequest, call: Call) -> api.CheckReply:
        self._engine.check_valid()
        return await check.check(self._engine, repair=request.repair)

    async def disk_usage(self, request: Nothing, call: Call) -> DiskUsageReply:
        from supervisor.runtime.views.disk import disk_usage

        return await disk_usage(self._engine.services, self._view(call).containers)

    async def prune(self, request: PruneSystemRequest, call: Call) -> PruneSystemReply:
        from supervisor.runtime.pruning import prune_system

        work = partial(prune_system, self._engine, self._view(call), request, actor_of(call))
        reply: PruneSystemReply = await self._engine.background(work).get()
        return reply

    def _view(self, call: Call) -> View:
        return self._engine.view(call.session.get("namespace", ""))

    async def shutdown(self, request: api.ShutdownRequest, call: Call) -> Nothing:
        if request.containers not in ("leave", "stop"):
            raise InvalidArgument(f"cannot '{request.containers}' containers", hint="give leave or stop")
        self._control.request_shutdown(request.containers)
        return Nothing()
