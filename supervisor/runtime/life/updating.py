"""Changes of what a container may use, and of how it is looked after, while it exists.

All that was asked for is checked first. Where the container has a cgroup, the limits that it is to have are committed
as an intent; then the OCI runtime sets them, and `relimit` what no OCI runtime can; then definition and event are
committed together with the end of the intent. Whatever fails in between is taken back; a supervisor that finds an
intent takes it back as well, for nobody was told that it was done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.errors import PymanError, RuntimeFailed
from pyman.names import STATES_WITH_PROCESS, EventStatus, State
from supervisor.kernel import cgroups
from supervisor.logging import log
from supervisor.oci import resources
from supervisor.oci.host import this_host
from supervisor.oci.spec import Resources
from supervisor.runtime.health.plan import check_plan, plan_of
from supervisor.runtime.health.state import HEALTHY, STARTING, Health
from supervisor.runtime.life.policy import check_policy
from supervisor.runtime.records import replaced
from supervisor.runtime.specs import build_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyman.api.spec import ContainerSpec
    from pyman.api.update import UpdateRequest
    from supervisor.runtime.life import requests as rq
    from supervisor.runtime.life.worker import Worker
    from supervisor.runtime.records import Definition
    from supervisor.state.database import EventDraft

__all__ = ["Updating"]


class Updating:
    """The worker's part for `update`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def update(self, request: rq.Update) -> None:
        worker = self._worker
        worker.require(set(State) - {State.REMOVING}, "update")
        old = worker.container.definition
        new = self._amended(old, request.change)
        event = worker.event(EventStatus.UPDATE, request.actor)
        wanted = self._limits(new)
        if wanted == self._limits(old) or not self._runs():
            await self._commit(new, event)
        else:
            await self._restore()  # of an earlier one, where that has failed
            await worker.note(new_limits=wanted)
            try:
                await self._apply(self._limits(old), wanted)
                await self._commit(new, event, new_limits=None)
            except PymanError:
                await self.take_back()
                if self._runs():
                    raise
                # It has ended meanwhile: the next run has them.
                await self._commit(new, event, new_limits=None)
        request.answer.give(None)

    def _amended(self, old: Definition, change: UpdateRequest) -> Definition:
        """Everything that is wrong with it is told here. InvalidArgument, NotSupported."""
        # Imported here, as what is seldom asked for.
        from supervisor.oci import build, limits
        from supervisor.runtime.creation.amending import HEALTH_FIELDS, LIMIT_FIELDS, amended
        from supervisor.runtime.creation.defining import check_texts

        services = self._worker.services
        check_texts(change)
        spec = amended(old.spec, change)
        new = replaced(old, spec=spec)
        runtime = services.runtimes.pick(old.runtime)
        check_policy(spec)
        # What is left as it is need not be possible any more: a device may have gone.
        if _differ(old.spec, spec, HEALTH_FIELDS):
            check_plan(spec, old.image.healthcheck)
        if _differ(old.spec, spec, LIMIT_FIELDS):
            resources.check(services.settings, spec, old.caller.cgroup, old.id, runtime)
        request = build_request(services, new, "")
        if change.r_limits:
            limits.rlimits(request)
        if change.env:
            build.environment_of(request, "/")
        return new

    async def _commit(self, new: Definition, event: EventDraft, **changes: Any) -> None:
        """Definition, event and what changes in the record, or nothing of it."""
        worker = self._worker
        before = worker.container.health_plan
        await worker.redefine(new, [event], **changes, **self._health(new))
        if worker.container.health_plan != before:
            worker.checking.stop()
        worker.checking.follow()

    def _health(self, new: Definition) -> dict[str, Any]:
        """What becomes of a running container's health when its check is another one."""
        before, after = self._worker.container.health_plan, plan_of(new.spec, new.image.healthcheck)
        health = self._worker.observed.health
        if before == after or self._worker.observed.state not in STATES_WITH_PROCESS:
            return {}
        if after is None:
            return {"health": Health()}
        if before is None:
            return {"health": Health(status=STARTING)}
        if before.startup is None and after.startup is not None and health.status == HEALTHY:
            return {"health": replaced(health, passed=True)}  # its start is over
        return {}

    # ------------------------------------------------------------------ limits

    def _limits(self, definition: Definition) -> Resources:
        """None where they are not possible any more, or there is no cgroup."""
        worker = self._worker
        try:
            return (
                resources.limits_of(worker.services.settings, definition.spec, worker.body.placement)
                or Resources()
            )
        except PymanError:
            return Resources()

    def _runs(self) -> bool:
        """There is a cgroup with the container's processes in it."""
        worker = self._worker
        alive = worker.init_fd is not None and not worker.init_fd.exited()
        return alive and worker.observed.state in STATES_WITH_PROCESS and bool(worker.body.placement.path)

    async def take_back(self) -> None:
        """The definition's limits instead of those that were begun. Where that fails it is tried again after a while."""
        worker = self._worker
        try:
            await self._restore()
        except PymanError as error:
            log.warning("limits not taken back", container=worker.container.id, error=str(error))
            worker.take_up_later()

    async def _restore(self) -> None:
        worker = self._worker
        begun = worker.observed.new_limits
        if begun is not None:
            if self._runs():
                await self._apply(begun, self._limits(worker.container.definition))
            await worker.note(new_limits=None)

    async def _apply(self, old: Resources, new: Resources) -> None:
        """Not before a call of an earlier supervisor's is over: it would have the last word."""
        from supervisor.kernel.held import held
        from supervisor.oci import relimit

        worker = self._worker
        body, id, name = worker.body, worker.container.id, worker.container.name
        unified = this_host().unified
        told = relimit.for_runtime(old, new, unified=unified, kind=body.runtime.kind)
        settle = partial(relimit.settle, self._cgroup(), old, new, unified=unified)
        lock = f"{worker.services.layout.container_bundle(id)}/update.lock"
        try:
            async with held(lock, body.deadline) as descriptor:
                if told is not None:
                    await body.runtime.update(id, name, msgspec.json.encode(told), descriptor)
                await trio.to_thread.run_sync(settle, limiter=worker.services.disk)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RuntimeFailed(
                f"cannot update container '{name}': the kernel refuses it in '{error.filename}': {reason}",
                subject=name,
            ) from error

    def _cgroup(self) -> str:
        """The container's, of which its processes may have made others. crun has it in the scope, not as the scope."""
        worker = self._worker
        place, init = worker.body.placement, worker.observed.init
        if not place.systemd or init is None:
            return place.path
        head, scope, below = cgroups.own_path(init.pid).partition(f"pyman-{worker.container.id}.scope")
        inner = "/container" if f"{below}/".startswith("/container/") else ""
        return f"{head}{scope}{inner}"


def _differ(old: ContainerSpec, new: ContainerSpec, fields: Iterable[str]) -> bool:
    return any(getattr(old, field) != getattr(new, field) for field in fields)
