"""A user without subordinate ids: one id, and one warning."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.rootless.overlays import ConfiguredEngine
from tests.support.user import User

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.support.user import UserEngine

ALONE = User("", 4243, 4243)
"""Nobody has given this one an account, or ids."""


@pytest.fixture(scope="session")
def user() -> User:
    return ALONE


def test_root_in_the_container_is_all_there_is(engine: UserEngine) -> None:
    root = ("--rootfs", str(engine.rootfs))
    assert engine.out("run", "--rm", *root, "id", "-u") == "0"
    done = engine.cli("run", "--rm", "--user", "1000", *root, "true", check=False)
    assert done.returncode in (125, 126)
    assert done.stderr.count("\n") == 1
    assert engine.out("ps", "-aq") == ""


def test_it_is_told_once(engine: UserEngine) -> None:
    engine.kill()
    assert (
        engine.log_text().count(
            "there are no subordinate ids for the user 4243 in /etc/subuid and /etc/subgid"
        )
        == 1
    )
    [warning] = engine.call("io.pyman.System.Info")["supervisor"]["warnings"]
    assert warning.startswith("only one id can be used")
    assert engine.call("io.pyman.System.Info")["host"]["idMappings"]["uidmap"] == [
        {"container_id": 0, "host_id": 4243, "size": 1}
    ]


def _import(engine: UserEngine) -> subprocess.CompletedProcess[str]:
    """An image with a file of somebody whom this user does not have."""
    archive = engine.path / "files.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("hello")
        member.uid = member.gid = 7
        member.mode = 0o644
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    engine.user.owns(archive)
    return engine.cli("import", "--quiet", str(archive), "foreign:1", check=False)


def test_an_image_with_other_owners_is_refused(engine: UserEngine) -> None:
    done = _import(engine)
    assert done.returncode == 125
    assert "subordinate ids" in done.stderr
    assert engine.out("images", "-q") == ""


def test_all_files_of_an_image_are_the_users_own_where_that_is_asked_for(programs: Path) -> None:
    engine = ConfiguredEngine(ALONE, programs)
    try:
        engine.configure('ignore_chown_errors = "true"')
        engine.start()
        assert _import(engine).returncode == 0
        [document] = json.loads(engine.out("image", "inspect", engine.out("images", "-q")))
        layer = document["GraphDriver"]["Data"]["UpperDir"]
        assert os.stat(f"{layer}/hello").st_uid == 4243
    finally:
        engine.close()
