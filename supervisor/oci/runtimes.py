"""Finding the OCI runtimes of this host, and calling one.

Which there are, and which of them work, is asked by `probes`. Every call has a deadline in seconds. What the runtime
says is translated by `errors`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import DeadlineExceeded, PymanError, RuntimeFailed, RuntimeNotFound
from supervisor.kernel import children
from supervisor.oci import errors, probes
from supervisor.oci.probes import NO_SUCH_COMMAND, is_executable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.oci.probes import Probe, Trial
    from supervisor.settings.model import EngineSettings

__all__ = ["OciRuntime", "RuntimeState", "Runtimes", "find_runtimes"]

_PROBE_DEADLINE = 5.0
_DEADLINE = 30.0


class RuntimeState(msgspec.Struct, frozen=True):
    """What the runtime knows of a container. `status`: creating, created, running, paused, stopped."""

    status: str
    pid: int = 0


class OciRuntime(msgspec.Struct, frozen=True):
    """One OCI runtime. `arguments` stand before every verb, also of the calls that conmon makes.

    `name` is what `Runtimes.pick` finds it by again: its name in the configuration, or its path.
    """

    name: str
    path: str
    version: str = ""
    arguments: tuple[str, ...] = ()
    deadline: float = _DEADLINE
    """Seconds for one call."""
    environment: dict[str, str] = {}
    """Added to the clean environment of every call, as XDG_RUNTIME_DIR for a user's."""

    @property
    def environ(self) -> dict[str, str]:
        """What a call of it sees."""
        return {**children.CLEAN_ENVIRONMENT, **self.environment}

    @property
    def kind(self) -> str:
        """`runc`, `crun` …: by the file's name."""
        return os.path.basename(self.path)

    async def start(self, container_id: str) -> None:
        """Run the command of a created container. Raises as `errors.translate` says, and DeadlineExceeded."""
        await self._must("start", container_id)

    async def kill(self, container_id: str, signal: int, *, all: bool = False) -> bool:  # noqa: A002
        """Send a signal to the container's first process, or to all. False: it had ended already."""
        everyone = ["--all"] if all else []
        code, said = await self._call("kill", [*everyone, container_id, str(signal)])
        if code and not (errors.is_not_running(said) or errors.is_absent(said)):
            raise errors.translate(self.name, "kill", container_id, said)
        return code == 0

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """Give back what a stopped container holds; with `force`, kill it first. Absent: nothing to do."""
        code, said = await self._call("delete", [*(["--force"] if force else []), container_id])
        if code and not errors.is_absent(said):
            raise errors.translate(self.name, "delete", container_id, said)

    async def pause(self, container_id: str) -> None:
        await self._must("pause", container_id)

    async def resume(self, container_id: str) -> None:
        await self._must("resume", container_id)

    async def update(self, container_id: str, name: str, limits: bytes, lock: int) -> None:
        """Change the limits of the container's cgroup: `resources` of the OCI specification. `name`: of the container,
        for people. `lock`: a descriptor that the call has, too, so that it can be told when it is over (`kernel.held`)."""
        done = await self._run("update", ["--resources", "-", container_id], limits, (lock,))
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise errors.translate(self.name, "update", name, said)

    async def state(self, container_id: str) -> RuntimeState | None:
        """None: the runtime does not know the container."""
        done = await self._run("state", [container_id])
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            if errors.is_absent(said):
                return None
            raise errors.translate(self.name, "inspect", container_id, said)
        try:
            return msgspec.json.decode(done.stdout, type=RuntimeState)
        except msgspec.DecodeError as problem:
            message = f"cannot inspect container '{container_id}': {self.name} gave no state: {problem}"
            raise RuntimeFailed(message, subject=container_id) from problem

    def too_late(self, verb: str, container_id: str) -> DeadlineExceeded:
        """What is said of a call that was not answered."""
        message = (
            f"cannot {verb} container '{container_id}': {self.name} did not answer in {self.deadline:g} s"
        )
        return DeadlineExceeded(message, subject=container_id)

    async def _must(self, verb: str, container_id: str) -> None:
        code, said = await self._call(verb, [container_id])
        if code:
            raise errors.translate(self.name, verb, container_id, said)

    async def _call(self, verb: str, arguments: Sequence[str]) -> tuple[int, str]:
        done = await self._run(verb, arguments)
        return done.returncode, done.stderr.decode(errors="replace")

    async def _run(
        self,
        verb: str,
        arguments: Sequence[str],
        input: bytes = b"",  # noqa: A002 - as `children.run` has it
        pass_fds: Sequence[int] = (),
    ) -> children.Completed:
        argv = [self.path, *self.arguments, verb, *arguments]
        try:
            return await children.run(
                argv, input=input, env=self.environ, pass_fds=pass_fds, deadline=self.deadline
            )
        except DeadlineExceeded:
            raise self.too_late(verb, arguments[-2] if verb == "kill" else arguments[-1]) from None
        except OSError as error:
            raise RuntimeNotFound(
                f"cannot execute the OCI runtime '{self.path}': {error.strerror}", subject=self.path
            ) from error


class Runtimes:
    """The usable runtimes by name, the default among them, and what there is to warn about."""

    def __init__(
        self,
        available: Mapping[str, OciRuntime],
        default: OciRuntime,
        unusable: Mapping[str, str],
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.available = dict(available)
        self.default = default
        self.unusable = dict(unusable)
        """Name to reason: present, but cannot work here."""
        self.warnings = tuple(
            f"the OCI runtime '{name}' cannot work on this host and is passed over: {reason}"
            for name, reason in unusable.items()
        )
        self._arguments = arguments

    def pick(self, name: str) -> OciRuntime:
        """By name or absolute path; empty: the default. RuntimeNotFound says what there is instead."""
        if not name:
            return self.default
        if name in self.available:
            return self.available[name]
        if name in self.unusable:
            raise RuntimeNotFound(
                f"cannot use the OCI runtime '{name}' on this host: {self.unusable[name]}", subject=name
            )
        if name.startswith("/"):
            return self._by_path(name)
        known = ", ".join(sorted(self.available))
        raise RuntimeNotFound(f"cannot find an OCI runtime '{name}'", subject=name, hint=f"there is {known}")

    def _by_path(self, path: str) -> OciRuntime:
        for runtime in self.available.values():
            if runtime.path == path:
                return runtime
        if not is_executable(path):
            message = f"cannot use the OCI runtime '{path}': it is not an executable file"
            raise RuntimeNotFound(message, subject=path)
        known = self.default
        return OciRuntime(
            path, path, arguments=self._arguments, deadline=known.deadline, environment=known.environment
        )


async def find_runtimes(
    engine: EngineSettings,
    *,
    probed: Sequence[Probe] | None = None,
    environment: Mapping[str, str] | None = None,
    deadline: float = _DEADLINE,
) -> Runtimes:
    """Look for the configured runtimes, probe them side by side and choose the default.

    `probed`: what `probes.begin` has begun before, if it has. `deadline`: seconds for each later call.
    RuntimeNotFound: none works, or the configured one does not.
    """
    arguments = engine.runtime_flags
    asked = probes.begin(engine) if probed is None else probed
    versions: dict[str, str] = {}
    unusable: dict[str, str] = {}
    async with trio.open_nursery() as answers:
        for probe in asked:
            answers.start_soon(_ask_version, probe, versions, unusable)
            if probe.trial is not None:
                answers.start_soon(_judge, probe.name, probe.trial, unusable)
    available = {
        probe.name: OciRuntime(
            probe.name, probe.path, versions.get(probe.name, ""), arguments, deadline, dict(environment or {})
        )
        for probe in asked
        if probe.name not in unusable
    }
    return Runtimes(available, _default(engine, available, unusable), unusable, arguments)


def unified_hierarchy() -> bool:
    """Whether the cgroup file system of this process's mount namespace is cgroup v2 alone."""
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def _default(
    engine: EngineSettings, available: Mapping[str, OciRuntime], unusable: Mapping[str, str]
) -> OciRuntime:
    if engine.runtime:
        for runtime in available.values():
            if engine.runtime in (runtime.name, runtime.path):
                return runtime
        reason = unusable.get(engine.runtime, "it is not installed")
        message = f"cannot use the configured OCI runtime '{engine.runtime}': {reason}"
        raise RuntimeNotFound(message, subject=engine.runtime, hint=_what_there_is(available))
    order = ("crun", "runc", "youki") if unified_hierarchy() else ("runc", "crun", "youki")
    for name in (*order, *available):
        if name in available:
            return available[name]
    reasons = "; ".join(f"'{name}': {reason}" for name, reason in unusable.items())
    message = f"cannot find an OCI runtime that works on this host{f' ({reasons})' if reasons else ''}"
    raise RuntimeNotFound(message, hint="install crun or runc, or name one in [engine.runtimes]")


def _what_there_is(available: Mapping[str, OciRuntime]) -> str:
    return f"there is {', '.join(sorted(available))}" if available else "install crun or runc"


async def _ask_version(probe: Probe, versions: dict[str, str], unusable: dict[str, str]) -> None:
    """The number in `NAME version 1.2.3`; a runtime that cannot even say that is not usable."""
    name = probe.name
    try:
        done = await children.collect(probe.version, deadline=_PROBE_DEADLINE)
    except (OSError, PymanError) as error:
        unusable.setdefault(name, str(error))
        return
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        said = errors.complaint(done.stderr.decode(errors="replace"))
        unusable.setdefault(name, said or f"'{probe.path} --version' fails with exit code {done.returncode}")
        return
    match = re.search(r"\b(\d+\.\d+\S*)", text)
    versions[name] = match[1].rstrip(",") if match else ""


async def _judge(name: str, trial: Trial, unusable: dict[str, str]) -> None:
    """What came of having a container created whose command does not exist."""
    try:
        done = await children.collect(trial.program, deadline=_PROBE_DEADLINE)
        if done.returncode == 0:  # pragma: no cover - a runtime that looks for the command only later
            await children.run(trial.undo, deadline=_PROBE_DEADLINE)
            return
    except (OSError, PymanError) as error:
        unusable[name] = str(error)
        return
    finally:
        trial.close()
    said = errors.complaint(done.stderr.decode(errors="replace"))
    if NO_SUCH_COMMAND not in said:
        unusable[name] = said or f"it cannot create a container (exit code {done.returncode})"
