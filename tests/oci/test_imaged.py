"""What of an image goes into a container's configuration and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.spec import ContainerSpec
from pyman.errors import CommandNotExecutable, InvalidArgument
from supervisor.oci.build import write_files
from supervisor.oci.environment import environment
from supervisor.oci.imaged import ImageUse
from tests.oci.support import built, request

if TYPE_CHECKING:
    from pathlib import Path


def test_variables_are_stronger_than_the_configured_and_weaker_than_those_asked_for() -> None:
    image = ImageUse(env={"PATH": "/image", "A": "image", "B": "image", "E": "a=b"})
    asked = msgspec.structs.replace(request(env={"B": "mine"}, unsetenv=["E"]), image=image)
    found = environment(asked, "/")
    assert (found["PATH"], found["A"], found["B"]) == ("/image", "image", "mine")
    assert "E" not in found
    asked = msgspec.structs.replace(request(env={"B": "mine"}, unsetenv_all=True), image=image)
    assert environment(asked, "/") == {"B": "mine", "HOSTNAME": "boxhost", "HOME": "/"}


def mounted(image: ImageUse, directory: str = "/srv/volumes") -> dict[str, dict[str, Any]]:
    asked = msgspec.structs.replace(request(), image=image, volumes_directory=directory)
    return {mount["destination"]: mount for mount in built(asked)["mounts"]}


def test_a_volume_is_a_directory_or_a_tmpfs_and_never_over_what_the_engine_mounts() -> None:
    wanted = ["/a/b", "/data", "/proc"]
    found = mounted(ImageUse(volumes=wanted, volume_mode="anonymous"))
    assert (found["/a/b"]["source"], found["/data"]["source"]) == ("/srv/volumes/0", "/srv/volumes/1")
    assert found["/proc"]["type"] == "proc"
    assert mounted(ImageUse(volumes=wanted, volume_mode="tmpfs"))["/data"]["type"] == "tmpfs"


def test_before_there_is_a_root_filesystem_nobody_is_looked_up() -> None:
    asked = msgspec.structs.replace(request(user="web", work_dir="/srv"), rootfs="")
    assert built(asked)["process"]["cwd"] == "/srv"


def test_without_a_command_the_image_is_named_as_well() -> None:
    asked = msgspec.structs.replace(request(command=[]), image=ImageUse(id="1" * 64))
    with pytest.raises(InvalidArgument, match="and its image has none"):
        built(asked)


def prepared(rootfs: Path, tmp_path: Path, **fields: Any) -> None:
    asked = request(str(rootfs), **fields)
    image = ImageUse(id="1" * 64, own_work_dir=True)
    write_files(msgspec.structs.replace(asked, image=image, run_directory=str(tmp_path / "run")))


def test_the_working_directory_of_an_image_is_made_for_its_user(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    prepared(rootfs, tmp_path, user="12:34", work_dir="/srv/web")
    status = (rootfs / "srv/web").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12, 34, 0o755)
    assert (rootfs / "srv").stat().st_uid == 0
    (rootfs / "srv/web").chmod(0o700)
    prepared(rootfs, tmp_path, user="1:1", work_dir="/srv/web")
    assert (rootfs / "srv/web").stat().st_uid == 12


def test_no_link_leads_the_making_of_a_working_directory_out(tmp_path: Path) -> None:
    rootfs, outside = tmp_path / "rootfs", tmp_path / "outside"
    rootfs.mkdir()
    outside.mkdir()
    (rootfs / "srv").symlink_to(outside)
    with pytest.raises(CommandNotExecutable, match="it is not a directory"):
        prepared(rootfs, tmp_path, work_dir="/srv/web")
    assert not list(outside.iterdir())


def test_containers_that_see_the_store_are_told(tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()

    def told(**fields: Any) -> str:
        asked = request(str(rootfs), **fields)
        asked = msgspec.structs.replace(asked, run_directory=str(tmp_path / "run"))
        asked = msgspec.structs.replace(asked, image=ImageUse(id="1" * 64, name="box:latest"))
        write_files(asked)
        return (tmp_path / "run/files/containerenv").read_text()

    assert told() == ""
    lines = told(privileged=True).splitlines()
    assert 'image="box:latest"' in lines
    assert f'imageid="{"1" * 64}"' in lines
    assert "rootless=0" in lines
    assert "graphRootMounted=1" not in lines
    asked = msgspec.structs.replace(
        request("/"), spec=ContainerSpec(rootfs="/", command=["true"]), run_directory=str(tmp_path / "run")
    )
    write_files(asked)
    assert (tmp_path / "run/files/containerenv").read_text() == "graphRootMounted=1\n"
