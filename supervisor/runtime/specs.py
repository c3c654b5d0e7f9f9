"""From a container's definition to what the spec builder asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.oci.request import BuildRequest

if TYPE_CHECKING:
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services

__all__ = ["build_request", "root_of"]


def build_request(services: Services, definition: Definition, root: str) -> BuildRequest:
    """`root`: the root filesystem, where it can be looked into now."""
    return BuildRequest(
        id=definition.id,
        name=definition.name,
        spec=definition.spec,
        rootfs=root,
        hostname=definition.hostname,
        settings=services.settings,
        run_directory=services.layout.container_run(definition.id),
        host_environment=definition.caller.environment,
        caller_cgroup=definition.caller.cgroup,
        stop_signal=definition.stop_signal,
        stop_timeout=definition.stop_timeout,
    )


def root_of(services: Services, definition: Definition) -> str:
    """The root filesystem of a running container, as it is mounted."""
    if definition.spec.rootfs_overlay:
        return services.layout.container_rootfs(definition.id)
    return definition.spec.rootfs
