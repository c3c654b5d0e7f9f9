"""The cgroup of a container in systemd mode, given to the container's root where that is nobody to the host.

systemd makes cgroups below its own. In a user namespace its rights are those of whoever root is there outside. OCI
runtimes see to it in some cases: on cgroup v2, where systemd has made the cgroup.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from supervisor.kernel import cgroups, idmaps
from supervisor.logging import log
from supervisor.oci.systemd_mode import is_on
from supervisor.runtime.specs import placement_of

if TYPE_CHECKING:
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["give_cgroup"]


async def give_cgroup(services: Services, container: Container) -> None:
    """Before the command of its first process runs. Where it fails, systemd tells."""
    definition, first = container.definition, container.observed.init
    init = definition.spec.init or services.settings.containers.init
    if first is None or not is_on(definition.spec, init=init) or not placement_of(services, definition).path:
        return
    given = await trio.to_thread.run_sync(partial(_give, first.pid), limiter=services.disk)
    if not given:
        log.warning("cannot give a container its cgroup", container=container.id)


def _give(pid: int) -> bool:
    try:
        maps = idmaps.of_process(pid)
        if not all(idmaps.has_inside(0, lines) for lines in maps):
            return True  # it has no root
        return cgroups.give(pid, idmaps.outside(0, maps.uids), idmaps.outside(0, maps.gids))
    except (OSError, ValueError, TypeError):
        return False  # it has ended, which is told elsewhere
