"""A supervisor whose engine is a stand-in: started, talked to and ended by the tests of keeper and daemon."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket as sockets
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import processes
from tests.support.varlink import call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["PROGRAM", "Supervisor", "ctxt_switches"]

PROGRAM = Path(__file__).with_name("standin.py")
PATIENCE = 20.0


class Supervisor:
    """Everything is below `path`; the sockets are where the real ones would be."""

    def __init__(self, path: Path, *, prefix: Sequence[str] = ()) -> None:
        self.path = path
        self.root = path / "root"
        self.tmpdir = path / "tmp"
        self.prefix = list(prefix)
        self.keeper: subprocess.Popen[bytes] | None = None
        self.options = [f"--root={self.root}", f"--runroot={path / 'run'}", f"--tmpdir={self.tmpdir}"]
        self.environment = {
            "PATH": os.defpath,
            "HOME": str(path),
            "LANG": "C.UTF-8",
            "NOTIFY_SOCKET": str(path / "n"),
        }
        self.log = ""
        self._notices = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM)
        self._notices.bind(self.environment["NOTIFY_SOCKET"])

    @property
    def stem(self) -> str:
        return sha256(f"root:{self.root}".encode()).hexdigest()[:16]

    @property
    def socket(self) -> str:
        inside = f"/proc/{self.pid}/root" if self.prefix else ""
        return f"{inside}/run/pyman/{self.stem}.sock"

    @property
    def static(self) -> Path:
        return self.root / "pyman"

    @property
    def pid(self) -> int:
        assert self.keeper is not None
        return self.keeper.pid

    @property
    def daemon(self) -> int:
        return int(self.info()["pid"])

    def command(self, *options: str) -> list[str]:
        return [*self.prefix, sys.executable, str(PROGRAM), *self.options, *options]

    def begin(self, *options: str, environment: Mapping[str, str] | None = None, **more: Any) -> None:
        """Start the keeper and return at once."""
        self.keeper = subprocess.Popen(
            self.command(*options),
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **more,
        )

    def start(self, *options: str, environment: Mapping[str, str] | None = None, **more: Any) -> None:
        self.begin(*options, environment=environment, **more)
        self.await_notice(lambda lines: "READY=1" in lines)

    def await_notice(self, fits: Callable[[list[str]], bool]) -> list[str]:
        """The next message to the service manager that fits."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._notices.settimeout(max(0.01, deadline - time.monotonic()))
            lines = self._notices.recv(4096).decode().splitlines()
            if fits(lines):
                return lines

    def await_log(self, text: str) -> str:
        """The next line on standard error that contains the text."""
        assert self.keeper is not None
        assert self.keeper.stderr is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            while "\n" in self.log:
                line, _, self.log = self.log.partition("\n")
                if text in line:
                    return line
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self.keeper.stderr], [], [], left)[0], f"never logged: {text}"
            chunk = os.read(self.keeper.stderr.fileno(), 1 << 16).decode()
            assert chunk, f"ended without logging: {text}"
            self.log += chunk

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        return call(self.socket, f"io.pyman.System.{method}", parameters)

    def info(self) -> dict[str, Any]:
        told: dict[str, Any] = self.call("Info")["supervisor"]
        return told

    def kill(self) -> int:
        """SIGKILL to the daemon; the pid of the next one, ready."""
        earlier = self.daemon
        os.kill(earlier, signal.SIGKILL)
        self.await_notice(lambda lines: "READY=1" in lines)
        assert self.daemon != earlier
        return self.daemon

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the keeper; its exit status."""
        assert self.keeper is not None
        self.keeper.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Until the keeper has ended by itself; its exit status. What it said is then in `log`."""
        assert self.keeper is not None
        assert self.keeper.stderr is not None
        with self.keeper, contextlib.closing(self.keeper.stderr):
            _, errors = self.keeper.communicate(timeout=PATIENCE)
            self.log += errors.decode()
        status = self.keeper.returncode
        self.keeper = None
        return status

    def close(self) -> None:
        if self.keeper is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.keeper.pid, signal.SIGTERM)
            if processes.wait_gone([self.keeper.pid], PATIENCE):
                self.keeper.kill()
            self.wait()
        self._notices.close()
        for path in Path("/run/pyman").glob(f"{self.stem}*"):
            path.unlink()


def error_line(text: str) -> str:
    """The one line that tells people what is wrong; what the log says besides is JSON."""
    lines = [line for line in text.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, text
    return lines[0]


def events(text: str) -> list[str]:
    return [json.loads(line)["event"] for line in text.splitlines() if line.startswith("{")]


def ctxt_switches(pid: int) -> dict[str, tuple[int, ...]]:
    """Voluntary and involuntary context switches by thread."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines()
            found[task] = tuple(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found
