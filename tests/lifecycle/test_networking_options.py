"""What containers ask of networks and ports: what becomes of it, and what is refused and leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """With the networks web (two subnets) and db."""
    engine = shared_engine
    subnets = ("--subnet", "10.89.101.0/24", "--subnet", "fd00:101::/64")
    engine.cli("network", "create", *subnets, "web")
    engine.cli("network", "create", "--subnet", "10.89.102.0/24", "db")
    yield engine
    engine.cli("network", "rm", "--force", "web", "db")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--network nope", "cannot find network 'nope'"),
        ("--network web --ip 10.89.102.5", "'10.89.102.5': it is in no subnet of network 'web'"),
        ("--network web --ip 10.89.101.1", "it is the gateway of network 'web'"),
        ("--network web --ip 10.89.101", "it is not an IP address"),
        ("--network web --ip6 fd00:102::5", "'fd00:102::5': it is in no subnet of network 'web'"),
        ("--network web --mac-address 44:33:22:11:00", "the MAC address '44:33:22:11:00'"),
        ("--network web --network-alias a/b", "the alias 'a/b'"),
        ("--network web:interface_name=a/b", "the interface 'a/b'"),
        ("--network web:colour=red", "the option 'colour'"),
        ("--network web --network db --ip 10.89.101.5", "cannot use --ip with 2 networks"),
        ("--network none --ip 10.89.101.5", "cannot use --ip together with --network none"),
        ("-p 0:80", "option --publish cannot be '0:80'"),
        ("-p 70000:80", "option --publish cannot be '70000:80'"),
        ("-p 80:80/icmp", "the protocol is tcp, udp or sctp"),
        ("--network db -p localhost:80:80", "at 'localhost': it is not an IP address"),
        ("--network web -p 8080:80 -p 8080:81", "port 8080/tcp of the host more than once"),
        ("-p 80", "cannot use --publish together with --network none, as configured"),
        ("--network host -p 80", "cannot use --publish together with --network host"),
        ("--network none --publish-all", "cannot use --publish-all together with --network none"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_made(
    engine: Engine, rootfs: Path, options: str, said: str
) -> None:
    command = ("create", "--replace", "--name", "c", *options.split(), "--rootfs", f"{rootfs}:O", "true")
    engine.cli("create", "--name", "c", "--rootfs", f"{rootfs}:O", "true")
    before = engine.cli("inspect", "c").stdout
    refused = engine.cli(*command, check=False)
    assert refused.returncode == 125
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    # Not even the one that was to be replaced is gone.
    assert engine.cli("inspect", "c").stdout == before
    assert len(engine.out("ps", "-aq").split()) == 1
