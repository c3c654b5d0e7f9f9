"""Where no DHCP server answers it is said what the client has seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.errors import NetworkFailed
from supervisor.network.plans import Attachment
from supervisor.runtime.networks.wired import leasing as module
from supervisor.runtime.networks.wired.leasing import Leasing

if TYPE_CHECKING:
    from pathlib import Path

LAN = Attachment("lan", "b" * 64, "macvlan")
NOBODY = "cannot connect container 'a' to network 'lan': no DHCP server has given it an address within 0.05 s"


@pytest.fixture
def leasing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leasing:
    monkeypatch.setattr(module, "_ANSWER", 0.05)
    layout = SimpleNamespace(helpers=str(tmp_path), container_bundle=lambda _: str(tmp_path))
    services: Any = SimpleNamespace(layout=layout, disk=trio.CapacityLimiter(1))
    container: Any = SimpleNamespace(id="c" * 64, name="a")
    (tmp_path / "dhcp").mkdir()
    return Leasing(services, container)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (None, NOBODY),
        ("", NOBODY),
        (
            "udhcpc: started, v1.35.0\nudhcpc: broadcasting discover\n",
            f"{NOBODY} (udhcpc: broadcasting discover)",
        ),
        ("x" * 100_000, f"{NOBODY} ({'x' * 200})"),
    ],
)
async def test_the_error_has_its_last_words(
    leasing: Leasing, tmp_path: Path, printed: str | None, expected: str
) -> None:
    if printed is not None:
        (tmp_path / f"{leasing.key_on(LAN.network_id)}.log").write_text(printed)
    with pytest.raises(NetworkFailed) as caught:
        await leasing._answered(LAN)
    assert caught.value.message == expected
