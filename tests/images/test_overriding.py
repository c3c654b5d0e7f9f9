"""Configurations laid over those of images that are made, in memory."""

from __future__ import annotations

from typing import Any

import pytest

from pyman.errors import InvalidArgument
from supervisor.images.formats.overriding import merged

CONFIG = {
    "Env": ["PATH=/bin", "A=1"],
    "Cmd": ["sh"],
    "Entrypoint": ["/init"],
    "Labels": {"a": "1"},
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/data": {}},
    "User": "worker",
    "StopSignal": "SIGINT",
}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({}, {}),
        ({"User": "", "Env": None, "Cmd": [], "Tty": False, "Labels": {}}, {}),
        ({"Env": ["A=2", "B=3=4"]}, {"Env": ["PATH=/bin", "A=2", "B=3=4"]}),
        ({"Labels": {"a": "2", "b": ""}}, {"Labels": {"a": "2", "b": ""}}),
        ({"ExposedPorts": {"53/udp": {}, "9": {}}}, {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "9/tcp": {}}}),
        ({"Volumes": {"/more": {}}}, {"Volumes": {"/data": {}, "/more": {}}}),
        ({"Entrypoint": "/run"}, {"Entrypoint": ["/run"], "Cmd": None}),
        ({"Cmd": ["a", "b"]}, {"Cmd": ["a", "b"], "Entrypoint": None}),
        ({"user": "root", "WORKINGDIR": "/x", "StopSignal": "SIGTERM"},
         {"User": "root", "WorkingDir": "/x", "StopSignal": "SIGTERM"}),
    ],
)  # fmt: skip
def test_what_is_said_goes_over_what_is_there(override: dict[str, Any], expected: dict[str, Any]) -> None:
    wanted = {key: value for key, value in {**CONFIG, **expected}.items() if value is not None}
    assert merged(CONFIG, override, docker=False) == wanted


def test_dockers_format_has_room_for_more() -> None:
    check = {"Test": ["CMD", "true"], "Interval": 5, "Retries": 2}
    override = {"Healthcheck": check, "Hostname": "h", "OnBuild": ["RUN x"], "StopTimeout": 3, "Shell": "sh"}
    assert merged({}, override, docker=True) == {**override, "Shell": ["sh"]}
    for key, value in override.items():
        with pytest.raises(InvalidArgument, match=f"cannot keep '{key}'"):
            merged({}, {key: value}, docker=False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"Environment": ["A=1"]}, "unknown field `Environment`"),
        ({"Env": "A=1"}, "Expected `array | null`, got `str`"),
        ({"Env": ["A"]}, "'A' is no variable"),
        ({"Env": ["=1"]}, "'=1' is no variable"),
        ({"ExposedPorts": {"x": {}}}, "'x' is no port"),
        ({"Labels": {"a": 1}}, "Expected `str`, got `int`"),
        ({"Healthcheck": {"Tests": []}}, "unknown field `Tests`"),
    ],
)
def test_what_is_no_configuration_is_refused(override: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        merged(CONFIG, override, docker=True)
    assert message in caught.value.message
