"""Root's engine with a `mount_program` in storage.conf."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.configured import FUSE, Configured, servers
from tests.support.engine import Leftovers
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.runtimes import Place

pytestmark = [
    pytest.mark.oci_runtime("runc"),
    pytest.mark.skipif(
        not os.path.exists(FUSE) or not os.path.exists("/dev/fuse"), reason="no fuse-overlayfs"
    ),
]


@pytest.fixture
def configured(oci_runtime: Place) -> Iterator[Configured]:
    engine = Configured(oci_runtime)
    engine.configure(f'mount_program = "{FUSE}"')
    try:
        engine.start()
        yield engine
    finally:
        try:
            engine.close()
        except Leftovers as error:
            pytest.fail(str(error), pytrace=False)


def test_a_view_is_the_programs_which_lives_in_conmons_cgroup_and_ends_with_the_run(
    configured: Configured, rootfs: Path
) -> None:
    view = ("--rootfs", f"{rootfs}:O")
    id = configured.out("run", "-d", "--name", "c", *view, "sleep", "1000")
    [(target, serving)] = servers(configured).items()
    assert target.split("/")[-2] == id
    conmon = configured.inspect("c")["State"]["ConmonPid"]
    cgroups = [Path(f"/proc/{pid}/cgroup").read_text() for pid in (conmon, serving)]
    assert cgroups[0] == cgroups[1]
    assert id in cgroups[0]
    configured.cli("exec", "c", "sh", "-c", "rm -r /home && mkdir /home && chown 5 /home")
    configured.kill()
    assert servers(configured) == {target: serving}
    configured.cli("restart", "-t", "0", "c")
    assert not processes.wait_gone([serving], 20)
    assert configured.out("exec", "c", "ls", "/home") == "worker"
    configured.cli("rm", "-f", "-t", "0", "c")
    until(lambda: servers(configured) == {}, "a server stays")


def test_views_of_what_is_mounted_are_the_programs_too(
    configured: Configured, rootfs: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("told\n")
    options = ("-v", f"{tmp_path}:/over:O", "--rootfs", str(rootfs))
    id = configured.out("run", "-d", "--name", "c", *options, "sleep", "1000")
    [(target, serving)] = servers(configured).items()
    assert target.split("/")[-3] == id
    assert id in Path(f"/proc/{serving}/cgroup").read_text()
    configured.cli("exec", "c", "sh", "-c", "rm /over/file; touch /over/new")
    configured.kill()
    assert servers(configured) == {target: serving}
    assert configured.out("exec", "c", "ls", "/over") == "new"
    configured.cli("rm", "-f", "-t", "0", "c")
    until(lambda: servers(configured) == {}, "a server stays")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
