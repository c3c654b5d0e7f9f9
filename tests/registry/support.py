"""Registries of a test's own: settings in a directory, and the program that they need."""

from __future__ import annotations

import contextlib
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from pyman.api.image import RegistryAccess
from supervisor.registry.calls import _Program
from supervisor.registry.client import Registries
from supervisor.registry.configuration import Configuration
from supervisor.registry.reference import parse
from supervisor.settings.model import EngineSettings, Settings
from supervisor.settings.xdg import Xdg
from tests.support.hostile import OCI_MANIFEST
from tests.support.registry import digest_of

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from supervisor.registry.reference import Reference
    from tests.support.hostile import Hostile

__all__ = ["ACCEPT", "ACCESS", "DATA", "DIGEST", "MANIFEST", "SECRET", "STALL", "Home", "file_of", "name_at"]

STALL = 1.0
"""Seconds without a byte until a hostile registry is given up."""
DATA = os.urandom(300_000)
DIGEST = digest_of(DATA)
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 1},
        "layers": [],
    }
).encode()
ACCESS = RegistryAccess(tls_verify=False, retry=2, retry_delay=0.01)
SECRET = RegistryAccess(
    tls_verify=False, retry=2, retry_delay=0.01, username="someone", password="s3cret-w0rd"
)


def name_at(bad: Hostile) -> Reference:
    return parse(f"{bad.host}/a:1")


ACCEPT = '{"default": [{"type": "insecureAcceptAnything"}]}'


class Home:
    """A user's, and an administrator's, configuration below a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.administrator = path / "etc"
        self.home = path / "home"
        self.runtime = path / "run"
        self.bin = path / "bin"
        for directory in (self.administrator, self.home, self.runtime, self.bin):
            directory.mkdir()
        self.environ = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(self.runtime),
        }
        self.write("etc/policy.json", ACCEPT)

    @property
    def auth_file(self) -> Path:
        """Where logins go by default."""
        return self.runtime / "containers" / "auth.json"

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def settings(self, **engine: Any) -> Settings:
        return Settings(uid=1000, xdg=Xdg.of(self.environ, 1000), engine=EngineSettings(**engine))

    def configuration(self, settings: Settings) -> Configuration:
        return Configuration(
            settings,
            self.environ,
            system=str(self.path / "usr"),
            administrator=str(self.administrator),
            aliases=str(self.home / ".cache/containers/short-name-aliases.conf"),
        )

    @asynccontextmanager
    async def registries(
        self,
        program: socket.socket | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        idle: float = 60.0,
        stall: float = 30.0,
        **engine: Any,
    ) -> AsyncIterator[Registries]:
        """`program`: one that runs already."""
        settings = self.settings(**engine)
        async with trio.open_nursery() as programs:
            found = Registries(
                settings,
                programs,
                environ={**self.environ, **(environ or {})},
                idle=idle,
                stall=stall,
                configuration=self.configuration(settings),
            )
            if program is not None:
                found._calls._program = _Program(program.dup(), None)
            try:
                yield found
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await found.aclose()


@contextlib.contextmanager
def file_of(path: Path, content: bytes = b"") -> Iterator[int]:
    """A descriptor of a new file for reading and writing."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)
