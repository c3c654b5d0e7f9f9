"""Requests for containers, and one whole life of a container in an OCI runtime without conmon."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

from pyman.api.spec import ContainerSpec
from supervisor.oci.build import BuildRequest, build, build_exec, write_files
from supervisor.settings.load import load
from supervisor.settings.model import ContainersSettings, Options, Settings
from supervisor.settings.xdg import Xdg
from tests.support.leaks import cgroup_directories, remove_cgroups

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.oci.request import ExecBuildRequest
    from tests.support.runtimes import Place

DEADLINE = 30


def settings(**containers: Any) -> Settings:
    """The defaults without any file, with these settings of new containers."""
    return Settings(uid=0, xdg=Xdg.of({"HOME": "/root"}, 0), containers=ContainersSettings(**containers))


def host_settings() -> Settings:
    """What this machine's files say."""
    return load(Options(), {"HOME": "/root"}, 0)


def request(rootfs: str = "/", chosen: Settings | None = None, **spec: Any) -> BuildRequest:
    """A container `true` with these fields of the spec."""
    spec.setdefault("command", ["true"])
    return BuildRequest(
        id="c" * 64,
        name="box",
        spec=ContainerSpec(**spec),
        rootfs=rootfs,
        hostname="boxhost",
        settings=chosen or settings(),
        run_directory="/run/pyman-test",
    )


def built(asked: BuildRequest) -> dict[str, Any]:
    """config.json as an OCI runtime reads it."""
    decoded: dict[str, Any] = json.loads(build(asked))
    return decoded


class Life:
    """A container that an OCI runtime runs straight from a built configuration."""

    def __init__(self, place: Place, bundle: Path, asked: BuildRequest) -> None:
        self.id = uuid.uuid4().hex * 2
        self.bundle = bundle
        self.runtime = place.runtime
        self._place = place
        changes = {"id": self.id, "run_directory": str(bundle)}
        fields = {name: getattr(asked, name) for name in asked.__struct_fields__}
        self.request = BuildRequest(**fields | changes)
        bundle.mkdir(exist_ok=True)
        write_files(self.request)
        (bundle / "config.json").write_bytes(build(self.request))

    def call(self, *arguments: str, output: str = "output") -> subprocess.CompletedProcess[bytes]:
        """One call of the runtime. Its streams are files: the container inherits them and keeps them open."""
        with open(self.bundle / output, "wb") as out:
            return subprocess.run(
                [*self._place.prefix("/"), self.runtime, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=DEADLINE,
                check=False,
            )

    def run(self) -> str:
        """Run to the end; what was printed."""
        done = self.call("run", "--bundle", str(self.bundle), self.id)
        text = (self.bundle / "output").read_text()
        assert done.returncode == 0, text
        return text

    def exec(self, asked: ExecBuildRequest) -> str:
        path = self.bundle / "process.json"
        path.write_bytes(build_exec(asked))
        done = self.call("exec", "--process", str(path), self.id, output="exec")
        text = (self.bundle / "exec").read_text()
        assert done.returncode == 0, text
        return text

    def start(self) -> None:
        for verb in (("create", "--bundle", str(self.bundle)), ("start",)):
            done = self.call(*verb, self.id)
            assert done.returncode == 0, (self.bundle / "output").read_text()

    def close(self) -> None:
        self.call("delete", "--force", self.id)
        remove_cgroups({path for path in cgroup_directories() if self.id in path})


def in_cgroups(container_id: str) -> bool:
    return any(container_id in path for path in cgroup_directories())
