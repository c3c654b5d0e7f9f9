"""A host that is not this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from supervisor.oci import host

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.oci.host import Host

MODULES = (
    "capabilities",
    "confinement",
    "limits",
    "namespaces",
    "placement",
    "resources",
    "security",
    "systemd_mounts",
)


@pytest.fixture
def change_host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that this host is another one."""

    def change(**fields: Any) -> None:
        changed: Host = msgspec.structs.replace(host.this_host(), **fields)
        for module in MODULES:
            monkeypatch.setattr(f"supervisor.oci.{module}.this_host", lambda: changed)

    return change
