"""What every verb is given: the global options, the way to the supervisor, and the way to the terminal."""

from __future__ import annotations

import os
import sys

from pyman.errors import InvalidArgument, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyman.cli.options import Parsed
    from pyman.errors import PymanError
    from pyman.wire import Connection, Selection

__all__ = ["LOG_LEVELS", "Context", "flush", "one_line", "sentence"]

LOG_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
"""Podman's."""


class Context:
    """One run of the command line. Nothing is opened before it is needed."""

    def __init__(self, options: Parsed, command_line: list[str]) -> None:
        self.command_line = command_line
        """All words, the program's name first."""
        self.root: str = options.root
        self.runroot: str = options.runroot
        self.tmpdir: str = options.tmpdir
        self.config: str = options.config
        self.namespace: str = options.namespace
        self.network_config_dir: str = options.network_config_dir
        self.runtime: str = options.runtime
        self.log_level: str = options.log_level
        if self.log_level and self.log_level not in LOG_LEVELS:
            raise InvalidArgument(
                f"cannot use the log level '{self.log_level}': it is none of {', '.join(LOG_LEVELS)}",
                subject=self.log_level,
            )
        self._connection: Connection | None = None

    @property
    def debug(self) -> bool:
        return self.log_level in ("debug", "trace")

    @property
    def color(self) -> bool:
        """Whether standard output is a terminal whose user did not refuse colours."""
        return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and os.isatty(1)

    @property
    def selection(self) -> Selection:
        """Which supervisor is meant; also what it is started with."""
        from pyman.wire import Selection

        options = (f"--log-level={self.log_level}",) if self.log_level else ()
        return Selection(
            self.root,
            self.runroot,
            self.tmpdir,
            self.config,
            options,
            namespace=self.namespace,
            network_config_dir=self.network_config_dir,
        )

    def connect(self) -> Connection:
        """The connection to the supervisor, which is started if none answers; the same one at every call.

        The given options are compared with the supervisor's own: OptionDiffers.
        """
        if self._connection is None:
            self._connection = self.connect_again()
        return self._connection

    def close(self) -> None:
        """Close the connection that `connect` gave; a call under way on it is given up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def connect_again(self) -> Connection:
        """A connection of one's own, for a call beside one that is still under way (signals, resize)."""
        from pyman.wire import connect

        return connect(self.selection)

    def call(
        self, method: str, parameters: dict[str, Any] | None = None, descriptors: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Call `Container.List` or the like and return the reply's parameters."""
        return self.connect().call(method, parameters, descriptors)

    def out(self, text: str) -> None:
        """One line on standard output."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Text that brings its own line ends, on standard output. BrokenPipeError, StorageFailed."""
        try:
            sys.stdout.write(text)
        except OSError as problem:
            raise _output_failed(problem) from problem

    def err(self, text: str) -> None:
        """One line on standard error, after what went to standard output before it."""
        flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def fail(self, error: PymanError | str) -> None:
        """The one form of an error: a line that begins with `Error:`."""
        self.err("Error: " + one_line(str(error)))

    def warn(self, text: str) -> None:
        self.err("Warning: " + one_line(text))

    def confirm(self, warning: str) -> bool:
        """Ask on the terminal before something that cannot be undone; no answer means no."""
        self.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
        flush()
        answer = sys.stdin.readline().strip().lower()
        if not answer:
            self.write("\n")
        return answer in ("y", "yes")


def _output_failed(problem: OSError) -> OSError | StorageFailed:
    """What to raise when nothing more can be written; what is buffered goes nowhere, or Python complains
    about it at the end."""
    void = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(void, 1)
    os.close(void)
    if isinstance(problem, BrokenPipeError):
        return problem
    return StorageFailed(f"cannot write to standard output: {problem.strerror or problem}")


def flush() -> None:
    """Write out what standard output holds back. BrokenPipeError, StorageFailed."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        raise _output_failed(problem) from problem


def sentence(error: Mapping[str, Any]) -> str:
    """What an ErrorInfo says, in the form of an error that was raised."""
    return f"{error['message']}: {error['hint']}" if error.get("hint") else str(error["message"])


def one_line(text: str) -> str:
    """Text of others (a name, an OCI runtime's message) for a person's terminal: on one line, and without
    what a terminal would take for a command or show as something else."""
    if text.isprintable():
        return text
    text = " ".join(text.split("\n")).strip()
    shown = (letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return "".join(shown)
