"""How what an image says goes together with what was asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.spec import ContainerSpec
from pyman.errors import CommandNotExecutable, InvalidArgument
from supervisor.oci.build import write_files
from supervisor.oci.environment import environment
from supervisor.oci.imaged import ImageUse, RunConfig, read_config, use, with_image
from tests.oci.support import built, request

if TYPE_CHECKING:
    from pathlib import Path


def config(**said: Any) -> RunConfig:
    return read_config(json.dumps({"architecture": "amd64", "config": said}).encode(), "box")


def merged(said: dict[str, Any], **asked: Any) -> ContainerSpec:
    return with_image(ContainerSpec(**asked), config(**said))


def used(said: dict[str, Any], mode: str = "anonymous", **asked: Any) -> ImageUse:
    return use(ContainerSpec(**asked), config(**said), id="1" * 64, name="box", digest="", volume_mode=mode)


ENTRY = {"Entrypoint": ["/entry"], "Cmd": ["word"]}


@pytest.mark.parametrize(
    ("asked", "entrypoint", "command"),
    [
        ({}, ["/entry"], ["word"]),
        ({"command": ["other", "words"]}, ["/entry"], ["other", "words"]),
        ({"entrypoint": ["/mine"]}, ["/mine"], []),
        ({"entrypoint": ["/mine"], "command": ["a"]}, ["/mine"], ["a"]),
        ({"entrypoint": [""]}, [], []),
        ({"entrypoint": [""], "command": ["a"]}, [], ["a"]),
        ({"entrypoint": []}, [], ["word"]),
    ],
)
def test_an_entrypoint_that_is_asked_for_takes_the_command_of_the_image_away(
    asked: dict[str, Any], entrypoint: list[str], command: list[str]
) -> None:
    spec = merged(ENTRY, **asked)
    assert (spec.entrypoint, spec.command) == (entrypoint, command)


def test_what_is_asked_for_wins() -> None:
    said = {"User": "web", "WorkingDir": "/srv", "StopSignal": "SIGINT", "Labels": {"a": "1", "b": "1"}}
    asked = {"user": "0", "work_dir": "/tmp", "stop_signal": "TERM", "labels": {"b": "2", "c": "2"}}
    spec = merged(said, **asked)
    assert (spec.user, spec.work_dir, spec.stop_signal) == ("0", "/tmp", "TERM")
    assert spec.labels == {"a": "1", "b": "2", "c": "2"}
    spec = merged(said)
    assert (spec.user, spec.work_dir, spec.stop_signal) == ("web", "/srv", "SIGINT")


@pytest.mark.parametrize(
    "said", [{}, dict.fromkeys(["User", "Env", "Cmd", "Entrypoint", "Labels", "Volumes"])]
)
def test_an_image_may_say_nothing(said: dict[str, Any]) -> None:
    assert merged(said) == ContainerSpec(entrypoint=[])
    assert used(said) == ImageUse(id="1" * 64, name="box")


def test_a_configuration_without_its_part_for_containers_says_nothing() -> None:
    assert read_config(b"{}", "box") == read_config(b'{"config": null}', "box") == RunConfig()


def test_a_command_may_be_one_word() -> None:
    assert merged({"Cmd": "sh", "Entrypoint": "/bin/tini"}).command == ["sh"]


@pytest.mark.parametrize(
    ("written", "meant"), [("srv/web", "/srv/web"), ("/srv//web/", "/srv/web"), ("//x", "/x")]
)
def test_a_working_directory_is_always_absolute(written: str, meant: str) -> None:
    assert merged({"WorkingDir": written}).work_dir == meant


def test_variables_are_stronger_than_the_configured_and_weaker_than_those_asked_for() -> None:
    image = used({"Env": ["PATH=/image", "A=image", "B=image", "E=a=b", "EMPTY="]})
    asked = msgspec.structs.replace(request(env={"B": "mine"}, unsetenv=["E"]), image=image)
    found = environment(asked, "/")
    assert (found["PATH"], found["A"], found["B"], found["EMPTY"]) == ("/image", "image", "mine", "")
    assert "E" not in found
    asked = msgspec.structs.replace(request(env={"B": "mine"}, unsetenv_all=True), image=image)
    assert environment(asked, "/") == {"B": "mine", "HOSTNAME": "boxhost", "HOME": "/"}


def test_no_variable_of_the_host_gets_in_through_an_image() -> None:
    assert used({"Env": ["SECRET", "=x", "", "GOOD=1"]}).env == {"GOOD": "1"}


def test_the_rest_is_kept_beside_the_spec() -> None:
    said = {
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data/": {}, "cache": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Retries": 5},
        "WorkingDir": "/srv",
    }
    found = used(said)
    assert found.ports == ["53/udp", "80/tcp"]
    assert (found.volumes, found.volume_mode) == (["/cache", "/data"], "anonymous")
    assert found.healthcheck is not None
    assert (found.healthcheck.retries, found.healthcheck.interval) == (5, 30_000_000_000)
    assert found.own_work_dir
    assert not used(said, work_dir="/x").own_work_dir
    assert used({"Healthcheck": {"Test": ["NONE"]}}).healthcheck is None


def test_volumes_are_what_is_asked_for_or_else_configured() -> None:
    said: dict[str, Any] = {"Volumes": {"/data": {}}}
    assert used(said, "tmpfs").volume_mode == "tmpfs"
    assert used(said, "tmpfs", image_volume_mode="ignore").volumes == []
    with pytest.raises(InvalidArgument, match="known are anonymous, tmpfs, ignore"):
        used(said, image_volume_mode="bind")
    with pytest.raises(InvalidArgument, match="in the place of its root directory"):
        used({"Volumes": {"/..": {}}})


def test_what_is_no_configuration_is_refused() -> None:
    for data in (b"", b"[]", b'{"config": {"Env": 3}}', b'{"config": {"Labels": ["a"]}}'):
        with pytest.raises(InvalidArgument, match="cannot use the configuration of image 'box'"):
            read_config(data, "box")
    for said in ({"Labels": {"a": "x" * 300_000}}, {"Env": ["A=" + "x" * 300_000]}):
        with pytest.raises(InvalidArgument, match="take more than 256 KiB"):
            config(**said)
    with pytest.raises(InvalidArgument, match="more than 256 volumes"):
        config(Volumes={f"/v{number}": {} for number in range(300)})


def mounted(image: ImageUse, directory: str = "/srv/volumes") -> dict[str, dict[str, Any]]:
    asked = msgspec.structs.replace(request(), image=image, volumes_directory=directory)
    return {mount["destination"]: mount for mount in built(asked)["mounts"]}


def test_a_volume_is_a_directory_or_a_tmpfs_and_never_over_what_the_engine_mounts() -> None:
    said: dict[str, Any] = {"Volumes": {"/data": {}, "/proc": {}, "/a/b": {}}}
    found = mounted(used(said))
    assert found["/a/b"]["source"], found["/data"]["source"] == ("/srv/volumes/0", "/srv/volumes/1")
    assert found["/proc"]["type"] == "proc"
    assert mounted(used(said, "tmpfs"))["/data"]["type"] == "tmpfs"
    assert "/data" not in mounted(used(said, "ignore"))


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
