"""New limits for a cgroup that is there: what the OCI runtime is told, and what its files say afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.kernel import cgroup_files, cgroups
from supervisor.oci.relimit import for_runtime, settle
from supervisor.oci.spec import BlockIo, Cpu, Memory, Pids, Resources, ThrottledDevice, WeighedDevice

MIB = 1 << 20
NONE = Resources()
ALL = Resources(
    pids=Pids(5),
    memory=Memory(limit=2 * MIB, swap=4 * MIB, reservation=MIB, swappiness=3),
    cpu=Cpu(shares=9, quota=2000, period=5000, realtime_runtime=5, realtime_period=50, cpus="0", mems="0"),
    block_io=BlockIo(weight=50),
)


def test_only_what_differs_is_told() -> None:
    for unified in (False, True):
        assert for_runtime(ALL, ALL, unified=unified, kind="runc") is None
        only_devices = Resources(block_io=BlockIo(weight=10), memory=Memory(swappiness=5))
        assert for_runtime(NONE, only_devices, unified=unified, kind="runc") is None
    told = for_runtime(NONE, ALL, unified=False, kind="crun")
    assert told == Resources(
        pids=Pids(5), memory=Memory(limit=2 * MIB, swap=4 * MIB, reservation=MIB), cpu=ALL.cpu
    )
    pids = Resources(pids=Pids(6), memory=ALL.memory, cpu=ALL.cpu)
    assert for_runtime(ALL, pids, unified=False, kind="crun") == Resources(pids=Pids(6))


def test_no_limit_has_a_word_of_its_own() -> None:
    """As far as the OCI runtime knows one."""
    assert for_runtime(ALL, NONE, unified=False, kind="runc") == Resources(
        pids=Pids(-1),
        memory=Memory(limit=-1, swap=-1, reservation=-1),
        cpu=Cpu(shares=1024, quota=-1, period=100_000, realtime_runtime=0, realtime_period=1_000_000),
    )
    assert for_runtime(ALL, NONE, unified=True, kind="crun") == Resources(
        memory=Memory(limit=-1, swap=-1),
        cpu=Cpu(period=100_000, realtime_runtime=0, realtime_period=1_000_000),
    )
    without_swap = Resources(memory=Memory(limit=MIB))
    assert for_runtime(without_swap, NONE, unified=False, kind="crun") == Resources(memory=Memory(limit=-1))


# ------------------------------------------------------------------ files


class Files:
    """A directory with the files of a cgroup, and one above it; a device's line is added and replaced as by the kernel."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.writes: list[tuple[str, str]] = []
        monkeypatch.setattr(cgroup_files, "write", self.write)

    def make(self, **texts: str) -> None:
        for name, text in texts.items():
            file = self.root / "a/c" / name.replace("__", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def write(self, file: str, text: str) -> None:
        assert Path(file).exists(), file
        self.writes.append((Path(file).name, text))


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(cgroups, "hierarchy_of", lambda _controller: "")
    monkeypatch.setattr(cgroups, "unified", lambda: str(tmp_path))
    return Files(tmp_path, monkeypatch)


def test_v2_files_are_brought_to_what_is_wanted(v2: Files) -> None:
    v2.make(
        io__max="8:0 rbps=5 wbps=max riops=max wiops=max\n8:16 rbps=9 wbps=max riops=max wiops=max\n",
        io__weight="default 910\n8:16 50\n",
        cpu__weight="3",
        cpu__max="2000 5000",
        cpuset__cpus="0",
        cpuset__mems="0",
        memory__low=str(MIB),
        pids__max="5",
    )
    wanted = Resources(
        block_io=BlockIo(
            weight_device=[WeighedDevice(8, 0, 1000)],
            throttle_read_bps_device=[ThrottledDevice(8, 0, 6)],
            throttle_write_iops_device=[ThrottledDevice(8, 0, 7)],
        )
    )
    settle("/a/c", ALL, wanted, unified=True)
    assert v2.writes == [
        ("cpuset.cpus", "\n"),
        ("cpuset.mems", "\n"),
        ("pids.max", "max"),
        ("cpu.max", "max 100000"),
        ("cpu.weight", "100"),
        ("memory.low", "0"),
        ("io.weight", "default 100"),
        ("io.weight", "8:16 default"),
        ("io.weight", "8:0 10000"),
        ("io.max", "8:16 rbps=max wbps=max riops=max wiops=max"),
        ("io.max", "8:0 rbps=6 wbps=max riops=max wiops=7"),
    ]


def test_bfqs_file_comes_first_and_keeps_the_scale(v2: Files) -> None:
    v2.make(io__bfq__weight="default 100\n", io__weight="default 100\n")
    wanted = Resources(block_io=BlockIo(weight=70, weight_device=[WeighedDevice(8, 0, 20)]))
    settle("/a/c", NONE, wanted, unified=True)
    assert v2.writes == [("io.bfq.weight", "default 70"), ("io.bfq.weight", "8:0 20")]


def test_what_is_as_it_should_be_is_left_alone(v2: Files) -> None:
    v2.make(
        io__max="8:0 rbps=6 wbps=max riops=max wiops=max\n", io__weight="default 100\n", pids__max="max\n"
    )
    wanted = Resources(block_io=BlockIo(throttle_read_bps_device=[ThrottledDevice(8, 0, 6)]))
    settle("/a/c", wanted, wanted, unified=True)
    assert v2.writes == []


def test_a_cgroup_without_controllers_is_left_alone(v2: Files) -> None:
    v2.make(cgroup__procs="")
    settle("/a/c", NONE, NONE, unified=True)
    assert v2.writes == []


def test_v1_takes_from_above_what_has_no_word_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "hierarchy_of", lambda controller: f"{tmp_path}/{controller}")
    monkeypatch.setattr(cgroup_files, "weights", lambda: "")
    for file, above, own in (
        ("cpuset.cpus", "0-3", "0"),
        ("cpuset.mems", "0-1", "0"),
        ("memory.swappiness", "60", "3"),
    ):
        directory = tmp_path / file.partition(".")[0] / "a"
        (directory / "c").mkdir(parents=True, exist_ok=True)
        (directory / file).write_text(above)
        (directory / "c" / file).write_text(own)
    settle("/a/c", ALL, NONE, unified=False)
    assert (tmp_path / "cpuset/a/c/cpuset.cpus").read_text() == "0-3"
    assert (tmp_path / "cpuset/a/c/cpuset.mems").read_text() == "0-1"
    assert (tmp_path / "memory/a/c/memory.swappiness").read_text() == "60"


def test_what_the_kernel_refuses_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        cgroup_files.write(f"{tmp_path}/none/io.max", "8:0 rbps=max")
    assert caught.value.filename == f"{tmp_path}/none/io.max"
