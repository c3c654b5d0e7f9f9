"""`pyman-supervisor maintain unshare`: a command, or a shell, in the namespaces of an ordinary user's engine.

    unshare [--rootless-netns] [-- COMMAND …]

It needs no supervisor, and becomes the command. Nothing is imported that only the other verbs of maintenance need: it would
take ten times as long.
"""

from __future__ import annotations

import os
import sys

from pyman.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, NetworkFailed, NotSupported
from pyman.wire import owner, runtime_directory
from supervisor.listeners import private_directory
from supervisor.rootless import entering, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

__all__ = ["enter_namespaces", "run"]

_NETNS = "--rootless-netns"


def run(options: Mapping[str, str], words: Sequence[str]) -> NoReturn:
    """`options` select an engine; `words` are what follows `unshare`."""
    own = list(words[: words.index("--")] if "--" in words else words)
    command = list(words[len(own) + 1 :])
    if own not in ([], [_NETNS]):
        raise InvalidArgument(f"cannot unshare with '{own[0]}'", subject=own[0])
    if os.geteuid() == 0:
        raise InvalidArgument(
            "cannot unshare: root needs no user namespace", hint="run it as an ordinary user"
        )
    enter_namespaces()
    if own:
        _join_bridges(options)
    command = command or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        os.execvp(command[0], command)  # noqa: S606 - this process becomes it
    except FileNotFoundError:
        raise CommandNotFound(
            f"cannot run '{command[0]}': there is no such command", subject=command[0]
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandNotExecutable(f"cannot run '{command[0]}': {reason}", subject=command[0]) from None


def enter_namespaces() -> None:
    """As the keeper does it, before there is a second thread."""
    uid, gid = os.geteuid(), os.getegid()
    runtime = runtime_directory(os.environ, uid)
    private_directory(f"{runtime}/pyman")
    if warning := entering.enter(f"{runtime}/pyman"):
        sys.stderr.write(f"Warning: {warning}\n")
    os.environ.update(identity.marks(uid, gid), XDG_RUNTIME_DIR=runtime)


def _join_bridges(options: Mapping[str, str]) -> None:
    """The network namespace with the user's bridges. Only now, since it takes the configuration to know where that is."""
    import msgspec

    from supervisor.kernel import inside, namespaces
    from supervisor.network import sandbox
    from supervisor.settings.layout import Layout
    from supervisor.settings.load import Options, load

    chosen = msgspec.convert({name.replace("-", "_"): text for name, text in options.items()}, Options)
    path = f"{Layout.of(load(chosen, os.environ, owner(os.environ))).sandbox}/netns"
    netns = sandbox.find(path)
    if netns is None:
        raise NotSupported(
            "cannot join the network namespace of bridges: there is none",
            subject=path,
            hint="it is there while a container on a bridge runs",
        )
    try:
        namespaces.join(netns, inside.KINDS["network"][1])
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NetworkFailed(f"cannot join the network namespace of bridges: {reason}", subject=path) from None
    finally:
        os.close(netns)
