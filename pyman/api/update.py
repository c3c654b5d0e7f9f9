"""What can be changed of a container that exists."""

from __future__ import annotations

import msgspec

from pyman.api.limits import ResourceLimits, ThrottleDevice, WeightDevice
from pyman.api.spec import HealthConfig, Rlimit, StartupHealthConfig

__all__ = ["UpdateRequest"]


class UpdateRequest(msgspec.Struct, frozen=True):
    """Fields are those of the spec. What is absent stays as it is; all is changed, or nothing.

    Limits of the cgroup hold at once, as does the health check; variables and limits of processes from the next start.
    """

    name: str
    restart_policy: str | None = None
    restart_tries: int | None = None
    """Of the policy on-failure; none with it: any number."""
    resource_limits: ResourceLimits = ResourceLimits()
    """0 takes a limit away (a swappiness: -1); without one of memory there is none of swap."""
    weight_device: dict[str, WeightDevice] = msgspec.field(name="weightDevice", default_factory=dict)
    """Other devices keep their limits, here and in the next four; a weight or rate of 0 takes one away."""
    throttle_read_bps_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleReadBpsDevice", default_factory=dict
    )
    throttle_write_bps_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleWriteBpsDevice", default_factory=dict
    )
    throttle_read_iops_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleReadIOPSDevice", default_factory=dict
    )
    throttle_write_iops_device: dict[str, ThrottleDevice] = msgspec.field(
        name="throttleWriteIOPSDevice", default_factory=dict
    )
    r_limits: list[Rlimit] = []
    """Others stay."""
    env: dict[str, str] = {}
    unsetenv: list[str] = []
    """Variables of its own, the image's and the engine's that it is not to have."""
    no_healthcheck: bool = False
    """Nothing is left of its health check, nor of the image's."""
    healthconfig: HealthConfig | None = None
    startup_health_config: StartupHealthConfig | None = msgspec.field(
        name="startupHealthConfig", default=None
    )
    health_check_on_failure_action: str = ""
    health_log_destination: str = msgspec.field(name="healthLogDestination", default="")
    health_max_log_count: int | None = msgspec.field(name="healthMaxLogCount", default=None)
    health_max_log_size: int | None = msgspec.field(name="healthMaxLogSize", default=None)
