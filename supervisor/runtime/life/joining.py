"""The namespaces that a run of a container joins: another container's, or those at a path.

They are opened before anything of the run is made, and held until the OCI runtime has made the container: what is opened
belongs to the very process that was meant, and stays what it is whatever becomes of that process and of its number. The
OCI runtime finds them as descriptors of this process. A supervisor that is killed meanwhile takes them with it; the OCI
runtime fails then, and the next supervisor begins anew.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import DeadlineExceeded, InvalidArgument, NotSupported, WrongState
from pyman.names import STATES_WITH_PROCESS
from supervisor.kernel import inside, mounts
from supervisor.oci.etc_files import HOSTS, RESOLV_CONF
from supervisor.oci.mounts import file_in, shared_shm
from supervisor.oci.namespaces import FIELDS, JOINED, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.kernel.process import ProcessRef
    from supervisor.oci.request import BuildRequest
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services

__all__ = ["Joined", "join"]

_WORDS = {"network": "network", "pid": "PID", "ipc": "IPC", "uts": "UTS", "cgroup": "cgroup", "user": "user"}
_SHM = "/dev/shm"  # noqa: S108


class _Wish:
    """One namespace that is to be joined."""

    def __init__(self, kind: str, mode: str, value: str) -> None:
        self.kind = kind
        self.mode = mode
        self.value = value
        """A container's id, or a path."""
        self.option = "--userns" if kind == "user" else OPTIONS[kind]

    def told(self) -> str:
        return f"{self.option} {self.mode}:{self.value}"


def _wishes(definition: Definition) -> Iterator[_Wish]:
    spec, owned = definition.spec, definition.userns
    if owned.container:
        yield _Wish("user", "container", owned.container)
    elif owned.path:
        yield _Wish("user", "ns", owned.path)
    for kind, field in FIELDS.items():
        wish = getattr(spec, field)
        if wish.nsmode in JOINED:
            yield _Wish(kind, wish.nsmode, wish.value)


class Joined:
    """What is held for one run. `close` when the container is made, or will not be."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._held: dict[str, int] = {}
        self._mount = -1
        """The mount namespace of the container whose IPC namespace is joined."""
        self._shm_of = ""
        self.foreign: frozenset[str] = frozenset()
        self.network_files: dict[str, str] | None = None

    @property
    def paths(self) -> dict[str, str]:
        """By the specification's names of the kinds, the user namespace's included."""
        return {kind: inside.path_of(descriptor) for kind, descriptor in self._held.items()}

    def keep(self, kind: str, descriptor: int) -> None:
        self._held[kind] = descriptor
        self._stack.callback(os.close, descriptor)

    def keep_shm(self, name: str, mount: int) -> None:
        """The shared memory is that of the container of this name, which has that mount namespace."""
        self._shm_of, self._mount = name, mount
        self._stack.callback(os.close, mount)

    def check(self, definition: Definition) -> None:
        """NotSupported, InvalidArgument: the container would have no rights over one of them."""
        user = self._held.get("user")
        for kind, descriptor in self._held.items():
            if kind == "user":
                continue
            owner = inside.owner(descriptor)
            if owner is None:
                raise InvalidArgument(
                    f"cannot start container '{definition.name}': the {_WORDS[kind]} namespace that it is to join"
                    f" ({OPTIONS[kind]}) belongs to another user",
                    subject=definition.name,
                )
            os.close(owner)
            if definition.userns.is_own or (user is not None and not inside.has_rights(user, descriptor)):
                self.foreign |= {kind}
        if "pid" in self.foreign:
            raise NotSupported(
                f"cannot start container '{definition.name}': what is in the PID namespace that it is to join (--pid)"
                " cannot be shown in its user namespace",
                subject=definition.name,
                hint="have it join the same container's user namespace, with --userns",
            )

    def stage(self, request: BuildRequest) -> None:
        """Make the other container's /dev/shm ready. Undone as everything that is staged for a container. WrongState,
        OSError."""
        target = shared_shm(request.run_directory)
        if self._mount < 0 or mounts.mounted(target):
            return
        try:
            tree = inside.tree(self._mount, _SHM)
        except OSError as error:
            raise WrongState(
                f"cannot start container '{request.name}': container '{self._shm_of}', whose IPC namespace it joins"
                f" (--ipc), has no {_SHM}: {(error.strerror or str(error)).lower()}",
                subject=request.name,
            ) from error
        try:
            os.makedirs(target, mode=0o700, exist_ok=True)
            mounts.attach(tree, target)
        finally:
            os.close(tree)

    def close(self) -> None:
        self._held.clear()
        self._mount = -1
        self._stack.close()


async def join(services: Services, definition: Definition) -> Joined:
    """Everything that a container joins. WrongState: a container does not run, or was removed. InvalidArgument: there is
    no such namespace at a path. NotSupported: not with this user namespace. DeadlineExceeded."""
    joined = Joined()
    try:
        for wish in _wishes(definition):
            if wish.mode == "ns":
                joined.keep(wish.kind, await _at(services, definition, wish))
                continue
            name, init = _owner(services, definition, wish)
            try:
                joined.keep(wish.kind, inside.of_process(init, wish.kind))
                if wish.kind == "ipc":
                    joined.keep_shm(name, inside.of_process(init, "mount"))
                if wish.kind == "network":
                    joined.network_files = network_files(services, wish.value)
            except ProcessLookupError:
                raise _stopped(definition, wish, name) from None
        joined.check(definition)
    except BaseException:
        joined.close()
        raise
    return joined


def network_files(services: Services, id: str) -> dict[str, str]:
    """What there is of a container's hosts and resolv.conf, which it may have in its turn from another one."""
    owner = services.find(id)
    wish = owner.definition.spec.netns if owner is not None else None
    if wish is not None and wish.nsmode == "container":
        return network_files(services, wish.value)
    run = services.layout.container_run(id)
    files = {path: file_in(run, path) for path in (HOSTS, RESOLV_CONF)}
    return {path: file for path, file in files.items() if os.path.exists(file)}


async def _at(services: Services, definition: Definition, wish: _Wish) -> int:
    deadline = services.settings.pyman.call_deadline
    try:
        with trio.fail_after(deadline):
            look = partial(inside.of_path, wish.value, wish.kind)
            return await trio.to_thread.run_sync(look, limiter=services.disk, abandon_on_cancel=True)
    except trio.TooSlowError:
        raise DeadlineExceeded(
            f"cannot start container '{definition.name}': no answer from '{wish.value}' ({wish.option}) within"
            f" {deadline:g} s",
            subject=definition.name,
        ) from None
    except OSError as error:
        raise InvalidArgument(
            f"cannot use {wish.told()}: {(error.strerror or str(error)).lower()}", subject=wish.value
        ) from error


def _owner(services: Services, definition: Definition, wish: _Wish) -> tuple[str, ProcessRef]:
    """The name and the first process of the container whose namespace is joined."""
    found = services.find(wish.value)
    if found is None:
        raise WrongState(
            f"cannot start container '{definition.name}': the container whose {_WORDS[wish.kind]} namespace it joins"
            f" ({wish.option}) was removed",
            subject=definition.name,
        )
    init = found.observed.init
    if found.state not in STATES_WITH_PROCESS or init is None:
        raise _stopped(definition, wish, found.name)
    return found.name, init


def _stopped(definition: Definition, wish: _Wish, name: str) -> WrongState:
    return WrongState(
        f"cannot start container '{definition.name}': container '{name}', whose {_WORDS[wish.kind]} namespace it joins"
        f" ({wish.option}), does not run",
        subject=name,
        hint=f"start '{name}' first",
    )
