"""`io.pyman.Container`: the life of containers, their output and what is known of them."""

from __future__ import annotations

import msgspec

from pyman.api.copying import CopyAcrossRequest, CopyInRequest, CopyOutRequest, CopyReply
from pyman.api.inspect import ExecInspect, InspectContainer
from pyman.api.method import Access, Interface, Method, Nothing, Vanish
from pyman.api.pull import Progress, PullWish
from pyman.api.rootfs import (
    ChangesReply,
    ChangesRequest,
    CommitReply,
    CommitRequest,
    ExportRequest,
    MountReply,
    MountRequest,
    UnmountRequest,
)
from pyman.api.selection import ErrorInfo, Result, ResultsReply, Selection
from pyman.api.spec import Caller, ContainerSpec, PortMapping
from pyman.api.update import UpdateRequest
from pyman.api.usage import PruneContainersReply, PruneContainersRequest
from pyman.api.watching import StatsReply, StatsRequest, TopReply, TopRequest

__all__ = [
    "INTERFACE",
    "AttachReply",
    "AttachRequest",
    "CreateReply",
    "CreateRequest",
    "ErrorInfo",
    "ExecInspectReply",
    "ExecInspectRequest",
    "ExecReply",
    "ExecRequest",
    "ExistsReply",
    "ExistsRequest",
    "HealthCheckReply",
    "InspectReply",
    "InspectRequest",
    "KillRequest",
    "ListContainer",
    "ListReply",
    "ListRequest",
    "LogsReply",
    "LogsRequest",
    "NameRequest",
    "RemoveRequest",
    "RenameRequest",
    "ResizeRequest",
    "RestartRequest",
    "Result",
    "ResultsReply",
    "RunReply",
    "RunRequest",
    "Selection",
    "SelectionRequest",
    "StopRequest",
    "WaitRequest",
    "WhyReply",
    "WhyStep",
]


class CreateRequest(msgspec.Struct, frozen=True):
    """With `more` the replies before the last one tell how the image is brought here."""

    spec: ContainerSpec
    caller: Caller = Caller()
    replace: bool = False
    """Remove a container of the same name first, with force."""
    pull: PullWish = PullWish()


class CreateReply(msgspec.Struct, frozen=True):
    id: str
    """Empty: the image is still being pulled."""
    name: str
    warnings: list[str] = []
    text: str = ""
    """A line for people, of a pull."""
    progress: Progress | None = None


class RunRequest(msgspec.Struct, frozen=True):
    """Create and start. With the log driver `passthrough` the request brings three descriptors
    (stdin, stdout, stderr) that become the container's own; with `preserve_fd` in the spec one for each of these, after
    them."""

    spec: ContainerSpec
    caller: Caller = Caller()
    replace: bool = False
    attach: bool = False
    """Hand over the attach socket with the `started` reply and end with the exit code."""
    detach: bool = False
    """End the call with the `started` reply."""
    attach_stdin: bool = False
    """The caller means to write to the container's stdin through the attach socket."""
    rows: int = 0
    columns: int = 0
    """Size of the caller's terminal, in characters; 0: unknown."""
    pull: PullWish = PullWish()


class RunReply(msgspec.Struct, frozen=True):
    """`pulling` (text or progress; as often as there is something to tell, and without an id), `created` (id and
    warnings), then `started` — with `attach`, one descriptor comes with it:
    conmon's attach socket, connected before the command runs — then `exited`, the last."""

    phase: str
    id: str
    name: str = ""
    warnings: list[str] = []
    """With `exited`: that an image which was to go with its container stays, and why."""
    exit_code: int | None = None
    detach_keys: str = ""
    """With `started`: what leaves the container running where the caller has not said it, by configuration."""
    text: str = ""
    """A line for people, of a pull."""
    progress: Progress | None = None
    notify: list[str] = []
    """With `started`: what the caller is to tell its service manager (sd_notify)."""


class SelectionRequest(msgspec.Struct, frozen=True):
    selection: Selection
    recursive: bool = True
    """Start and Init: what the container depends on is started first; else it has to run already."""
    caller: Caller = Caller()
    """Start: its `notify_socket`, and its `cgroup` along with it, go before those of the creation."""


class StopRequest(msgspec.Struct, frozen=True):
    selection: Selection
    timeout: float | None = None
    """Seconds between the stop signal and SIGKILL; none: the container's own."""
    signal: str = ""
    """Instead of the container's own stop signal."""
    ignore: bool = False
    """A name that does not exist is no failure."""


class RestartRequest(msgspec.Struct, frozen=True):
    selection: Selection
    timeout: float | None = None
    running: bool = False
    """Only containers that run."""


class KillRequest(msgspec.Struct, frozen=True):
    selection: Selection
    signal: str = "KILL"
    """A name with or without SIG, or a number."""


class RemoveRequest(msgspec.Struct, frozen=True):
    selection: Selection
    force: bool = False
    ignore: bool = False
    timeout: float | None = None
    """Seconds until SIGKILL with force; none: the container's own."""
    volumes: bool = False
    depend: bool = False


class WaitRequest(msgspec.Struct, frozen=True):
    """Waits until each selected container has been in one of the conditions (`names.WaitCondition`);
    no condition given: stopped or exited. A container already there answers at once. `healthy` and `unhealthy` need a
    health check, and fail once the container has ended and is not started again by itself. The exit code is -1 if it was
    told of something else than the container's end."""

    selection: Selection
    conditions: list[str] = []
    ignore: bool = False
    """A name that does not exist counts as removed, exit code -1."""


class HealthCheckReply(msgspec.Struct, frozen=True):
    id: str
    status: str
    """Of this one check: healthy, unhealthy, starting (the start-up check failed), stopped (the container has
    ended meanwhile)."""


class RenameRequest(msgspec.Struct, frozen=True):
    name: str
    new_name: str


class NameRequest(msgspec.Struct, frozen=True):
    name: str


class ExistsRequest(msgspec.Struct, frozen=True):
    name: str
    external: bool = False
    """Also those of other engines that use the image store."""


class ExistsReply(msgspec.Struct, frozen=True):
    exists: bool


class AttachRequest(msgspec.Struct, frozen=True):
    """Hand over conmon's attach socket. `start`: start the container first if it does not run
    (the socket is connected before its command runs)."""

    name: str
    start: bool = False
    stdin: bool = True
    rows: int = 0
    columns: int = 0
    caller: Caller = Caller()
    """As in SelectionRequest."""


class AttachReply(msgspec.Struct, frozen=True):
    """First `attached` with one descriptor, last `exited` with the exit code."""

    phase: str
    id: str
    terminal: bool = False
    exit_code: int | None = None
    detach_keys: str = ""
    """As in RunReply."""
    notify: list[str] = []
    """As in RunReply."""


class ResizeRequest(msgspec.Struct, frozen=True):
    """Tell a container's terminal, or an exec session's, its size in characters."""

    rows: int
    columns: int
    name: str = ""
    exec_id: str = ""


class ExecRequest(msgspec.Struct, frozen=True):
    """Run a further command in a running container.

    Not detached: the first reply brings conmon's attach socket, the last the exit code.
    """

    name: str
    command: list[str]
    env: dict[str, str] = {}
    user: str = ""
    work_dir: str = ""
    terminal: bool = False
    stdin: bool = False
    privileged: bool = False
    detach: bool = False
    detach_keys: str | None = None
    rows: int = 0
    columns: int = 0
    preserve_fd: list[int] = []
    """Numbers, 3 to 255, that the descriptors have in it which come with the request: one for each."""


class ExecReply(msgspec.Struct, frozen=True):
    phase: str
    """`started` (with the descriptor unless detached), `exited`."""
    exec_id: str
    id: str = ""
    exit_code: int | None = None
    detach_keys: str = ""
    """As in RunReply."""


class ExecInspectRequest(msgspec.Struct, frozen=True):
    exec_id: str


class ExecInspectReply(msgspec.Struct, frozen=True):
    session: ExecInspect


class LogsRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    latest: bool = False
    follow: bool = False


class LogsReply(msgspec.Struct, frozen=True):
    """Log files as read-only descriptors, oldest first; the client reads and parses them itself.

    `file`: one descriptor comes along. A follower reads a file to its end before it goes on to the
    next of the same container: the file before it is final by then. `backlog-end`: every file that
    existed at the time of the call has been sent. `ended`: the container will write no more to what
    was sent (it ended, or was removed); with `follow` a later start is a new call.
    """

    phase: str
    id: str = ""
    name: str = ""
    format: str = ""
    """`k8s-file` (RFC 3339 time, stream, P or F, text), or `none`."""
    terminal: bool = False


class InspectRequest(msgspec.Struct, frozen=True):
    names: list[str] = []
    latest: bool = False
    size: bool = False


class InspectReply(msgspec.Struct, frozen=True):
    """What was found; a name that was not found stands in `errors` instead."""

    containers: list[InspectContainer]
    errors: list[ErrorInfo] = []


class ListRequest(msgspec.Struct, frozen=True):
    all: bool = False
    """Also those that do not run. A filter on status, exited, and `last`, imply it."""
    last: int = 0
    """Only the n created last, in any state; 0: no limit."""
    size: bool = False
    namespaces: bool = False
    """Also read the numbers of each process's namespaces."""
    filters: dict[str, list[str]] = {}
    """Podman's: id name label status exited ancestor before since volume network pod health until
    restart-policy command. Values of one key are alternatives (labels: all of them), keys must all fit."""


class ListContainer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of `ps`, with the keys of Podman's JSON. What is empty, zero or false is left out: there may be
    thousands of them."""

    id: str = msgspec.field(name="Id")
    names: list[str] = msgspec.field(name="Names")
    image: str = msgspec.field(name="Image", default="")
    image_id: str = msgspec.field(name="ImageID", default="")
    command: list[str] = msgspec.field(name="Command", default_factory=list)
    created: int = msgspec.field(name="Created")
    """Seconds since the epoch, as the next ones."""
    created_at: str = msgspec.field(name="CreatedAt")
    """RFC 3339 with nanoseconds."""
    started_at: int = msgspec.field(name="StartedAt", default=0)
    exited: bool = msgspec.field(name="Exited", default=False)
    exited_at: int = msgspec.field(name="ExitedAt", default=0)
    exit_code: int = msgspec.field(name="ExitCode", default=0)
    state: str = msgspec.field(name="State")
    status: str = msgspec.field(name="Status", default="")
    """Health or detail beyond the state; empty otherwise."""
    pid: int = msgspec.field(name="Pid", default=0)
    restarts: int = msgspec.field(name="Restarts", default=0)
    auto_remove: bool = msgspec.field(name="AutoRemove", default=False)
    labels: dict[str, str] = msgspec.field(name="Labels", default_factory=dict)
    mounts: list[str] = msgspec.field(name="Mounts", default_factory=list)
    namespaces: dict[str, str] = msgspec.field(name="Namespaces", default_factory=dict)
    """Kind to inode number (`mnt` to `4026532567`), if asked for, of one that has a process."""
    networks: list[str] = msgspec.field(name="Networks", default_factory=list)
    ports: list[PortMapping] = msgspec.field(name="Ports", default_factory=list)
    """Of the host, that lead into it; of one that joins another one's network, those of that one."""
    exposed_ports: list[str] = msgspec.field(name="ExposedPorts", default_factory=list)
    """`80/tcp`, `90-91/udp`."""
    pod: str = msgspec.field(name="Pod", default="")
    pod_name: str = msgspec.field(name="PodName", default="")
    is_infra: bool = msgspec.field(name="IsInfra", default=False)
    size: dict[str, int] | None = msgspec.field(name="Size", default=None)
    """`rootFsSize` and `rwSize` in bytes, if asked for."""


class ListReply(msgspec.Struct, frozen=True):
    """Newest first."""

    containers: list[ListContainer]


class WhyStep(msgspec.Struct, frozen=True):
    time: str
    """RFC 3339."""
    seq: int
    status: str
    text: str
    """One sentence for people."""


class WhyReply(msgspec.Struct, frozen=True):
    """The chain of events behind the last restart, or behind there being none."""

    id: str
    name: str
    summary: str
    steps: list[WhyStep]


INTERFACE = Interface(
    name="io.pyman.Container",
    doc=(__doc__ or "").strip(),
    methods=(
        Method("Create", CreateRequest, CreateReply, "Define a container.", access=Access.OWNER),
        Method(
            "Run",
            RunRequest,
            RunReply,
            "Create and start, attached or not, and wait for the end.",
            access=Access.OWNER,
            streaming=True,
            descriptors_in=16,
            descriptors_out=True,
        ),
        Method("Init", SelectionRequest, ResultsReply, "Create in the OCI runtime.", access=Access.OWNER),
        Method("Start", SelectionRequest, ResultsReply, "Start containers.", access=Access.OWNER),
        Method(
            "Stop", StopRequest, ResultsReply, "Stop, with SIGKILL after the time-out.", access=Access.OWNER
        ),
        Method("Restart", RestartRequest, ResultsReply, "Stop if running, then start.", access=Access.OWNER),
        Method(
            "Kill",
            KillRequest,
            ResultsReply,
            "Send a signal to the container's command.",
            access=Access.OWNER,
        ),
        Method("Pause", SelectionRequest, ResultsReply, "Freeze every process.", access=Access.OWNER),
        Method("Unpause", SelectionRequest, ResultsReply, "Thaw every process.", access=Access.OWNER),
        Method("Remove", RemoveRequest, ResultsReply, "Remove containers.", access=Access.OWNER),
        Method(
            "Prune",
            PruneContainersRequest,
            PruneContainersReply,
            "Remove those that do not run.",
            access=Access.OWNER,
        ),
        Method(
            "Wait",
            WaitRequest,
            ResultsReply,
            "Wait for a state; answers with exit codes.",
            access=Access.READ,
            vanish=Vanish.CANCEL,
        ),
        Method(
            "HealthCheck",
            NameRequest,
            HealthCheckReply,
            "Run the health check of a container once, now.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
        ),
        Method("Rename", RenameRequest, Nothing, "Give another name.", access=Access.OWNER),
        Method(
            "Update",
            UpdateRequest,
            CreateReply,
            "Change a container's limits, restart policy, health check and the like.",
            access=Access.OWNER,
        ),
        Method("Exists", ExistsRequest, ExistsReply, "Whether a name or id is known.", access=Access.READ),
        Method(
            "Attach",
            AttachRequest,
            AttachReply,
            "Hand over the container's streams.",
            access=Access.OWNER,
            streaming=True,
            descriptors_out=True,
        ),
        Method("Resize", ResizeRequest, Nothing, "Set the size of a terminal.", access=Access.OWNER),
        Method(
            "Exec",
            ExecRequest,
            ExecReply,
            "Run a further command in a container.",
            access=Access.OWNER,
            streaming=True,
            descriptors_in=16,
            descriptors_out=True,
        ),
        Method("ExecInspect", ExecInspectRequest, ExecInspectReply, "An exec session.", access=Access.READ),
        Method(
            "Logs",
            LogsRequest,
            LogsReply,
            "Hand over log files as descriptors.",
            access=Access.READ,
            streaming=True,
            vanish=Vanish.CANCEL,
            descriptors_out=True,
        ),
        Method(
            "Mount",
            MountRequest,
            MountReply,
            "Mount root filesystems for people, or tell which are mounted.",
            access=Access.OWNER,
        ),
        Method("Unmount", UnmountRequest, ResultsReply, "Undo mounts.", access=Access.OWNER),
        Method(
            "Export",
            ExportRequest,
            Nothing,
            "Write a root filesystem as a tar archive.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
            descriptors_in=1,
        ),
        Method(
            "CopyIn",
            CopyInRequest,
            CopyReply,
            "Copy a file, a directory or an archive into a container.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
            descriptors_in=1,
        ),
        Method(
            "CopyOut",
            CopyOutRequest,
            CopyReply,
            "Copy a file or a directory out of a container.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
            descriptors_in=1,
        ),
        Method(
            "CopyAcross",
            CopyAcrossRequest,
            CopyReply,
            "Copy from one container to another.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
        ),
        Method(
            "Changes",
            ChangesRequest,
            ChangesReply,
            "What a container has changed of its root filesystem.",
            access=Access.READ,
            vanish=Vanish.CANCEL,
        ),
        Method(
            "Commit",
            CommitRequest,
            CommitReply,
            "Make an image of a container.",
            access=Access.OWNER,
            vanish=Vanish.CANCEL,
        ),
        Method(
            "Inspect", InspectRequest, InspectReply, "Everything known of containers.", access=Access.READ
        ),
        Method("List", ListRequest, ListReply, "Containers, newest first.", access=Access.READ),
        Method(
            "Stats",
            StatsRequest,
            StatsReply,
            "What containers use: now, or a reply at every interval.",
            access=Access.READ,
            streaming=True,
            vanish=Vanish.CANCEL,
        ),
        Method(
            "Top",
            TopRequest,
            TopReply,
            "The processes of a running container.",
            access=Access.READ,
            vanish=Vanish.CANCEL,
        ),
        Method("Why", NameRequest, WhyReply, "Why it was or was not restarted.", access=Access.READ),
    ),
)
