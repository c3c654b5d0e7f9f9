"""The first steps of a supervisor: its command line, whom it reports to, the daemon's process, then the keeper.

The order is what makes a first command fast: the daemon's process needs the command line alone, so it is started
before this one imports the rest of the keeper, unless whoever has launched this one did it already. Standard library
only.
"""

from __future__ import annotations

import os
import sys

from pyman.errors import InvalidArgument, PymanError
from supervisor import child
from supervisor.arguments import COMMAND, HELP, parse
from supervisor.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["run"]


def run(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Be the keeper until the supervisor ends; the exit status."""
    report = Report()
    try:
        arguments = parse(words, ("report-fd", "daemon"))
        if arguments.help:
            sys.stdout.write(HELP)
            return 0
        if arguments.words:
            word = arguments.words[0]
            raise InvalidArgument(f"cannot do '{word}'", subject=word, hint="see 'pyman-supervisor --help'")
        report = Report(arguments.options.pop("report-fd", ""))
        begun = arguments.options.pop("daemon", "")
        orders = child.Orders(COMMAND, arguments.options, environ)
        os.chdir("/")
        started = _begun(begun, environ) if begun else _head_start(orders)
        from supervisor.keeper import Keeper  # while the daemon's process comes up

        return Keeper(orders, environ, report, started).run()
    except PymanError as error:
        report.failed(error)
        return error.exit_status
    finally:
        report.close()


def _begun(told: str, environ: Mapping[str, str]) -> child.Started:
    """The daemon that this process has started while it was another program."""
    pid, _, channel = told.partition(":")
    os.set_inheritable(int(channel), False)
    return child.Started(int(pid), int(channel), environ)


def _head_start(orders: child.Orders) -> child.Started | None:
    """None: it cannot be started now; the keeper tries again, and says why it cannot."""
    # Whatever was passed to this process is not the daemon's: a pipe that it held would never be seen to end.
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                os.set_inheritable(int(name), False)
        except OSError:
            pass  # the one that has listed them
    try:
        return child.spawn(orders)
    except OSError:
        return None
