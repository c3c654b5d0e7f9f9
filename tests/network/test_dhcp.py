"""The script that a DHCP client calls, with an `ip` that writes down what it is told, and what is read of what it writes."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pyman.errors import NetworkFailed, NotSupported
from supervisor.network.dhcp import client, lease
from supervisor.network.dhcp.lease import Lease
from supervisor.network.plans import Attachment, NetworkPlan, Route

if TYPE_CHECKING:
    from pathlib import Path

ID = "a" * 64
PLAN = NetworkPlan("lan", ID, "macvlan", "eth0", leased=True)
ON = Attachment("lan", ID, "macvlan", "eth0", mac="92:d0:c6:0a:29:35")
GIVEN = {
    "ip": "192.0.2.9",
    "mask": "24",
    "router": "192.0.2.1 192.0.2.2",
    "lease": "600",
    "serverid": "192.0.2.1",
}
SHELLS = ["dash", "bash"]
"""busybox's own has an `ip` in it, which the tests would not see."""


class Called:
    """A client's directory."""

    def __init__(self, path: Path, shell: str) -> None:
        self.path = path
        self._shell = shell
        self.programs = path / "programs"
        self.programs.mkdir()
        (self.programs / "ip").write_text(f'#!/bin/sh\necho "$*" >>{path}/told\n')
        (self.programs / "ip").chmod(0o755)
        self.plan = PLAN
        client.lay_out(str(path), ID, anew=True)

    def __call__(self, event: str, **said: str) -> list[str]:
        """What `ip` is told."""
        environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "interface": "eth0",
            **client.environment(self.plan, ON),
            **said,
        }
        told = self.path / "told"
        told.unlink(missing_ok=True)
        subprocess.run([self._shell, event], cwd=self.path, env=environment, check=False, timeout=20)
        return told.read_text().splitlines() if told.exists() else []

    @property
    def lease(self) -> Lease | None:
        return lease.read(str(self.path / client.record_of(ID)))


@pytest.fixture(params=SHELLS)
def called(tmp_path: Path, request: pytest.FixtureRequest) -> Called:
    return Called(tmp_path, request.param)


def test_an_address_and_its_default_route_are_put_on_the_interface(called: Called) -> None:
    assert called("deconfig") == []
    assert called("bound", **GIVEN, dns="192.0.2.1 192.0.2.3", domain="example.test") == [
        "-4 address replace 192.0.2.9/24 broadcast + dev eth0 valid_lft 600 preferred_lft 600",
        "link set dev eth0 address 92:d0:c6:0a:29:35",
        "-4 route add default via 192.0.2.1 metric 100 dev eth0 proto dhcp",
    ]
    assert called.lease == Lease("192.0.2.9", 24, "192.0.2.1", ("192.0.2.1", "192.0.2.3"), ("example.test",))


def test_a_renewal_announces_nothing_and_another_address_comes_in_the_place_of_the_first(
    called: Called,
) -> None:
    called("bound", **GIVEN)
    assert called("renew", **GIVEN | {"lease": "4294967295"}) == [
        "-4 address replace 192.0.2.9/24 broadcast + dev eth0 valid_lft forever preferred_lft forever",
        "-4 route add default via 192.0.2.1 metric 100 dev eth0 proto dhcp",
    ]
    assert called("renew", **GIVEN | {"ip": "192.0.2.10", "router": "192.0.2.3", "lease": "1"}) == [
        "-4 address delete 192.0.2.9/24 dev eth0",
        "-4 address replace 192.0.2.10/24 broadcast + dev eth0 valid_lft 16 preferred_lft 16",
        "link set dev eth0 address 92:d0:c6:0a:29:35",
        "-4 route delete default via 192.0.2.1 dev eth0 metric 100",
        "-4 route add default via 192.0.2.3 metric 100 dev eth0 proto dhcp",
    ]
    assert called.lease == Lease("192.0.2.10", 24, "192.0.2.3")


def test_a_lost_lease_takes_the_address_and_a_client_that_begins_does_not(called: Called) -> None:
    called("deconfig")
    called("bound", **GIVEN)
    client.lay_out(str(called.path), ID, anew=False)
    assert called("deconfig") == []
    assert called.lease is not None
    assert called("deconfig") == ["-4 address delete 192.0.2.9/24 dev eth0"]
    assert called.lease is None
    assert called("deconfig") == []


def test_an_address_that_has_run_out_is_told_when_no_server_gives_another(called: Called) -> None:
    called("bound", **GIVEN)
    assert called("leasefail") == [
        "-4 -o address show dev eth0 to 192.0.2.9",
        "-4 address delete 192.0.2.9/24 dev eth0",
    ]
    assert called.lease is None
    assert called("leasefail") == []
    assert called("nak") == []


def test_a_network_without_a_way_out_gets_no_default_route_and_others_get_theirs(called: Called) -> None:
    called.plan = NetworkPlan(
        "lan",
        ID,
        "macvlan",
        routes=[
            Route("10.1.0.0/16", "192.0.2.7"),
            Route("fd00::/8", "fd02::7"),
            Route("10.2.0.0/16", "192.0.2.8", 5),
        ],
        no_default_route=True,
    )
    assert called("bound", **GIVEN)[2:] == [
        "-4 route add 10.1.0.0/16 via 192.0.2.7 metric 100 dev eth0 proto dhcp",
        "-4 route add 10.2.0.0/16 via 192.0.2.8 metric 5 dev eth0 proto dhcp",
    ]
    called.plan = NetworkPlan("lan", ID, "macvlan", metric=7)
    assert called("renew", **GIVEN)[-1] == "-4 route add default via 192.0.2.1 metric 7 dev eth0 proto dhcp"


@pytest.mark.parametrize(
    "said",
    [
        {"ip": ""},
        {"ip": "127.0.0.1"},
        {"ip": "0.0.0.0"},  # noqa: S104 - what a server may say
        {"ip": "224.0.0.1"},
        {"ip": "255.255.255.255"},
        {"ip": "$(touch made)"},
        {"ip": "192.0.2.9 dev lo"},
        {"mask": "0"},
        {"mask": "33"},
        {"mask": "24;touch made"},
    ],
)
def test_what_is_no_address_is_told_to_nobody(called: Called, said: dict[str, str]) -> None:
    assert called("bound", **GIVEN | said) == []
    assert called.lease is None
    assert not (called.path / "made").exists()


def test_texts_of_a_server_are_taken_for_what_they_are(called: Called) -> None:
    hostile = "-n x'\"; touch made; $(touch made) `touch made`\nip=6.6.6.6\\0lost * \\"
    told = called(
        "bound", **GIVEN | {"router": hostile, "lease": hostile}, dns=hostile, domain=hostile, message=hostile
    )
    assert (
        told[0]
        == "-4 address replace 192.0.2.9/24 broadcast + dev eth0 valid_lft forever preferred_lft forever"
    )
    assert len(told) == 2
    assert called.lease == Lease("192.0.2.9", 24, searches=("touch",))
    assert not (called.path / "made").exists()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"lost\0", None),
        (b"ip=10.1.2.3\0prefix=8\0", Lease("10.1.2.3", 8)),
        (b"ip=10.1.2.3\0prefix=8\0ip=6.6.6.6\0", Lease("10.1.2.3", 8)),
        (
            b"ip=10.1.2.3\0prefix=8\0dns=127.0.0.1 ::1 x 10.0.0.1 10.0.0.1\0domain=a.b -x c_d x..y\0router=224.0.0.1\0",
            Lease("10.1.2.3", 8, servers=("10.0.0.1",), searches=("a.b", "c_d")),
        ),
    ],
)
def test_a_record_is_read_as_far_as_it_makes_sense(data: bytes, found: Lease | None) -> None:
    assert lease.parse(data) == found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ip=10.1.2.3\0",
        b"ip=::1\0prefix=8\0",
        b"ip=10.1.2.3\0prefix=99\0",
        b"\xff\0ip=x\0",
        b"ip=10.1.2\0",
    ],
)
def test_a_record_without_an_address_is_refused(data: bytes) -> None:
    with pytest.raises(NetworkFailed, match="it has no address"):
        lease.parse(data)


def test_a_record_has_a_size(tmp_path: Path) -> None:
    (tmp_path / "lease").write_bytes(b"ip=10.1.2.3\0" + bytes(1 << 15))
    with pytest.raises(NetworkFailed, match="cannot read the lease"):
        lease.read(str(tmp_path / "lease"))


def test_a_name_that_is_none_is_not_told_to_the_server() -> None:
    assert "hostname:box" in client.arguments("eth0", "box", "")
    assert not [each for each in client.arguments("eth0", "a b", "") if each.startswith("hostname:")]
    assert client.arguments("eth0", "", "10.1.2.3")[-2:] == ["-r", "10.1.2.3"]


async def test_the_client_is_found_as_a_program_of_its_own_or_in_busybox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await client.find([], deadline=10)
    assert os.path.basename(found[-1]) == client.PROGRAM
    own = tmp_path / client.PROGRAM
    shutil.copy("/bin/true", own)
    assert await client.find([str(tmp_path)], deadline=10) == [str(own)]
    own.unlink()
    usual = shutil.which
    # One that is made without it, as Debian's is not.
    shutil.copy("/bin/true", tmp_path / "busybox")
    known = {"ip": usual("ip"), "busybox": str(tmp_path / "busybox")}
    monkeypatch.setattr(shutil, "which", lambda name, path: known.get(name))  # noqa: ARG005 - as it is called
    with pytest.raises(NotSupported, match="cannot find the program 'udhcpc'") as caught:
        await client.find([], deadline=10)
    assert caught.value.hint == "install the package udhcpc, or busybox-static"


def test_the_script_is_one_that_shellcheck_passes(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(client.SCRIPT)
    done = subprocess.run(
        ["shellcheck", "--shell=sh", str(tmp_path / "script")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
