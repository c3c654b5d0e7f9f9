"""What root's programs do, by an ordinary user's in a user namespace: pack, commit, export, tell changes, index."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.archive.layers import Layer
from tests.support.user import User, UserPlace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

PROGRAM = """
import json, os, shutil, sys, tarfile, trio
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
from supervisor.kernel import mounts

os.chdir(sys.argv[1])

def path(name):
    return os.path.abspath(name)

def new(name):
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

def members(name):
    with tarfile.open(name) as tar:
        return [(member.name, member.uid) for member in tar]

async def main():
    for name in ("diff", "upper", "work", "merged"):
        os.mkdir(name)
    layer = os.open("layer", os.O_RDONLY)
    unpacked = await jobs.unpack(Feed(layer), path("diff"), path("split"), user_xattrs=True)
    packed = await jobs.pack(path("diff"), path("split"), new("packed"))
    mounts.overlay(path("merged"), [path("diff")], path("upper"), path("work"), "userxattr")
    shutil.rmtree("merged/etc/old")
    os.mkdir("merged/etc/old")
    os.close(new("merged/etc/old/new"))
    os.chown("merged/etc/old/new", 9, 9)
    os.unlink("merged/etc/file")
    committed = await jobs.pack_tree(path("upper"), new("committed"), layer=True, lowers=[path("diff")])
    exported = await jobs.pack_tree(path("merged"), new("exported"))
    changes = await jobs.changes(path("upper"), [path("diff")])
    contents = await jobs.index(layer, new("spool"))
    print(json.dumps({
        "same": packed.digest == unpacked.diff_id,
        "committed": members("committed"),
        "exported": members("exported"),
        "changes": [changes.changed, changes.added, changes.deleted],
        "size": next(part.size for part in contents.members if part.name == "etc/file"),
    }))

trio.run(main)
"""


def test_an_ordinary_users_programs_do_what_roots_do(programs: Path) -> None:
    user = User.of()
    layer = (
        Layer()
        .directory("etc")
        .file("etc/file", b"x" * 5000, uid=5, mode=0o400)
        .directory("etc/old", mode=0o700, uid=6)
        .file("etc/old/file", b"1", uid=7)
    )
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as name:
        place = Path(name)
        (place / "layer").write_bytes(layer.data())
        user.owns(place)
        words = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--"]
        argv = [*UserPlace(user).prefix("/"), *words, str(programs / "python"), "-c", PROGRAM, name]
        done = subprocess.run(argv, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "same": True,
        "committed": [
            ["etc", 0],
            ["etc/.wh.file", 0],
            ["etc/old", 0],
            ["etc/old/.wh..wh..opq", 0],
            ["etc/old/new", 9],
        ],
        "exported": [["etc", 0], ["etc/old", 0], ["etc/old/new", 9]],
        "changes": [["/etc"], ["/etc/old/new"], ["/etc/file", "/etc/old"]],
        "size": 5000,
    }
