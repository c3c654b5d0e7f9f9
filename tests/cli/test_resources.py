"""Options of the cgroup and its limits, as fields of the create request."""

from __future__ import annotations

from typing import Any

import pytest

from pyman.cli.options import parse
from pyman.cli.resources import LIMIT_OPTIONS, RESOURCE_OPTIONS, limit_settings, resource_settings
from pyman.errors import InvalidArgument


def fields(line: str) -> dict[str, Any]:
    return resource_settings(parse(line.split(), RESOURCE_OPTIONS))


@pytest.mark.parametrize(
    "line, expected",
    [
        ("", {}),
        ("--cgroups split", {"cgroups_mode": "split"}),
        ("--cgroup-parent a.slice", {"cgroup_parent": "a.slice"}),
        ("--pids-limit 5", {"resource_limits": {"pids": {"limit": 5}}}),
        ("--pids-limit=-1", {"resource_limits": {"pids": {"limit": -1}}}),
        ("--pids-limit -1", {"resource_limits": {"pids": {"limit": -1}}}),
        ("-m 64m", {"resource_limits": {"memory": {"limit": 64 << 20}}}),
        ("-m 1.5g --memory-swap -1", {"resource_limits": {"memory": {"limit": 3 << 29, "swap": -1}}}),
        ("--memory 100b --memory-reservation 2k --memory-swap 3MiB",
         {"resource_limits": {"memory": {"limit": 100, "reservation": 2048, "swap": 3 << 20}}}),
        ("--memory 0 --memory-swap 0 --cpus 0 --cpu-shares 0", {}),
        ("--memory-swappiness 0", {"resource_limits": {"memory": {"swappiness": 0}}}),
        ("--memory-swappiness -1", {}),
        ("--cpus 1.5", {"resource_limits": {"cpu": {"period": 100_000, "quota": 150_000}}}),
        ("-c 512 --cpu-period 5000 --cpu-quota -1",
         {"resource_limits": {"cpu": {"shares": 512, "period": 5000, "quota": -1}}}),
        ("--cpu-rt-period 1000 --cpu-rt-runtime 0",
         {"resource_limits": {"cpu": {"realtimePeriod": 1000, "realtimeRuntime": 0}}}),
        ("--oom-kill-disable -m 1m --oom-score-adj -5",
         {"oom_score_adj": -5, "resource_limits": {"memory": {"limit": 1 << 20, "disableOOMKiller": True}}}),
        ("--blkio-weight 0", {}),
        ("--blkio-weight 10 --blkio-weight-device /dev/a:20,/dev/b:30",
         {"resource_limits": {"blockIO": {"weight": 10}},
          "weightDevice": {"/dev/a": {"weight": 20}, "/dev/b": {"weight": 30}}}),
        ("--device-read-bps /dev/a:1mb --device-write-bps /dev/by:id:2K",
         {"throttleReadBpsDevice": {"/dev/a": {"rate": 1 << 20}},
          "throttleWriteBpsDevice": {"/dev/by:id": {"rate": 2048}}}),
        ("--device-read-iops /dev/a:1 --device-write-iops /dev/a:0",
         {"throttleReadIOPSDevice": {"/dev/a": {"rate": 1}}, "throttleWriteIOPSDevice": {"/dev/a": {"rate": 0}}}),
        ("--cgroup-conf memory.high=5,pids.max=6", {"unified": {"memory.high": "5", "pids.max": "6"}}),
        ("--cpuset-cpus 0-1 --cpuset-mems 0", {"resource_limits": {"cpu": {"cpus": "0-1", "mems": "0"}}}),
    ],
)  # fmt: skip
def test_options_become_fields(line: str, expected: dict[str, Any]) -> None:
    assert fields(line) == expected


@pytest.mark.parametrize(
    "line, sentence",
    [
        (
            "--cgroups some",
            "option --cgroups cannot be 'some': it must be enabled, disabled, no-conmon, split",
        ),
        ("--pids-limit -2", "option --pids-limit cannot be '-2': it must be a number of processes"),
        ("--pids-limit many", "many"),
        ("-m much", "option --memory cannot be 'much': it must be a size such as 512m"),
        ("-m -1", "option --memory cannot be '-1'"),
        ("--memory-swap x", "option --memory-swap cannot be 'x': it must be a size such as 512m, or -1"),
        ("--cpus x", "option --cpus cannot be 'x': it must be a number of processors such as 1.5"),
        ("--cpus nan", "option --cpus cannot be 'nan'"),
        ("--cgroup-conf memory.high", "option --cgroup-conf cannot be 'memory.high': it must be FILE=VALUE"),
        ("--device-read-bps /dev/a", "option --device-read-bps cannot be '/dev/a': it must be DEVICE:RATE"),
        ("--device-read-bps a:5", "option --device-read-bps cannot be 'a:5': it must be DEVICE:RATE"),
        ("--device-write-iops /dev/a:1k", "must be DEVICE:NUMBER"),
        ("--blkio-weight-device /dev/a:0", "must be DEVICE:WEIGHT"),
        ("--cpus 1 --cpu-quota 5000", "cannot use --cpus together with --cpu-quota"),
        ("--cpus 1 --cpu-period 5000", "cannot use --cpus together with --cpu-period"),
    ],
)
def test_what_is_no_value_is_refused_by_name(line: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        fields(line)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("", {}),
        ("-m 0 --memory-swap 0", {"resource_limits": {"memory": {"limit": 0, "swap": 0}}}),
        ("--memory-swappiness -1", {"resource_limits": {"memory": {"swappiness": -1}}}),
        ("--cpus 0", {"resource_limits": {"cpu": {"period": 0, "quota": 0}}}),
        ("--blkio-weight 0", {"resource_limits": {"blockIO": {"weight": 0}}}),
        ("--blkio-weight-device /dev/a:0", {"weightDevice": {"/dev/a": {"weight": 0}}}),
        ("--device-read-bps /dev/a:0", {"throttleReadBpsDevice": {"/dev/a": {"rate": 0}}}),
    ],
)
def test_a_change_says_what_is_no_limit_any_more(line: str, expected: dict[str, Any]) -> None:
    assert limit_settings(parse(line.split(), LIMIT_OPTIONS), change=True) == expected
