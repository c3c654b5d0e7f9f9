"""What the state database keeps of a container: its definition and what is wanted and observed of it.

*Wanted* changes when somebody asks for something, *observed* only when something was seen to happen.
Both are frozen; the container's worker replaces them, in memory after the database has them.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

import msgspec

from pyman.api.event import Actor
from pyman.api.spec import Caller, ContainerSpec
from pyman.names import State
from supervisor.kernel.process import ProcessRef
from supervisor.network.plans import Attachment, NetworkPlan, Port
from supervisor.oci import namespaces
from supervisor.oci.given import Given
from supervisor.oci.imaged import ImageUse
from supervisor.oci.mounted import Mounted
from supervisor.oci.spec import Resources
from supervisor.runtime.creation.userns import Owned
from supervisor.runtime.health.state import Health
from supervisor.runtime.life.reporting import Reporting
from supervisor.runtime.life.restart import Asked, History

__all__ = [
    "Definition",
    "ExecDefinition",
    "ExecObserved",
    "Need",
    "Observed",
    "Wanted",
    "decode",
    "encode",
    "replaced",
]


class Wanted(Enum):
    """Where a container shall be. A supervisor that finds it elsewhere takes it there."""

    STOPPED = "stopped"
    INITIALIZED = "initialized"
    RUNNING = "running"
    REMOVED = "removed"


class Need(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container that another one depends on."""

    id: str
    condition: str = "started"
    """What it has to be before the other one starts: started, healthy, or completed (ended with exit code 0)."""


class Definition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a container was created as; of its spec an update changes some."""

    id: str
    name: str
    created: int
    """Nanoseconds since the epoch, as every time here."""
    lock: int
    spec: ContainerSpec
    caller: Caller
    runtime: str
    """The OCI runtime it was created for."""
    hostname: str
    stop_signal: int
    stop_timeout: float
    """Seconds."""
    log_driver: str
    log_path: str
    log_size: int
    log_files: int
    userns: Owned = Owned()
    image: ImageUse = ImageUse()
    mounted: list[Mounted] = []
    """All but its volumes, which the spec has."""
    secrets: list[Given] = []
    """Those that are files; what is in them is in its static directory."""
    subscriptions: list[tuple[str, str]] = []
    """As mounts.conf had them: paths on the host and in the container."""
    needs: list[Need] = []
    """What its user has it depend on; `dependencies.needs_of` knows the rest."""

    @property
    def has_mounts(self) -> bool:
        """Something may have to be made ready around a run."""
        return bool(self.mounted or self.spec.volumes or self.is_given)

    @property
    def is_given(self) -> bool:
        """The engine has small files for it, which it gets in a file system of their own."""
        return bool(self.secrets or self.subscriptions)

    @property
    def joins(self) -> bool:
        """A run of it begins in a namespace that is there already."""
        return bool(self.userns.container or self.userns.path) or namespaces.joins(self.spec)

    @property
    def image_name(self) -> str:
        """As it is shown; empty: it has no image."""
        return self.image.name or self.image.id[:12]


class Observed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a container, and what is wanted of it."""

    state: State = State.CREATED
    wanted: Wanted = Wanted.STOPPED
    asked: Asked = Asked.NOTHING
    """What a user asked for that decides about the next end."""
    asked_by: Actor | None = None
    """Whose wish that is, or the start that is not done yet."""
    run: int = 0
    """How many times it was initialized."""
    monitor: ProcessRef | None = None
    init: ProcessRef | None = None
    """The container's first process."""
    monitor_state: str = ""
    """ok, lost, wedged; empty: there is none."""
    started_at: int = 0
    finished_at: int = 0
    exit_code: int | None = None
    """None: it has not ended yet, or `exit_known` is false."""
    exit_known: bool = True
    oom_killed: bool = False
    error: str = ""
    """Why the last start failed."""
    stop_deadline: int = 0
    """When SIGKILL follows; 0: no stop in progress."""
    stop_signal: int = 0
    """What that stop sends first."""
    forced: bool = False
    """SIGKILL was sent, or is about to be: the stop signal did not help, or a user wanted it."""
    freezing: bool = False
    """A pause or unpause was begun; whether it happened, the OCI runtime knows. Also of a stop that has to thaw."""
    new_limits: Resources | None = None
    """Those that its cgroup is being given. Until it has them all, and the definition as well, the definition's hold."""
    leaving: bool = False
    """It has ended for good: its removal is recorded and told, its name is free, nobody sees it any more.
    What is left of it is being taken away."""
    volumes: bool = False
    """Its anonymous volumes go with it."""
    mounts: int = 0
    """How often people have mounted its root filesystem."""
    history: History = History()
    restart_at: int = 0
    """When the policy starts it again; 0: it does not."""
    restart_delay: float = 0.0
    restart_reason: str = ""
    next_trigger: str = ""
    """What the coming start is due to: policy, boot, user."""
    again: bool = False
    """The coming start is a restart."""
    health: Health = Health()
    """Of the present run, or the last one."""
    reporting: Reporting | None = None
    """To whom it tells that it is ready."""
    attachments: list[Attachment] = []
    """What it is on networks with, from the wish to start it until all of that run is taken down."""
    networks: list[NetworkPlan] = []
    """Those networks as they were then: definitions are files that others may change."""
    rewiring: str = ""
    """A network that it is being put on, or taken off, while it runs: in the latter case its definition has that."""
    ports: list[Port] = []
    """Of the host that lead into it, for the same time."""

    @property
    def leased(self) -> bool:
        """DHCP servers give addresses of its."""
        return any(network.leased for network in self.networks)

    @property
    def hairpin(self) -> bool:
        """What it sends to a port of the host may lead back to it."""
        return bool(self.ports)

    @property
    def holds(self) -> bool:
        """Addresses or ports are its own."""
        return bool(self.attachments or self.ports)


class ExecDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exec session as it was asked for."""

    id: str
    container: str
    command: list[str]
    user: str
    terminal: bool
    stdin: bool
    privileged: bool
    detach: bool
    detach_keys: str
    created: int
    actor: Actor | None = None


class ExecObserved(msgspec.Struct, frozen=True, omit_defaults=True):
    monitor: ProcessRef | None = None
    pid: int = 0
    command: ProcessRef | None = None
    """The process of that pid, if it was still there when it was told."""
    exit_code: int | None = None


encode = msgspec.json.Encoder().encode


_T = TypeVar("_T", bound=msgspec.Struct)


def replaced(record: _T, **changes: Any) -> _T:
    """The record with some fields changed."""
    return msgspec.structs.replace(record, **changes)


def decode(data: bytes, kind: type[_T]) -> _T:
    """A record as it was stored. Raises msgspec.DecodeError where it is not one."""
    return msgspec.json.decode(data, type=kind)
