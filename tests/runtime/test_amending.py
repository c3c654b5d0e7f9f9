"""What a spec is after an update."""

from __future__ import annotations

import pytest

from pyman.api.limits import (
    BlockIoLimits,
    CpuLimits,
    MemoryLimits,
    PidsLimit,
    ResourceLimits,
    ThrottleDevice,
    WeightDevice,
)
from pyman.api.spec import ContainerSpec, HealthConfig, Rlimit, StartupHealthConfig
from pyman.api.update import UpdateRequest
from pyman.errors import InvalidArgument
from supervisor.runtime.creation.amending import amended

MIB = 1 << 20


def memory(old: MemoryLimits, change: MemoryLimits) -> MemoryLimits:
    spec = ContainerSpec(resource_limits=ResourceLimits(memory=old))
    return amended(
        spec, UpdateRequest("c", resource_limits=ResourceLimits(memory=change))
    ).resource_limits.memory


def test_what_is_absent_stays_as_it_is() -> None:
    spec = ContainerSpec(
        name="c",
        env={"A": "1"},
        resource_limits=ResourceLimits(MemoryLimits(limit=MIB), CpuLimits(shares=5, cpus="0"), PidsLimit(7)),
        weight_device={"/dev/a": WeightDevice(50)},
        r_limits=[Rlimit("RLIMIT_CORE", 1, 1)],
        healthconfig=HealthConfig(test=["CMD", "true"]),
        restart_policy="always",
    )
    after = amended(spec, UpdateRequest("c", resource_limits=ResourceLimits(block_io=BlockIoLimits(70))))
    assert after.resource_limits.block_io.weight == 70
    assert (
        amended(after, UpdateRequest("c", resource_limits=ResourceLimits(block_io=BlockIoLimits(0)))) == spec
    )


def test_memory() -> None:
    old = MemoryLimits(limit=64 * MIB, swap=96 * MIB, reservation=MIB, swappiness=0, disable_oom_killer=True)
    assert memory(old, MemoryLimits(limit=MIB)).swap == 96 * MIB
    without = memory(old, MemoryLimits(limit=0, swappiness=-1))
    assert without == MemoryLimits(reservation=MIB, disable_oom_killer=True)
    assert memory(old, MemoryLimits(reservation=0, swappiness=0)).reservation is None
    assert memory(old, MemoryLimits(disable_oom_killer=False)).disable_oom_killer is False
    assert memory(MemoryLimits(), MemoryLimits(limit=MIB, swap=-1)) == MemoryLimits(limit=MIB, swap=-1)


def test_processors_and_processes() -> None:
    spec = ContainerSpec(
        resource_limits=ResourceLimits(
            cpu=CpuLimits(shares=9, period=5000, quota=5000, realtime_runtime=5, mems="0"), pids=PidsLimit(4)
        )
    )
    change = ResourceLimits(
        cpu=CpuLimits(shares=0, period=0, quota=0, realtime_runtime=0, cpus="1"), pids=PidsLimit(-1)
    )
    after = amended(spec, UpdateRequest("c", resource_limits=change)).resource_limits
    assert after.cpu == CpuLimits(realtime_runtime=0, cpus="1", mems="0")
    assert after.pids == PidsLimit(-1)


def test_devices_are_changed_one_by_one() -> None:
    spec = ContainerSpec(throttle_read_bps_device={"/dev/a": ThrottleDevice(1), "/dev/b": ThrottleDevice(2)})
    change = {"/dev/a": ThrottleDevice(0), "/dev/c": ThrottleDevice(3)}
    after = amended(spec, UpdateRequest("c", throttle_read_bps_device=change))
    assert after.throttle_read_bps_device == {"/dev/b": ThrottleDevice(2), "/dev/c": ThrottleDevice(3)}


def test_environment_and_limits_of_processes() -> None:
    spec = ContainerSpec(
        env={"A": "1", "B": "2"}, r_limits=[Rlimit("RLIMIT_CORE", 1, 1), Rlimit("RLIMIT_CPU", 2, 2)]
    )
    change = UpdateRequest(
        "c", env={"A": "3"}, unsetenv=["B", "PATH"], r_limits=[Rlimit("RLIMIT_CORE", 0, 0)]
    )
    after = amended(spec, change)
    assert (after.env, after.unsetenv) == ({"A": "3"}, ["B", "PATH"])
    assert after.r_limits == [Rlimit("RLIMIT_CORE", 0, 0), Rlimit("RLIMIT_CPU", 2, 2)]


def test_a_health_check_is_changed_in_parts() -> None:
    spec = ContainerSpec(healthconfig=HealthConfig(test=["CMD", "true"], interval=5))
    after = amended(
        spec,
        UpdateRequest(
            "c",
            healthconfig=HealthConfig(retries=7, interval=0),
            startup_health_config=StartupHealthConfig(test=["CMD", "early"], successes=2),
            health_check_on_failure_action="kill",
            health_max_log_count=0,
        ),
    )
    assert after.healthconfig == HealthConfig(test=["CMD", "true"], interval=0, retries=7)
    assert after.startup_health_config == StartupHealthConfig(test=["CMD", "early"], successes=2)
    assert (after.health_check_on_failure_action, after.health_max_log_count) == ("kill", 0)
    later = amended(after, UpdateRequest("c", startup_health_config=StartupHealthConfig(retries=3)))
    assert later.startup_health_config == StartupHealthConfig(test=["CMD", "early"], retries=3, successes=2)
    none = amended(later, UpdateRequest("c", no_healthcheck=True))
    assert none == ContainerSpec(no_healthcheck=True)
    again = amended(none, UpdateRequest("c", healthconfig=HealthConfig(test=["CMD", "true"])))
    assert again == ContainerSpec(healthconfig=HealthConfig(test=["CMD", "true"]))


def test_a_restart_policy_takes_its_number_along() -> None:
    spec = ContainerSpec(restart_policy="on-failure", restart_tries=3)
    after = amended(spec, UpdateRequest("c", restart_policy="on-failure"))
    assert (after.restart_policy, after.restart_tries) == ("on-failure", None)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (UpdateRequest("c"), "cannot update container 'c': nothing to change was given"),
        (UpdateRequest("c", restart_tries=3), "cannot limit restarts"),
        (UpdateRequest("c", env={"A": "1"}, unsetenv=["A"]), "cannot both set and unset the variable 'A'"),
        (
            UpdateRequest("c", no_healthcheck=True, health_check_on_failure_action="kill"),
            "cannot use --no-healthcheck together with another --health option",
        ),
        (
            UpdateRequest("c", startup_health_config=StartupHealthConfig(retries=3)),
            "cannot use the options --health-startup-… alone",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(change: UpdateRequest, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        amended(ContainerSpec(), change)
    assert sentence in str(caught.value)
