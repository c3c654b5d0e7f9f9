"""Something that unpacks layers as root, or as an ordinary user in a user namespace, outside of the tests' process."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.archive.layers import tree_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.user import User

__all__ = ["Outcome", "Unpacker"]

_PROGRAM = """
import base64, json, os, resource, sys, trio
from pyman.errors import PymanError
from supervisor.archive import jobs
from supervisor.archive.feed import Feed

def main():
    for line in sys.stdin:
        job = json.loads(line)
        fd = os.memfd_create("layer")
        os.write(fd, base64.b64decode(job["layer"]))
        try:
            done = trio.run(lambda: jobs.unpack(Feed(fd), job["target"], job["split"], **job["options"]))
            answer = {"uids": done.uids, "gids": done.gids, "diff_id": done.diff_id}
        except PymanError as error:
            answer = {"code": error.code, "message": error.message, "hint": error.hint}
        os.close(fd)
        answer["memory"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(json.dumps(answer), flush=True)

main()
"""
_CANARY = "untouched"


class Outcome:
    """What has come of a layer: `code`, `message` and `hint` of an error (empty: none), and the tree."""

    def __init__(self, answer: dict[str, Any], diff: Path) -> None:
        self.code: str = answer.get("code", "")
        self.message: str = answer.get("message", "")
        self.hint: str = answer.get("hint", "")
        self.answer = answer
        self.diff = diff

    @property
    def tree(self) -> Mapping[str, str]:
        return tree_of(self.diff)


class Unpacker:
    """One process that unpacks what it is given, beside files that it must not touch."""

    def __init__(self, user: User | None, prefix: Sequence[str], python: Path | None) -> None:
        self.user = user
        self.place = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
        self._count = 0
        for name in ("outside", "work"):
            (self.place / name).mkdir()
        self.canary = self.place / "outside/canary"
        self.canary.write_text(_CANARY)
        if user is not None:
            user.owns(self.place)
        argv = [*prefix, str(python or sys.executable), "-c", _PROGRAM]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
        )

    def unpack(self, layer: bytes, target: Path | None = None, **options: Any) -> Outcome:
        self._count += 1
        work = self.place / "work" / str(self._count)
        diff = target or work / "diff"
        diff.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        if self.user is not None:
            self.user.owns(work)
        before = self._around()
        job = {
            "layer": base64.b64encode(layer).decode(),
            "target": str(diff),
            "split": str(work / "split.gz"),
            "options": {"user_xattrs": self.user is not None, **options},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        # Others may make something in /etc, for a moment.
        until(lambda: self._around() == before, "something outside of the layer was touched", 5)
        return Outcome(answer, diff)

    def _around(self) -> object:
        return [
            tree_of(self.place / "outside"),
            [(path, os.stat(path).st_mtime_ns) for path in ("/etc/passwd", self.place, self.canary)],
            [sorted(os.listdir(path)) for path in ("/etc", "/")],
        ]

    def owner(self, uid: int, gid: int) -> str:
        """Who on the host those ids of the namespace are."""
        if self.user is None:
            return f"{uid}:{gid}"
        own = {"uid": self.user.uid, "gid": self.user.gid}
        found = []
        for kind, number in (("uid", uid), ("gid", gid)):
            lines = [line.split(":") for line in Path(f"/etc/sub{kind}").read_text().splitlines()]
            start = next(int(first) for name, first, _ in lines if name == self.user.name)
            found.append(start + number - 1 if number else own[kind])
        return f"{found[0]}:{found[1]}"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self.place)
