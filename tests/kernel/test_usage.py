"""What the kernel has counted, in each of the forms in which it tells it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import cgroups, usage
from supervisor.kernel.process import ProcessRef, ref_of
from supervisor.kernel.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

V2 = {
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 0\n",
    "memory.current": "9000\n",
    "memory.max": "max\n",
    "memory.stat": "anon 100\nfile 4000\nactive_file 1000\ninactive_file 3000\n",
    "io.stat": "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=2\n7:0 \n",
    "pids.current": "7\n",
}
V1 = {
    "cpuacct.usage": "1500000\n",
    "cpuacct.usage_sys": "500000\n",
    "memory.usage_in_bytes": "9000\n",
    "memory.limit_in_bytes": "64000\n",
    "memory.stat": "cache 5\ninactive_file 1\ntotal_inactive_file 3000\n",
    "blkio.throttle.io_service_bytes_recursive": "254:0 Read 10\n254:0 Write 20\n254:0 Sync 30\n8:0 Read 1\n8:0 Write 2\nTotal 33\n",
    "pids.current": "7\n",
}
NET = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  eth0:1234       5    1    2    0     0          0         0       99       3    4    6    0     0       0          0
"""


@pytest.fixture
def sleeper() -> Iterator[ProcessRef]:
    child = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo; exec sleep 601"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    found = ref_of(child.pid)
    assert found is not None
    yield found
    child.stdout.close()
    os.killpg(child.pid, 9)
    child.wait()


def lay(
    directory: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    for name, text in files.items():
        (directory / name).write_text(text)
    places = dict.fromkeys(names, str(directory))
    monkeypatch.setattr(cgroups, "places_of", lambda _pid, _mark: places)


def test_one_tree_for_all_controllers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: ProcessRef
) -> None:
    lay(tmp_path, V2, monkeypatch, ("",))
    assert usage.of_cgroup(sleeper, "x") == usage.Usage(1_500_000, 500_000, 6000, 0, 11, 22, 7)


def test_a_hierarchy_for_each_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: ProcessRef
) -> None:
    lay(tmp_path, V1, monkeypatch, ("cpuacct", "memory", "blkio", "pids", ""))
    assert usage.of_cgroup(sleeper, "x") == usage.Usage(1_500_000, 500_000, 6000, 64_000, 11, 22, 7)


def test_no_limit_on_v1_is_a_very_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: ProcessRef
) -> None:
    files = {**V1, "memory.limit_in_bytes": "9223372036854771712\n"}
    lay(tmp_path, files, monkeypatch, ("memory",))
    found = usage.of_cgroup(sleeper, "x")
    assert found is not None
    assert (found.memory, found.memory_limit) == (6000, 0)


def test_a_cgroup_that_is_gone_has_used_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: ProcessRef
) -> None:
    lay(tmp_path / "gone", {}, monkeypatch, ("",))
    assert usage.of_cgroup(sleeper, "x") == usage.Usage()


def test_a_process_that_has_ended_is_not_mistaken_for_who_has_its_pid(sleeper: ProcessRef) -> None:
    with pytest.raises(ProcessLookupError):
        usage.of_cgroup(ProcessRef(sleeper.pid, sleeper.start_time + 1), "x")
    assert usage.of_cgroup(sleeper, "no-such-cgroup") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a cgroup")
def test_the_cgroup_is_the_one_with_the_mark_in_its_name(sleeper: ProcessRef) -> None:
    path = f"/pyman-tests-{os.getpid()}-mark-{sleeper.pid}"
    mark = f"mark-{sleeper.pid}"
    assert cgroups.place(sleeper.pid, f"{path}.scope/inside")
    try:
        places = cgroups.places_of(sleeper.pid, mark)
        assert places
        assert all(place.endswith(f"{path}.scope") for place in places.values())
        found = usage.of_cgroup(sleeper, mark)
        assert found is not None
        assert (found.pids or 1) == 1
        assert Processes().of(sleeper, mark) == [sleeper.pid]
    finally:
        cgroups.place(sleeper.pid, "/")
        cgroups.remove(f"{path}.scope")


def test_traffic_is_by_interface_and_without_lo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dev"
    file.write_text(NET)
    read = usage._lines
    monkeypatch.setattr(usage, "_lines", lambda path: read(str(file) if path.endswith("/net/dev") else path))
    assert usage.traffic(1) == {"eth0": usage.Traffic((1234, 5, 1, 2), (99, 3, 4, 6))}


def test_processes_are_asked_one_by_one(sleeper: ProcessRef) -> None:
    pids = Processes().of(sleeper, "no-such-cgroup")
    assert sleeper.pid in pids
    assert len(pids) == 2
    found = usage.of_processes([*pids, 1 << 22])
    assert found.pids == 2
    assert found.memory > 0
