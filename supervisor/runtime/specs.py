"""From a container's definition to what the spec builder asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.oci.mounted import mounted_volume
from supervisor.oci.placement import place_of
from supervisor.oci.request import BuildRequest, UserNamespace
from supervisor.runtime.creation.userns import account_of
from supervisor.storage import rootfs

if TYPE_CHECKING:
    from supervisor.oci.placement import Placement
    from supervisor.runtime.life.joining import Joined
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services

__all__ = ["build_request", "placement_of", "root_of"]


def build_request(
    services: Services,
    definition: Definition,
    root: str,
    userns: UserNamespace | None = None,
    joined: Joined | None = None,
) -> BuildRequest:
    """`root`: the root filesystem, where it can be looked into now. `userns`: the container's user namespace, as it is
    for this run; unless given, what the definition says of it. `joined`: the namespaces that this run joins."""
    owned = definition.userns
    if userns is None and owned.maps.uids:
        userns = UserNamespace(owned.maps)
    return BuildRequest(
        id=definition.id,
        name=definition.name,
        spec=definition.spec,
        rootfs=root,
        hostname=definition.hostname,
        settings=services.settings,
        image=definition.image,
        volumes=services.volumes.paths(definition.spec.volumes),
        volumes_directory=services.layout.container_volumes(definition.id),
        mounted=[*definition.mounted, *map(mounted_volume, definition.spec.volumes)],
        userns=userns,
        joined={} if joined is None else joined.paths,
        network_files={} if joined is None else joined.network_files,
        foreign=frozenset() if joined is None else joined.foreign,
        account=account_of(services, definition),
        run_directory=services.layout.container_run(definition.id),
        host_environment=definition.caller.environment,
        caller_cgroup=definition.caller.cgroup,
        stop_signal=definition.stop_signal,
        stop_timeout=definition.stop_timeout,
    )


def placement_of(services: Services, definition: Definition) -> Placement:
    """Of the container's cgroup."""
    return place_of(services.settings, definition.spec, definition.caller.cgroup, definition.id)


def root_of(services: Services, definition: Definition) -> str:
    """The root filesystem of a running container, as it is mounted."""
    return rootfs.root_of(services.layout, definition.id, definition.spec)
