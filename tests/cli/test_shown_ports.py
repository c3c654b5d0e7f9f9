"""How `ps` shows ports: in a column as Podman does, and in its JSON."""

from __future__ import annotations

from typing import Any

import pytest

from pyman.cli.shown_ports import exposed_map, shown


@pytest.mark.parametrize(
    ("mappings", "exposed", "expected"),
    [
        ([], ["80/tcp"], "80/tcp"),
        ([{"container_port": 80, "host_port": 8080}], ["80/tcp", "80/udp"], "0.0.0.0:8080->80/tcp, 80/udp"),
        ([{"container_port": 80, "host_port": 8080, "range": 3, "host_ip": "::1", "protocol": "udp"}], [],
         "::1:8080-8082->80-82/udp"),
        ([], ["90/sctp", "80-82/tcp", "82/udp"], "90/sctp, 80-82/tcp, 82/udp"),
        ([{"container_port": 81, "host_port": 1}], ["80-83/tcp"], "0.0.0.0:1->81/tcp, 80/tcp, 82-83/tcp"),
    ],
)  # fmt: skip
def test_ports_are_shown_as_podman_shows_them(
    mappings: list[dict[str, Any]], exposed: list[str], expected: str
) -> None:
    assert shown(mappings, exposed) == expected


def test_exposed_ports_are_told_by_their_numbers() -> None:
    assert exposed_map(["80-81/tcp", "81/udp"]) == {"80": ["tcp"], "81": ["tcp", "udp"]}
