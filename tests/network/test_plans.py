"""What follows from plans alone."""

from __future__ import annotations

from supervisor.network.plans import Address, Attachment, first_addresses


def on(driver: str, *addresses: str) -> Attachment:
    return Attachment("net", "1" * 64, driver, addresses=[Address(each, 24) for each in addresses])


def test_ports_lead_to_the_first_address_of_either_kind_on_bridges() -> None:
    others = [on("macvlan", "192.0.2.7", "fd00:9::7"), on("ipvlan", "192.0.2.8")]
    bridges = [on("bridge", "10.89.0.2"), on("bridge", "fd00::3", "10.89.1.3"), on("bridge", "fd00::4")]
    assert first_addresses([*others, *bridges]) == {False: "10.89.0.2", True: "fd00::3"}
    assert first_addresses([*bridges[1:], *others]) == {False: "10.89.1.3", True: "fd00::3"}
    assert first_addresses(others) == {}
    assert first_addresses([on("bridge")]) == {}
