"""How what an image says goes together with what was asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyman.api.spec import ContainerSpec
from pyman.errors import InvalidArgument
from supervisor.images.formats.config import decode_config
from supervisor.oci.imaged import ImageUse
from supervisor.runtime.creation.imaged import Chosen, check, use, with_image

if TYPE_CHECKING:
    from supervisor.images.formats.config import Process


def config(**said: Any) -> Process:
    return decode_config(json.dumps({"architecture": "amd64", "config": said}).encode(), "box").process


def merged(said: dict[str, Any], **asked: Any) -> ContainerSpec:
    return with_image(ContainerSpec(**asked), config(**said))


def used(said: dict[str, Any], mode: str = "anonymous", **asked: Any) -> ImageUse:
    return use(ContainerSpec(**asked), Chosen("1" * 64, "box", "", config(**said)), mode)


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


@pytest.mark.parametrize(
    ("written", "meant"), [("srv/web", "/srv/web"), ("/srv//web/", "/srv/web"), ("//x", "/x")]
)
def test_a_working_directory_is_always_absolute(written: str, meant: str) -> None:
    assert merged({"WorkingDir": written}).work_dir == meant


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
    assert used(said, "").volume_mode == "anonymous"
    assert used(said, "tmpfs", image_volume_mode="ignore").volumes == []
    with pytest.raises(InvalidArgument, match="known are anonymous, tmpfs, ignore"):
        used(said, image_volume_mode="bind")
    with pytest.raises(InvalidArgument, match="in the place of its root directory"):
        used({"Volumes": {"/..": {}}})


def test_what_says_more_than_is_sensible_is_refused() -> None:
    for said in ({"Labels": {"a": "x" * 300_000}}, {"Env": ["A=" + "x" * 300_000]}):
        with pytest.raises(InvalidArgument, match="take more than 256 KiB"):
            check(config(**said), "box")
    with pytest.raises(InvalidArgument, match="more than 256 volumes"):
        check(config(Volumes={f"/v{number}": {} for number in range(300)}), "box")
