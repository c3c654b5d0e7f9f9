"""A run of several workers (`scripts/test`): what one of them leaves on the host fails the run at its end.

While other workers are at it nobody can tell whose a new mount, cgroup or namespace is, unless its path says so.
Each worker notes what it sees and when; once all have ended, what is still there has been left by one of the tests
that are named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.leaks import HostLock, SharedHost, still_there

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Controller", "Worker", "register"]

_OUTPUT = "pyman_suspects"


def register(config: pytest.Config) -> None:
    """What this process needs for its part in the run; nothing where it runs all tests itself."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker(config), "pyman-worker")
        # Podman's run root may have 50 characters, a socket's path 107: they are below this one.
        given = Path(config.option.basetemp)
        config.option.basetemp = str(given.with_name(given.name.removeprefix("popen-")))
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(Controller(), "pyman-controller")


class Worker:
    def __init__(self, config: pytest.Config) -> None:
        self.host = SharedHost()
        self._config: Any = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.host.test = item.nodeid

    def pytest_sessionfinish(self) -> None:
        suspects = [(kind, path, test) for (kind, path), test in self.host.suspects.items()]
        self._config.workeroutput[_OUTPUT] = suspects


class Controller:
    """Holds the lock of the whole run, so that its workers need none."""

    def __init__(self) -> None:
        self._lock = HostLock()
        self._suspects: dict[tuple[str, str], list[str]] = {}
        self._left: list[str] = []

    def pytest_testnodedown(self, node: Any) -> None:
        self.note(getattr(node, "workeroutput", {}).get(_OUTPUT, ()))

    def note(self, suspects: Iterable[tuple[str, str, str]]) -> None:
        for kind, path, test in suspects:
            self._suspects.setdefault((kind, path), []).append(test)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._lock.alone():
            self._left = [
                f"{kind} {path}, left by {' or '.join(tests)}"
                for (kind, path), tests in sorted(self._suspects.items())
                if still_there(kind, path)
            ]
        self._lock.close()
        if self._left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left:
            terminalreporter.section("left on the host", red=True)
            for line in self._left:
                terminalreporter.line(line)
