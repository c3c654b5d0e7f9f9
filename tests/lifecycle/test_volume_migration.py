"""Containers that were made before there were volumes: their directories become anonymous volumes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.engine import Engine  # noqa: TC001
from tests.support.images import IMAGE, import_image

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(
    not any(os.access(f"{directory}/podman", os.X_OK) for directory in ("/usr/bin", "/usr/local/bin")),
    reason="needs Podman to make images",
)


def made_old(engine: Engine, *, started: bool) -> str:
    """The state and the directories of such a container, which has one image volume; its id."""
    engine.cli("create", "--name", "old", IMAGE, "sh", "-c", "cat /home/worker/kept; ls /home; sleep 1000")
    inspected = engine.inspect("old")
    id: str = inspected["Id"]
    (volume,) = engine.call("io.pyman.Volume.List", {})["volumes"]
    engine.stop()
    directory = Path(str(engine.root)) / "pyman/containers" / id / "volumes/0"
    if started:
        (directory / "worker").mkdir(parents=True)
        (directory / "worker/kept").write_text("from before\n")
        for path in (directory.parent.parent, directory.parent, directory, directory / "worker"):
            shutil.copystat(path, path)
            os.chown(path, *_owner(engine))
        os.chown(directory / "worker/kept", *_owner(engine))
    shutil.rmtree(Path(volume["Mountpoint"]).parent)

    def alter(definition: dict[str, Any]) -> dict[str, Any]:
        del definition["spec"]["volumes"]
        definition["image"]["volume_mode"] = "anonymous"
        return definition

    _altered(engine, id, alter)
    engine.start()
    return id


def _owner(engine: Engine) -> tuple[int, int]:
    status = os.stat(engine.root)
    return status.st_uid, status.st_gid


def _altered(engine: Engine, id: str, alter: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    connection = sqlite3.connect(Path(str(engine.root)) / "pyman/state.db", isolation_level=None)
    try:
        (body,) = connection.execute("SELECT definition FROM record WHERE id = ?", (id,)).fetchone()
        new = json.dumps(alter(json.loads(body))).encode()
        connection.execute("UPDATE record SET definition = ? WHERE id = ?", (new, id))
        connection.execute("DELETE FROM record WHERE kind = 'volume'")
    finally:
        connection.close()


@pytest.mark.oci_runtime("runc")
def test_directories_of_the_containers_own_become_anonymous_volumes(engine: Engine, rootfs: Path) -> None:
    import_image(engine, rootfs, changes=["VOLUME /home"])
    id = made_old(engine, started=True)
    (volume,) = engine.call("io.pyman.Volume.List", {})["volumes"]
    assert (volume["Anonymous"], volume["NeedsCopyUp"]) == (True, False)
    where = Path(volume["Mountpoint"])
    assert (where / "worker/kept").read_text() == "from before\n"
    assert not os.path.lexists(Path(str(engine.root)) / "pyman/containers" / id / "volumes")
    (mount,) = engine.inspect("old")["Mounts"]
    assert (mount["Name"], mount["Source"]) == (volume["Name"], str(where))
    engine.cli("start", "old")
    engine.cli("exec", "old", "sh", "-c", "until [ -e /home/worker/kept ]; do sleep 0.02; done")
    engine.stop()
    engine.start()  # nothing is done twice
    (again,) = engine.call("io.pyman.Volume.List", {})["volumes"]
    assert again["Name"] == volume["Name"]
    engine.cli("rm", "--force", "--time", "0", "--volumes", "old")
    assert not where.exists()


@pytest.mark.oci_runtime("runc")
def test_one_that_never_ran_gets_an_empty_volume_that_its_image_fills(engine: Engine, rootfs: Path) -> None:
    import_image(engine, rootfs, changes=["VOLUME /home"])
    made_old(engine, started=False)
    (volume,) = engine.call("io.pyman.Volume.List", {})["volumes"]
    assert volume["NeedsCopyUp"]
    engine.cli("start", "old")
    assert engine.out("exec", "old", "ls", "/home") == "worker"
    engine.cli("rm", "--force", "--time", "0", "old")
