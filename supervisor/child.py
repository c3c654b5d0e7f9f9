"""What every daemon of one supervisor is started with, and the process of one that has been started.

Standard library only, and next to nothing of that: the first one is started before the keeper has imported the rest of
itself, see `pyman.headstart`.
"""

from __future__ import annotations

import os

from pyman import headstart
from pyman.wire import owner, socket_path
from supervisor.arguments import spelled
from supervisor.rootless.identity import marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Orders", "Started", "spawn"]

_SIGKILL = 9
"""By number: the module `signal` takes longer to import than everything here."""
_PATH_VARIABLES = (
    "CONTAINERS_CONF",
    "CONTAINERS_CONF_OVERRIDE",
    "CONTAINERS_REGISTRIES_CONF",
    "CONTAINERS_STORAGE_CONF",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
)
_NOT_FOR_DAEMON = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Orders:
    """What every daemon of one supervisor is started with. `socket` is where the supervisor listens."""

    __slots__ = ("command", "environ", "options", "socket")

    def __init__(
        self, command: Sequence[str], options: Mapping[str, str], environ: Mapping[str, str]
    ) -> None:
        """Paths are made absolute, since the keeper leaves the directory it was started in."""
        self.command = list(command)
        self.environ = _for_daemon(environ)
        self.options = dict(options)
        if self.environ.get("CONTAINERS_CONF"):
            # The same thing; said once, a client that names either is told the same.
            self.options.setdefault("config", self.environ["CONTAINERS_CONF"])
        root, config = options.get("root", ""), options.get("config", "")
        self.socket = socket_path(root, config, self.environ, owner(environ))
        if os.geteuid() != 0:
            # What tells whose directories these are does not look the same from inside the user's namespaces.
            self.environ["XDG_RUNTIME_DIR"] = os.path.dirname(os.path.dirname(self.socket))
            self.environ.update(marks(os.geteuid(), os.getegid()))


class Started:
    """A daemon's process, our end of the channel to it, and the environment that it was started with."""

    __slots__ = ("channel", "environ", "pid")

    def __init__(self, pid: int, channel: int, environ: Mapping[str, str]) -> None:
        self.pid = pid
        self.channel = channel
        self.environ = environ

    def abandon(self) -> None:
        """Of one that nothing was said to."""
        os.kill(self.pid, _SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.channel)


def spawn(orders: Orders) -> Started:
    """Raises OSError."""
    pid, channel = headstart.spawn(orders.command, spelled(orders.options), orders.environ)
    return Started(pid, channel.detach(), orders.environ)


def _for_daemon(environ: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment: paths made absolute, since the directory changes; what was for us taken out."""
    result = {key: value for key, value in environ.items() if key not in _NOT_FOR_DAEMON}
    for key in _PATH_VARIABLES:
        if result.get(key):
            result[key] = os.path.abspath(result[key])
    return result
