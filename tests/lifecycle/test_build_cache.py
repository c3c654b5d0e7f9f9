"""What builds keep between them, and `image prune --build-cache`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.storage.others import missing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.oci_runtime("runc", "rootless"),
    pytest.mark.skipif(bool(missing("buildah")), reason=missing("buildah")),
]

CONTAINERFILE = """\
FROM scratch
COPY busybox /bin/sh
RUN --mount=type=cache,target=/cache,id=one ["sh", "-c", "echo once >> /cache/words; echo $(wc -l </cache/words) builds"]
RUN --mount=type=cache,target=/other,sharing=locked,uid=7 ["sh", "-c", "mkdir -p /other/deep; touch /other/deep/file"]
"""


class Builds:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tmpdir = engine.path / "tmpdir"
        self._context = engine.path / "context"
        for path in (self.tmpdir, self._context):
            path.mkdir(mode=0o755)
            owned(engine, path)
        shutil.copy("/bin/busybox", self._context / "busybox")
        (self._context / "Containerfile").write_text(CONTAINERFILE)

    @property
    def environment(self) -> dict[str, str]:
        return {"TMPDIR": str(self.tmpdir)}

    def build(self) -> str:
        """How many have used the cache, in the words of the build."""
        words = [
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--no-cache",
            "-t",
            "made:1",
            str(self._context),
        ]
        done = self._engine.cli("build", *words, env=self.environment)
        return next(line for line in done.stdout.splitlines() if line.endswith(" builds"))

    def prune(self, *words: str) -> str:
        return self._engine.cli("image", "prune", "-f", *words, env=self.environment).stdout


def owned(engine: Engine, path: Path) -> None:
    if hasattr(engine.place, "user"):
        engine.place.user.owns(path)


@pytest.fixture
def builds(engine: Engine) -> Builds:
    return Builds(engine)


def test_what_builds_have_kept_goes_when_it_is_asked_for(engine: Engine, builds: Builds) -> None:
    assert [builds.build(), builds.build()] == ["1 builds", "2 builds"]
    (cache,) = builds.tmpdir.glob("buildah-cache*")
    assert list(cache.rglob("deep/file"))
    builds.prune()
    assert builds.build() == "3 builds"
    builds.prune("--build-cache")
    assert list(builds.tmpdir.iterdir()) == []
    assert "localhost/made:1" in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}")
    assert builds.build() == "1 builds"
    # Also what newer Buildahs have, and what an earlier prune has not come to the end of.
    uid = engine.place.user.uid if hasattr(engine.place, "user") else 0
    for name in (f"buildah-cache-{uid}", f".pyman-buildah-cache-{uid}-0123"):
        (builds.tmpdir / name / "kept").mkdir(parents=True)
        owned(engine, builds.tmpdir / name)
    builds.prune("--build-cache")
    assert list(builds.tmpdir.iterdir()) == []
    builds.prune("--build-cache")


def test_what_is_somebody_elses_stays(builds: Builds) -> None:
    outside = builds.tmpdir.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    foreign = builds.tmpdir / "buildah-cache"
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    (builds.tmpdir / "buildah-cache-0").symlink_to(outside)
    builds.prune("--build-cache")
    assert sorted(path.name for path in builds.tmpdir.iterdir()) == ["buildah-cache", "buildah-cache-0"]
    assert (outside / "file").read_text() == "stays"
