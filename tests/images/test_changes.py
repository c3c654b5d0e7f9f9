"""Lines of `--change`, on configurations in memory."""

from __future__ import annotations

from typing import Any

import pytest

from pyman.errors import InvalidArgument
from supervisor.images.formats import changes


@pytest.mark.parametrize(
    "line, expected",
    [
        ('CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
        ("CMD run it", {"Cmd": ["/bin/sh", "-c", "run it"]}),
        ("CMD=run", {"Cmd": ["/bin/sh", "-c", "run"]}),
        ('ENTRYPOINT ["/x"]', {"Entrypoint": ["/x"]}),
        ("ENTRYPOINT run", {"Entrypoint": ["/bin/sh", "-c", "run"]}),
        ("ENTRYPOINT ", {}),
        ("ENTRYPOINT []", {}),
        ("ENV A=1", {"Env": ["A=1"]}),
        ('env A="1 2"', {"Env": ["A=1 2"]}),
        ("ENV A=1 B=2", {"Env": ["A=1", "B=2"]}),
        ("ENV A=1 and more", {"Env": ["A=1 and more"]}),
        ("ENV A 1 2", {"Env": ["A=1 2"]}),
        ("ENV A", {"Env": ["A="]}),
        ("ENV=A=1", {"Env": ["A=1"]}),
        ("EXPOSE 80", {"ExposedPorts": {"80/tcp": {}}}),
        ("EXPOSE 80-81/UDP 9/tcp", {"ExposedPorts": {"80/udp": {}, "81/udp": {}, "9/tcp": {}}}),
        ("LABEL a=b=c", {"Labels": {"a": "b=c"}}),
        ('LABEL "a"="b c"', {"Labels": {"a": "b c"}}),
        ("LABEL a=1 b='x y'", {"Labels": {"a": "1", "b": "x y"}}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
        ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
        ("STOPSIGNAL RTMIN+3", {"StopSignal": "RTMIN+3"}),
        ("STOPSIGNAL 9", {"StopSignal": "9"}),
        ("USER 1:2", {"User": "1:2"}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ('VOLUME ["/a b"]', {"Volumes": {"/a b": {}}}),
        ("WORKDIR /a/../b", {"WorkingDir": "/b"}),
        ("WORKDIR a", {"WorkingDir": "/a"}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        (
            'HEALTHCHECK --interval=1m30s --retries=2 CMD ["x"]',
            {"Healthcheck": {"Interval": 90_000_000_000, "Retries": 2, "Test": ["CMD", "x"]}},
        ),
        ("HEALTHCHECK CMD x || y", {"Healthcheck": {"Test": ["CMD-SHELL", "x || y"]}}),
    ],
)
def test_a_line_means_what_it_means_in_a_containerfile(line: str, expected: dict[str, Any]) -> None:
    assert changes.apply(None, [line]) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "RUN x",
        "FROM x",
        "ENV",
        "ENV =1",
        "LABEL a",
        "LABEL =1",
        "EXPOSE x",
        "EXPOSE 0",
        "EXPOSE 65536",
        "EXPOSE 80/x",
        "EXPOSE ",
        "EXPOSE 99999999999999999999",
        "ONBUILD ",
        "USER ",
        "WORKDIR ",
        "VOLUME ",
        'VOLUME [""]',
        "STOPSIGNAL NOPE",
        "STOPSIGNAL 65",
        "HEALTHCHECK",
        "HEALTHCHECK x",
        "HEALTHCHECK --interval=x CMD y",
        "HEALTHCHECK --nope=1 CMD y",
    ],
)
def test_a_line_that_means_nothing_is_refused_and_quoted(line: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        changes.apply(None, [line])
    assert f"'{line}'" in str(caught.value)


def test_lines_are_applied_in_order_to_what_is_there() -> None:
    before = {"Env": ["A=1", "B=2"], "WorkingDir": "/a", "Labels": {"x": "1"}, "Unknown": [1]}
    after = changes.apply(before, ["ENV A=3", "WORKDIR b", "WORKDIR c", "LABEL y=2", "ENV C=4"])
    assert after == {
        "Env": ["A=3", "B=2", "C=4"],
        "WorkingDir": "/a/b/c",
        "Labels": {"x": "1", "y": "2"},
        "Unknown": [1],
    }
    assert before == {"Env": ["A=1", "B=2"], "WorkingDir": "/a", "Labels": {"x": "1"}, "Unknown": [1]}
