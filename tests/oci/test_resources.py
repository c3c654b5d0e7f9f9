"""Limits of a cgroup: what is written, what makes no sense, what is not possible where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.limits import CpuLimits, MemoryLimits, PidsLimit, ResourceLimits
from pyman.api.spec import ContainerSpec
from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import cgroups
from supervisor.oci import resources
from supervisor.oci.runtimes import OciRuntime
from supervisor.settings.model import EngineSettings
from tests.oci.support import built, request, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.settings.model import Settings

ALL = frozenset({"cpu", "cpuset", "memory", "pids"})
MIB = 1 << 20


def limits(
    memory: dict[str, Any] | None = None, cpu: dict[str, Any] | None = None, pids: int | None = None
) -> ResourceLimits:
    return ResourceLimits(
        MemoryLimits(**memory or {}), CpuLimits(**cpu or {}), None if pids is None else PidsLimit(pids)
    )


def check(settings: Settings, spec: ContainerSpec, caller: str, id: str) -> None:
    resources.check(settings, spec, caller, id, OciRuntime("runc", "/usr/bin/runc"))


def user(manager: str = "cgroupfs") -> Settings:
    return msgspec.structs.replace(settings(), uid=7, engine=EngineSettings(cgroup_manager=manager))


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch, change_host: Callable[..., None]) -> None:
    """Every controller, and swap is counted."""
    change_host(controllers=ALL, unified=False)
    monkeypatch.setattr(cgroups, "counts_swap", lambda _path: True)


def written(asked: ResourceLimits, **containers: Any) -> dict[str, Any]:
    found = built(request(chosen=settings(**containers), resource_limits=asked))["linux"]["resources"]
    return {name: part for name, part in found.items() if name != "devices"}


@pytest.mark.parametrize(
    "asked, expected",
    [
        (limits(), {"pids": {"limit": 2048}}),
        (limits(pids=5), {"pids": {"limit": 5}}),
        (limits(pids=-1), {}),
        (limits(pids=0), {}),
        (limits({"limit": 64 * MIB}, pids=-1), {"memory": {"limit": 64 * MIB, "swap": 128 * MIB}}),
        (limits({"limit": 64 * MIB, "swap": -1}, pids=-1), {"memory": {"limit": 64 * MIB, "swap": -1}}),
        (
            limits({"limit": 64 * MIB, "swap": 64 * MIB, "reservation": MIB, "swappiness": 0}, pids=-1),
            {"memory": {"limit": 64 * MIB, "swap": 64 * MIB, "reservation": MIB, "swappiness": 0}},
        ),
        (limits({"reservation": MIB}, pids=-1), {"memory": {"reservation": MIB}}),
        (
            limits(cpu={"shares": 2, "period": 1000, "quota": -1, "cpus": "0", "mems": "0"}, pids=-1),
            {"cpu": {"shares": 2, "period": 1000, "cpus": "0", "mems": "0"}},
        ),
    ],
)
def test_what_is_asked_for_is_written(asked: ResourceLimits, expected: dict[str, Any]) -> None:
    assert written(asked) == expected


def test_where_swap_is_not_counted_memory_is_limited_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "counts_swap", lambda _path: False)
    assert written(limits({"limit": MIB}, pids=0)) == {"memory": {"limit": MIB}}
    with pytest.raises(NotSupported, match="cannot use --memory-swap: this host does not count swap"):
        written(limits({"limit": MIB, "swap": MIB}))


def test_the_default_number_of_processes_is_left_out_where_it_is_not_possible(
    change_host: Callable[..., None],
) -> None:
    change_host(controllers=frozenset(), unified=False)
    assert written(limits()) == {}
    assert written(limits(), pids_limit=-1) == {}
    with pytest.raises(
        NotSupported, match="cannot use --pids-limit: this host has no cgroup controller 'pids'"
    ):
        written(limits(pids=5))


def test_a_container_without_a_cgroup_has_no_limits() -> None:
    disabled = built(request(chosen=settings(cgroups="disabled")))["linux"]
    assert not {"cgroupsPath", "resources"} & set(disabled)


@pytest.mark.parametrize(
    "asked, sentence",
    [
        (limits({"limit": 1024}), "cannot use --memory '1024': the least is a page"),
        (limits({"limit": 1 << 63}), "it is more than any machine has"),
        (limits({"reservation": 0}), "cannot use --memory-reservation '0'"),
        (limits({"swap": MIB}), f"cannot use --memory-swap '{MIB}': it needs --memory"),
        (limits({"limit": 2 * MIB, "swap": MIB}), f"must not be below --memory {2 * MIB}"),
        (limits({"limit": MIB, "swap": -2}), "cannot use --memory-swap '-2'"),
        (limits({"limit": MIB, "reservation": 2 * MIB}), f"must not be above --memory {MIB}"),
        (limits({"swappiness": 101}), "cannot use --memory-swappiness '101': it must be from 0 to 100"),
        (limits(cpu={"shares": 1}), "cannot use --cpu-shares '1': it must be from 2 to 262144"),
        (limits(cpu={"period": 999}), "cannot use --cpu-period '999': it must be from 1000 to 1000000"),
        (limits(cpu={"quota": 999}), "cannot use --cpu-quota '999': the least is 1000 microseconds"),
        (limits(cpu={"quota": -2}), "cannot use --cpu-quota '-2'"),
        (limits(cpu={"cpus": "65000"}), "cannot use --cpuset-cpus '65000': this host has no number 65000"),
        (limits(cpu={"cpus": "0-"}), "cannot use --cpuset-cpus '0-': it must be numbers and ranges"),
        (limits(cpu={"cpus": "9" * 5000}), "it must be numbers and ranges"),
        (limits(cpu={"cpus": "1-0"}), "must be numbers"),
        (limits(cpu={"cpus": "0,,0"}), "must be numbers"),
        (limits(cpu={"mems": "60000"}), "cannot use --cpuset-mems '60000': this host has no number 60000"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(asked: ResourceLimits, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(settings(), ContainerSpec(resource_limits=asked), "", "ID")
    assert sentence in str(caught.value)


EACH = [
    (limits({"limit": MIB}), "--memory"),
    (limits({"reservation": MIB}), "--memory-reservation"),
    (limits(cpu={"shares": 5}), "--cpu-shares"),
    (limits(cpu={"period": 5000, "quota": 5000}), "--cpus (or --cpu-period and --cpu-quota)"),
    (limits(cpu={"quota": 5000}), "--cpu-quota"),
    (limits(cpu={"cpus": "0"}), "--cpuset-cpus"),
    (limits(cpu={"mems": "0"}), "--cpuset-mems"),
    (limits(pids=5), "--pids-limit"),
]


@pytest.mark.parametrize("asked, option", EACH)
def test_a_user_has_no_limits_without_a_cgroup(
    asked: ResourceLimits, option: str, change_host: Callable[..., None]
) -> None:
    spec = ContainerSpec(resource_limits=asked)
    for unified, reason in (
        (False, "an ordinary user's containers have no cgroup on cgroup v1: limits of an ordinary user need"),
        (True, "have no cgroup with the cgroup manager 'cgroupfs': set engine.cgroup_manager to 'systemd'"),
    ):
        change_host(unified=unified, controllers=ALL)
        with pytest.raises(NotSupported) as caught:
            check(user(), spec, "", "ID")
        assert str(caught.value).startswith(f"cannot use {option}: ")
        assert reason in str(caught.value)


@pytest.mark.parametrize("asked, option", EACH)
def test_a_user_has_those_limits_that_systemd_has_delegated(
    asked: ResourceLimits,
    option: str,
    change_host: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_host(unified=True, controllers=ALL)
    monkeypatch.setattr(cgroups, "own_path", lambda: "/user.slice/user-7.slice/user@7.service/app.slice/x")
    delegated: dict[str, frozenset[str]] = {"/user.slice/user-7.slice/user@7.service": frozenset()}
    monkeypatch.setattr(cgroups, "controllers", lambda path: delegated[path])
    spec = ContainerSpec(resource_limits=asked)
    with pytest.raises(NotSupported) as caught:
        check(user("systemd"), spec, "", "ID")
    assert str(caught.value).startswith(f"cannot use {option}: systemd has not delegated the controller")
    assert "Delegate=" in str(caught.value)
    delegated["/user.slice/user-7.slice/user@7.service"] = ALL
    check(user("systemd"), spec, "", "ID")


def test_below_a_parent_there_is_what_the_parent_passes_on(
    change_host: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_host(unified=True, controllers=ALL)
    monkeypatch.setattr(cgroups, "controllers_below", lambda _path: (frozenset({"pids"}), "/{mine}"))
    check(user(), ContainerSpec(cgroup_parent="/{mine}/x", resource_limits=limits(pids=5)), "", "ID")
    spec = ContainerSpec(cgroup_parent="/{mine}/x", resource_limits=limits({"limit": MIB}))
    with pytest.raises(NotSupported, match=r"controller 'memory' is not available in the cgroup '/\{mine\}'"):
        check(user(), spec, "", "ID")


def test_the_unified_hierarchy_knows_no_swappiness(change_host: Callable[..., None]) -> None:
    change_host(unified=True, controllers=ALL)
    spec = ContainerSpec(resource_limits=limits({"swappiness": 10}))
    with pytest.raises(NotSupported, match="cgroup v2 has no such limit"):
        check(
            msgspec.structs.replace(settings(), engine=EngineSettings(cgroup_manager="systemd")),
            spec,
            "",
            "ID",
        )
