"""The words of the engine: container states, event types and event names.

Standard library only: the command line, the SDK and the supervisor all import this module.
States and events carry Podman's names, so that scripts written for Podman keep working; those that
Podman does not have are listed in their own block.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["STATES_WITH_PROCESS", "EventStatus", "EventType", "RestartPolicy", "State", "WaitCondition"]


class _Word(StrEnum):
    """A string that prints as its value, also inside f-strings and JSON."""


class State(_Word):
    """What is known of a container; the permitted transitions are in `supervisor/runtime/life/states.py`."""

    CREATED = "created"
    """Defined; nothing of it exists in the kernel."""
    INITIALIZED = "initialized"
    """Created in the OCI runtime: namespaces, mounts and a monitor exist, the command has not started."""
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    """The stop signal was sent; SIGKILL follows when the time-out passes."""
    STOPPED = "stopped"
    """The process has ended; what it used has not been cleaned up yet."""
    EXITED = "exited"
    REMOVING = "removing"


STATES_WITH_PROCESS = frozenset({State.INITIALIZED, State.RUNNING, State.PAUSED, State.STOPPING})


class RestartPolicy(_Word):
    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"


class WaitCondition(_Word):
    """Every state can be waited for, and the health of what has a check; `removed` is the end of the container."""

    CONFIGURED = "configured"
    CREATED = "created"
    INITIALIZED = "initialized"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXITED = "exited"
    REMOVING = "removing"
    REMOVED = "removed"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class EventType(_Word):
    CONTAINER = "container"
    IMAGE = "image"
    NETWORK = "network"
    POD = "pod"
    SECRET = "secret"  # noqa: S105 - the kind of object, not a password
    SYSTEM = "system"
    VOLUME = "volume"


class EventStatus(_Word):
    ATTACH = "attach"
    BUILD = "build"
    CLEANUP = "cleanup"
    COMMIT = "commit"
    CONNECT = "connect"
    CREATE = "create"
    DIED = "died"
    DISCONNECT = "disconnect"
    EXEC = "exec"
    EXEC_DIED = "exec_died"
    EXPORT = "export"
    HEALTH_STATUS = "health_status"
    IMPORT = "import"
    INIT = "init"
    KILL = "kill"
    LOAD = "loadfromarchive"
    MOUNT = "mount"
    PAUSE = "pause"
    PRUNE = "prune"
    PULL = "pull"
    PULL_ERROR = "pull-error"
    PUSH = "push"
    REFRESH = "refresh"
    REMOVE = "remove"
    RENAME = "rename"
    RENUMBER = "renumber"
    RESTART = "restart"
    SAVE = "save"
    START = "start"
    STOP = "stop"
    TAG = "tag"
    UNMOUNT = "unmount"
    UNPAUSE = "unpause"
    UNTAG = "untag"
    UPDATE = "update"

    # Not known to Podman.
    HELPER_LOST = "helper-lost"
    """A program that works for networks (a name server, pasta, a port forwarder, a DHCP client) has ended unasked."""
    HELPER_RESTARTED = "helper-restarted"
    LEASE_CHANGED = "lease-changed"
    """A DHCP server has given a running container another address; `Attributes` say which, and on which network."""
    LEASE_LOST = "lease-lost"
    """A running container has no address any more on a network whose DHCP server gives them."""
    MONITOR_LOST = "monitor-lost"
    """conmon ended before the container it watched."""
    RESTART_SCHEDULED = "restart-scheduled"
    """The restart policy will start the container again; `Attributes` say when and why."""
    RESTART_DECLINED = "restart-declined"
    """The restart policy will not start the container again; `Attributes` say why."""
    MIGRATE = "migrate"
    WEDGED = "wedged"
    """A call on the container missed its deadline: its monitor or the kernel does not answer."""
