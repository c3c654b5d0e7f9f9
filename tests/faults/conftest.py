"""Engines whose parts can be made to fail. One OCI runtime is enough here: the faults are around it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.faults.disk import Disk
from tests.faults.gate import Program
from tests.support import processes
from tests.support.engine import Engine, Leftovers, merged
from tests.support.runtimes import Place

if TYPE_CHECKING:
    from collections.abc import Iterator


class Faulty(Engine):
    """An engine with a runtime and a conmon that the test commands; quick to lose its patience."""

    def __init__(self, place: Place, config: str = "", *, disk: Path | None = None) -> None:
        super().__init__(place)
        if disk is not None:
            self.root = disk / "root"
        self.runtime = Program(self.path / "bin", "runc")
        self.conmon = Program(self.path / "bin", "conmon")
        self.settings: dict[str, dict[str, Any]] = {
            "containers": {"netns": "none"},
            "engine": {
                "runtime": "runc",
                "conmon_path": [str(self.conmon.path)],
            },
            "engine.runtimes": {"runc": [str(self.runtime.path)]},
            "network": {"network_config_dir": str(self.path / "networks")},
            "pyman": {"call_deadline": 20},
        }
        self.extra_environment: dict[str, str] = {}
        self.configure(config)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.extra_environment}

    def configure(self, extra: str = "", **pyman: object) -> None:
        """Write containers.conf; `extra` are further lines, keyword arguments of [pyman]."""
        self.settings["pyman"] |= pyman
        text = "".join(
            f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
            for section, table in self.settings.items()
        )
        self.configuration.write_text(merged(text, extra))

    @property
    def lock_file(self) -> str:
        return f"/dev/shm/pyman_lock_{self._stem}"

    @property
    def daemon(self) -> int:
        """The daemon's pid, without asking it."""
        assert self.keeper is not None
        (pid,) = (pid for pid in processes.children(self.keeper.pid) if _is_daemon(pid))
        return pid

    @contextlib.contextmanager
    def stopped_daemon(self) -> Iterator[None]:
        """What happens inside happens while no daemon acts; then it is killed, and the next one is ready."""
        pid = self.daemon
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            self.drain_notices()
            os.kill(pid, signal.SIGKILL)
            self.wait_ready()

    def recover(self) -> None:
        """Everything works again, and no container is left."""
        for program in (self.runtime, self.conmon):
            program.obey()
        if self.keeper is not None:
            self.remove_containers()

    def close(self) -> None:
        for program in (self.runtime, self.conmon):
            program.obey()
        super().close()


def _is_daemon(pid: int) -> bool:
    try:
        return b"daemon" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


class MakeEngine(Protocol):
    """`config`: further lines of containers.conf. `disk`: where its root is to be."""

    def __call__(self, config: str = "", *, disk: Path | None = None, start: bool = True) -> Faulty: ...


@contextlib.contextmanager
def engines() -> Iterator[MakeEngine]:
    if os.geteuid() != 0 or shutil.which("runc") is None:
        pytest.skip("needs root and runc")

    with contextlib.ExitStack() as stack:

        def make(config: str = "", *, disk: Path | None = None, start: bool = True) -> Faulty:
            engine = Faulty(Place("runc"), config, disk=disk)
            stack.callback(_close, engine)
            if start:
                engine.start()
            return engine

        yield make


def _close(engine: Faulty) -> None:
    print(f"--- {engine.log}\n{engine.log_text()}")  # noqa: T201 - pytest shows it with a failure
    try:
        engine.close()
    except Leftovers as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Makes engines of the test's own, and ends them."""
    with engines() as make:
        yield make


@pytest.fixture(scope="module")
def _common() -> Iterator[Faulty]:
    with engines() as make:
        yield make()


@pytest.fixture
def faulty(_common: Faulty) -> Iterator[Faulty]:
    """One engine for the tests of a module; no containers and no orders at every start."""
    yield _common
    _common.recover()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of a few megabytes."""
    with Disk(tmp_path / "disk") as disk:
        yield disk
