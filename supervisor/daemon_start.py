"""The daemon until its loop runs: settings, directories, the lock of the state directory, in the user's namespaces.

The order is what makes a start fast. Other programs that the engine has to ask are begun first; they answer while
most of the daemon is imported, which only then is. Nothing is touched before the keeper's `hello`: until then this
process may be ended by a keeper that has found out that it cannot go on.

Whatever prevents the start is told to the keeper as a typed error.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import AlreadyRunning, PymanError, first_of
from pyman.wire import owner
from supervisor import instance, logging
from supervisor.arguments import parse
from supervisor.channel import CANNOT_START, HELD, Channel, ChannelClosed, described
from supervisor.kernel import ancestry, namespaces
from supervisor.runtime import probes
from supervisor.settings.layout import Layout, make_directories
from supervisor.settings.load import Options, load
from supervisor.settings.model import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.daemon import Control

__all__ = ["Start", "run"]


class Start(msgspec.Struct):
    """What is there before the loop runs. `listeners`: sockets by name."""

    settings: Settings
    layout: Layout
    environ: Mapping[str, str]
    keeper: int
    channel: Channel
    listeners: dict[str, socket.socket]
    lock: int
    probes: probes.Probes


def run(words: Sequence[str]) -> int:
    """Be the daemon; the exit status."""
    options = parse(words, ("keeper", "channel")).options
    keeper, number = int(options.pop("keeper")), int(options.pop("channel"))
    os.set_inheritable(number, False)
    ancestry.die_with_parent(parent=keeper)
    channel = Channel.of(number)
    sys.excepthook = logging.crash
    try:
        listeners, kept, path, environ = _hello(channel, keeper)
    except ChannelClosed:
        return 0  # the keeper has found out that it cannot go on, and says so itself
    os.environ.update(environ)
    control: list[Control] = []
    failure: PymanError | None = None
    start: Start | None = None
    try:
        start = _prepare(options, os.environ, keeper, channel, listeners, kept, path)
        _serve(start, control)
    except* PymanError as group:
        failure = first_of(group)
        if control and control[0].is_ready:
            control[0].has_failed(failure)
        else:
            channel.send({"failed": described(failure)})
    finally:
        if start is not None:
            start.probes.abandon()
    if failure is None:
        return 0
    if control and control[0].is_ready:
        return 1
    return HELD if isinstance(failure, AlreadyRunning) else CANNOT_START


def _hello(channel: Channel, keeper: int) -> tuple[dict[str, socket.socket], int, str, dict[str, str]]:
    """The listening sockets by name; the lock that an earlier daemon had taken, or -1; its path; what is to be added to
    the environment."""
    message, descriptors = channel.receive(wait=True) or ({}, [])
    if "join" in message:
        # One thread yet, as it has to be.
        for descriptor, kind in zip(descriptors, (namespaces.NEW_USER, namespaces.NEW_MOUNT), strict=True):
            namespaces.join(descriptor, kind)
            os.close(descriptor)
        ancestry.die_with_parent(parent=keeper)  # a change of credentials may take that back
        message, descriptors = channel.receive(wait=True) or ({}, [])
    sockets = {name: socket.socket(fileno=descriptors.pop(0)) for name in message["hello"]}
    return sockets, descriptors.pop() if descriptors else -1, str(message["lock"]), message["environ"]


def _prepare(
    options: Mapping[str, str],
    environ: Mapping[str, str],
    keeper: int,
    channel: Channel,
    listeners: dict[str, socket.socket],
    kept: int,
    path: str,
) -> Start:
    """What has to be right before anything is touched."""
    chosen = msgspec.convert({name.replace("-", "_"): value for name, value in options.items()}, Options)
    settings = load(chosen, environ, owner(environ))
    layout = Layout.of(settings)
    make_directories(layout)
    lock = _take_lock(layout, keeper, channel, path, kept)
    channel.send({"reaped": layout.reaped})
    ancestry.become_subreaper()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each container takes two descriptors and each client one, whatever the terminal's limit was.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    begun = probes.begin(settings, layout)
    return Start(settings, layout, environ, keeper, channel, listeners, lock, begun)


def _serve(start: Start, control: list[Control]) -> None:
    """The most of what there is to import, then the loop."""
    import trio

    from supervisor import daemon

    logging.configure(start.settings.pyman.log_level)
    trio.run(daemon.main, start, control)


def _take_lock(layout: Layout, keeper: int, channel: Channel, path: str, kept: int) -> int:
    """The lock of the state directory: the one that the keeper has kept, or a new one, for it to keep."""
    pids = [keeper, os.getpid()]
    if kept >= 0 and path == layout.supervisor_lock and instance.is_lock_of(kept, path):
        instance.note(kept, pids)
        return kept
    if kept >= 0:
        os.close(kept)
    taken = instance.hold(layout.supervisor_lock, pids, f"the state in '{layout.static}'")
    channel.send({"lock": layout.supervisor_lock}, [taken])
    return taken
