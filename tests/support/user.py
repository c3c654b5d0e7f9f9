"""A supervisor of an ordinary user, driven by tests that run as root.

The user is one that `scripts/setup` has made, with subordinate ids. Commands run as that user; the tests' own
connections are made with the user's effective id, since an engine admits nobody else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor.rootless import handles, pause
from tests.support import processes
from tests.support.engine import Engine
from tests.support.rootfs import make_rootfs
from tests.support.runtimes import Place
from tests.support.varlink import Wire, call

if TYPE_CHECKING:
    import socket as sockets
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["USER", "User", "UserEngine", "UserPlace"]

USER = "pyman-test"
_ACTING = threading.RLock()


@dataclass(frozen=True)
class User:
    """`name` is empty for one without an account."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, name: str = USER) -> User:
        entry = pwd.getpwnam(name)
        return cls(name, entry.pw_uid, entry.pw_gid)

    def owns(self, *paths: Path) -> None:
        """Give files to the user, trees included."""
        for path in paths:
            for directory, names, files in os.walk(path):
                for name in ("", *names, *files):
                    os.chown(os.path.join(directory, name), self.uid, self.gid, follow_symlinks=False)

    @contextlib.contextmanager
    def acts(self) -> Iterator[None]:
        """What is done in it is done with the user's effective ids: by one thread at a time, as all of them have these."""
        with _ACTING:
            os.setegid(self.gid)
            os.seteuid(self.uid)
            try:
                yield
            finally:
                os.seteuid(0)
                os.setegid(0)


class UserPlace(Place):
    """Where programs run as the user, with no more rights than a login gives."""

    def __init__(self, user: User, around: Place | None = None, groups: Sequence[int] = ()) -> None:
        """`around`: where an OCI runtime works; none: runc does anywhere. `groups`: instead of the user's own
        supplementary groups."""
        super().__init__(around.runtime if around else "runc", around.holder if around else None)
        self.user = user
        self.groups = tuple(groups)

    def prefix(self, cwd: str) -> list[str]:
        user = self.user
        groups = "--init-groups" if user.name else "--clear-groups"
        if self.groups:
            groups = f"--groups={','.join(map(str, self.groups))}"
        words = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", groups]
        return [*super().prefix(cwd), *words, "--inh-caps=-all", "--ambient-caps=-all", "--"]


class UserEngine(Engine):
    def __init__(
        self,
        user: User,
        programs: Path,
        *,
        options: Sequence[str] = (),
        config: str = "",
        more: Mapping[str, str] | None = None,
        place: UserPlace | None = None,
    ) -> None:
        """`more`: added to the environment of every command. `place`: of the same user."""
        self._more = dict(more or {})
        self.user = user
        self.programs = programs
        self._paused: dict[int, int] = {}
        """Pause processes that there have been, and when they began."""
        super().__init__(place or UserPlace(user), options=options, config=config)
        user.owns(self.path)

    @functools.cached_property
    def rootfs(self) -> Path:
        """The user's own. Many tests have another, which is not made for each of them."""
        made = make_rootfs(self.path / "rootfs")
        self.user.owns(made)
        return made

    def _make_runtime_dir(self) -> Path:
        made = self.path / "xdg"
        made.mkdir(mode=0o700)
        return made

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "USER": self.user.name, **self._more}

    def _notice_socket(self) -> sockets.socket:
        made = super()._notice_socket()
        self.user.owns(self.path)
        return made

    def wire(self, timeout: float = 20.0) -> Wire:
        with self.user.acts():
            return Wire(self.socket, timeout)

    def call(
        self, method: str, parameters: dict[str, Any] | None = None, timeout: float = 20.0
    ) -> dict[str, Any]:
        with self.user.acts():
            return call(self.socket, method, parameters, timeout=timeout)

    def keeper_ends(self) -> None:
        """What follows ends it, and it is no failure that it does."""
        assert self.keeper is not None
        threading.Thread(target=self.keeper.wait, daemon=True).start()
        self.keeper = None

    def spawn_other(self, root: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """A command for another engine of the same user."""
        words = [
            str(self.programs / "pyman"),
            f"--root={root}",
            f"--runroot={root}-run",
            f"--tmpdir={root}-tmp",
            *arguments,
        ]
        return subprocess.Popen(
            [*self.place.prefix("/"), *words],
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def _remember(self) -> None:
        super()._remember()
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid, begun = map(int, (self.runtime_dir / "pyman" / pause.NAME).read_text().split())
            self._paused[pid] = begun

    def _sweep(self) -> list[str]:
        """Also what lives in the user's namespaces without a name by which it could be found. A pause process is meant to,
        until the next boot or a reset: the one that is written down, and no other."""
        complaints = super()._sweep()
        directory = str(self.runtime_dir / "pyman")
        with contextlib.ExitStack() as opened:
            with self.user.acts():
                found = [opened.enter_context(kept.find(directory)) for kept in (pause, handles)]
                pause.end(directory)
            inside = {pid for each in found if each for pid in processes.inhabitants(each.user, "user")}
            inside |= {pid for pid, begun in self._paused.items() if processes.begun(pid) == begun}
            left = processes.wait_gone(inside, 10)
            complaints += [f"process {processes.describe(pid)}" for pid in sorted(left)]
            processes.end(left)
        self._paused.clear()
        return complaints

    def close(self) -> None:
        super().close()
        # Root may remove what belongs to subordinate ids.
        shutil.rmtree(self.path, ignore_errors=True)
