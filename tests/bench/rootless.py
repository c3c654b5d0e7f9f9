"""Rows about an ordinary user's containers, beside root's and beside Podman run by the same user."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.context import pyman_time
from tests.bench.measure import Failed, command_time, interleave, median
from tests.bench.podman import CONFIG, define_network, in_tree, ulimits
from tests.bench.report import Limit, Result
from tests.support import processes
from tests.support.rootfs import make_rootfs
from tests.support.trees import leave
from tests.support.user import USER, User, UserEngine, UserPlace
from tests.support.user_programs import programs_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.context import Bench

__all__ = ["becoming", "both_of_user", "first", "rootless", "user_time"]

_ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid")
_WORDS = ("run", "--rm", "--network", "none", "--rootfs")


class UserPodman:
    """Podman as the user, with directories of its own; the tree's, where that has what rootless takes."""

    def __init__(self, user: User, runtime: str, tree: Path | None) -> None:
        self._user = user
        self._holder: subprocess.Popen[bytes] | None = None
        self.path = Path(tempfile.mkdtemp(prefix="pb-", dir="/tmp"))
        try:
            program = os.path.realpath(shutil.which(runtime) or "")
            text = CONFIG.format(ulimits=ulimits(), runtime=runtime, path=program, directory=self.path)
            (self.path / "containers.conf").write_text(text)
            define_network(self.path)
            self.runtime_dir = self.path / "xdg"
            self.runtime_dir.mkdir(mode=0o700)
            self.rootfs = make_rootfs(self.path / "rootfs")
            user.owns(self.path)
            if tree is not None and (tree / "usr/bin/newuidmap").exists():
                self._holder = in_tree(tree, [program, *_ACCOUNTS])
            self.version = self.out("version", "--format", "{{.Client.Version}}")
            plain = [command_time(["true"], self.environment) for _ in range(15)]
            entered = [command_time([*self._prefix, "true"], self.environment) for _ in range(15)]
            self._entering = max(0.0, median(entered) - median(plain))
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.path),
            "USER": self._user.name,
            "XDG_RUNTIME_DIR": str(self.runtime_dir),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "CONTAINERS_CONF": str(self.path / "containers.conf"),
        }

    @property
    def _prefix(self) -> list[str]:
        inside = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"] if self._holder else []
        return [*inside, *UserPlace(self._user).prefix("/")]

    def _command(self, *arguments: str | Path) -> list[str]:
        return [*self._prefix, "podman", *map(str, arguments)]

    def time(self, *arguments: str | Path) -> float:
        """Seconds of one command, without what becoming the user and entering the tree costs."""
        return command_time(self._command(*arguments), self.environment) - self._entering

    def out(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            self._command(*arguments),
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise Failed(f"podman of {self._user.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def forget(self) -> None:
        """As after a boot: no namespaces."""
        self.out("system", "migrate")
        processes.end(processes.mentions([str(self.path)]))

    def close(self) -> None:
        with contextlib.suppress(Failed, OSError, subprocess.TimeoutExpired, AttributeError):
            self.forget()
        processes.end(processes.mentions([str(self.path)]) - {os.getpid()})
        if self._holder is not None:
            leave(self._holder)
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def both_of_user(bench: Bench) -> Iterator[tuple[UserEngine, UserPodman]]:
    try:
        user = User.of()
    except KeyError:
        raise Failed(f"there is no user {USER}: scripts/test makes one") from None
    podman = UserPodman(user, bench.options.runtime, bench.options.tree)
    try:
        with contextlib.contextmanager(programs_for)(UserPlace(user)) as programs:
            engine = UserEngine(user, programs, config='[containers]\nlog_driver = "k8s-file"\n')
            try:
                yield engine, podman
            finally:
                engine.close()
    finally:
        podman.close()


def user_time(engine: UserEngine, becoming: float, *arguments: str | Path) -> float:
    argv = [*engine.place.prefix("/"), *engine.command(*arguments)]
    return command_time(argv, engine.environment) - becoming


def becoming(engine: UserEngine) -> float:
    """What it costs to become the user, which no user does."""
    plain = [command_time(["true"], engine.environment) for _ in range(15)]
    became = [command_time([*engine.place.prefix("/"), "true"], engine.environment) for _ in range(15)]
    return max(0.0, median(became) - median(plain))


def rootless(bench: Bench) -> list[Result]:
    """`run --rm --network none … true` by an ordinary user."""
    with bench.engine() as root, both_of_user(bench) as (engine, podman):
        engine.start()
        own = becoming(engine)
        times = interleave(
            bench.count,
            {
                "pyman": lambda: user_time(engine, own, *_WORDS, engine.rootfs, "true"),
                "root": lambda: pyman_time(root, *_WORDS, bench.rootfs, "true"),
                "podman": lambda: podman.time(*_WORDS, podman.rootfs, "true"),
            },
        )
        bench.say(f"  the user's Podman is {podman.version}")
    mine, roots, theirs = (median(times[name]) * 1e3 for name in ("pyman", "root", "podman"))
    what = "`run --rm --network none … true` by an ordinary user"
    return [
        Result("rootless", what, "ms", mine, theirs, limit=Limit(0.6, times=True), samples=times["pyman"]),
        Result("rootless", "the same", "ms", mine, roots, "pyman as root", Limit(1.3, times=True)),
    ]


def first(bench: Bench) -> list[Result]:
    """The same as the first command after a boot: no supervisor, no namespaces."""
    with both_of_user(bench) as (engine, podman):
        own = becoming(engine)

        def mine() -> float:
            seconds = user_time(engine, own, *_WORDS, engine.rootfs, "true")
            keeper = int(engine.call("io.pyman.System.Info")["supervisor"]["keeperPid"])
            os.kill(keeper, signal.SIGTERM)
            processes.wait_gone([keeper], 10)
            (engine.runtime_dir / "pyman/ns_handles").unlink(missing_ok=True)
            time.sleep(0.2)
            return seconds

        def theirs() -> float:
            podman.forget()
            return podman.time(*_WORDS, podman.rootfs, "true")

        times = interleave(bench.count, {"pyman": mine, "podman": theirs})
    a, b = (median(times[name]) * 1e3 for name in ("pyman", "podman"))
    what = "the same as the first command after a boot"
    return [Result("first", what, "ms", a, b, limit=Limit(1.0, times=True), samples=times["pyman"])]
