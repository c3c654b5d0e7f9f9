"""From a container's definition to what the spec builder asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pyman.errors import StorageFailed
from supervisor.oci import build
from supervisor.oci.mounted import mounted_volume
from supervisor.oci.placement import place_of
from supervisor.oci.request import BuildRequest, UserNamespace
from supervisor.runtime.creation.userns import account_of
from supervisor.storage import rootfs

if TYPE_CHECKING:
    from supervisor.oci.placement import Placement
    from supervisor.oci.request import ExecBuildRequest, Networking
    from supervisor.runtime.life.joining import Joined
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services

__all__ = ["HIDDEN", "build_exec", "build_request", "placement_of", "root_of"]


class _WrittenProcess(msgspec.Struct):
    env: list[str] = []


class _Written(msgspec.Struct):
    """What is read back of a config.json."""

    process: _WrittenProcess


HIDDEN = "*******"
"""What is shown instead of the value of a variable that is a secret."""


def build_request(
    services: Services,
    definition: Definition,
    root: str,
    userns: UserNamespace | None = None,
    joined: Joined | None = None,
    secrets: dict[str, str] | None = None,
    networking: Networking | None = None,
) -> BuildRequest:
    """`root`: the root filesystem, where it can be looked into now. `userns`: the container's user namespace, as it is
    for this run; unless given, what the definition says of it. `joined`: the namespaces that this run joins. `secrets`:
    the values of variables that are secrets, for what is about to run; else they are hidden. `networking`: of this run."""
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
        secrets=definition.secrets,
        secret_environment=dict.fromkeys(definition.spec.secret_env, HIDDEN) if secrets is None else secrets,
        subscriptions=definition.subscriptions,
        mounted=[*definition.mounted, *map(mounted_volume, definition.spec.volumes)],
        userns=userns,
        joined={} if joined is None else joined.paths,
        network_files=None if joined is None else joined.network_files,
        foreign=frozenset() if joined is None else joined.foreign,
        networking=networking,
        account=account_of(services, definition),
        run_directory=services.layout.container_run(definition.id),
        host_environment=definition.caller.environment,
        caller_cgroup=definition.caller.cgroup,
        stop_signal=definition.stop_signal,
        stop_timeout=definition.stop_timeout,
    )


def build_exec(request: ExecBuildRequest) -> bytes:
    """The process of an exec. It has the secrets of the container's command: those of the start, whatever became of them
    since. Blocks."""
    container = request.container
    if container.spec.secret_env:
        values = _secrets_of_run(container)
        container = msgspec.structs.replace(container, secret_environment=values)
        request = msgspec.structs.replace(request, container=container)
    return build.build_exec(request)


def _secrets_of_run(request: BuildRequest) -> dict[str, str]:
    path = f"{request.run_directory}/config.json"
    try:
        with open(path, "rb") as file:
            written = msgspec.json.decode(file.read(), type=_Written)
    except (OSError, msgspec.DecodeError):
        # Without what was wrong: it could be a part of a secret.
        raise StorageFailed(f"cannot read the secrets of the container's command in '{path}'") from None
    pairs = dict(line.partition("=")[::2] for line in written.process.env)
    return {name: pairs[name] for name in request.spec.secret_env if name in pairs}


def placement_of(services: Services, definition: Definition) -> Placement:
    """Of the container's cgroup."""
    return place_of(services.settings, definition.spec, definition.caller.cgroup, definition.id)


def root_of(services: Services, definition: Definition) -> str:
    """The root filesystem of a running container, as it is mounted."""
    return rootfs.root_of(services.layout, definition.id, definition.spec)
