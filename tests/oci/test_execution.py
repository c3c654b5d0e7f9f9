"""Personalities and classes of caches: what is refused, and what stands in config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pyman.api.spec import ContainerSpec, IntelRdt, Personality
from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci import execution
from supervisor.oci.runtimes import OciRuntime
from tests.oci.support import built, request, settings

if TYPE_CHECKING:
    from pathlib import Path

RUNC = OciRuntime("runc", "/usr/bin/runc", "1.2.0-rc.1")
CRUN = OciRuntime("crun", "/usr/bin/crun", "1.8.1")
LINUX32 = ContainerSpec(personality=Personality("LINUX32"))


def test_both_stand_in_the_configuration() -> None:
    linux = built(request(personality=Personality("LINUX32"), intel_rdt=IntelRdt("gold")))["linux"]
    assert linux["personality"] == {"domain": "LINUX32"}
    assert linux["intelRdt"] == {"closID": "gold"}
    assert not {"personality", "intelRdt"} & set(built(request())["linux"])


@pytest.mark.parametrize("runtime", [RUNC, CRUN, OciRuntime("new", "/opt/runc", "2.0")])
def test_oci_runtimes_that_set_a_personality_are_known(runtime: OciRuntime) -> None:
    execution.check(LINUX32, runtime, settings())


@pytest.mark.parametrize(
    "runtime",
    [
        OciRuntime("runc", "/usr/bin/runc", "1.1.5+ds1"),
        OciRuntime("runc", "/usr/bin/runc", ""),
        OciRuntime("other", "/usr/bin/other", "9.0"),
    ],
)
def test_others_would_leave_it_out(runtime: OciRuntime) -> None:
    with pytest.raises(NotSupported, match="does not set it"):
        execution.check(LINUX32, runtime, settings())


@pytest.mark.parametrize("domain", ["", "linux32", "LINUX64", "x" * 1000])
def test_no_other_personality_is_known(domain: str) -> None:
    with pytest.raises(InvalidArgument, match="--personality"):
        execution.check(ContainerSpec(personality=Personality(domain)), CRUN, settings())


def test_a_class_of_caches_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "RESCTRL", str(tmp_path))

    def check(name: str, runtime: OciRuntime = RUNC, *, rootless: bool = False) -> None:
        chosen = msgspec.structs.replace(settings(), uid=1000 if rootless else 0)
        execution.check(ContainerSpec(intel_rdt=IntelRdt(name)), runtime, chosen)

    with pytest.raises(NotSupported, match="nothing is mounted"):
        check("gold")
    for name in ("info", "gold", "mon_groups"):
        (tmp_path / name).mkdir()
    check("gold")
    with pytest.raises(NotSupported, match="crun does not assign it"):
        check("gold", CRUN)
    with pytest.raises(NotSupported, match="only root"):
        check("gold", rootless=True)
    for name in ("silver", "info", "mon_groups", "..", ".", "", "gold/../gold", "/etc"):
        with pytest.raises(InvalidArgument, match="there is no such class"):
            check(name)
