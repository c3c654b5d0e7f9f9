"""What containers use, as they use it."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.runtimes import BY_USER, hybrid_cgroups
from tests.support.user import UserPlace
from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

BUSY = "while :; do :; done"
SOON = {"interval": 0.1}


def run(engine: Engine, rootfs: Path, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
    """Until the OCI runtime has become the command, which is after its start."""
    engine.cli("run", "-d", "--name", name, *options, "--rootfs", f"{rootfs}:O", *command)
    until(lambda: " init" not in engine.out("top", name, "args"), "the command does not come")


def now(engine: Engine, *names: str, **request: Any) -> list[dict[str, Any]]:
    asked = {"names": [*names], "stream": False, **request}
    (reply,) = engine.call_stream("io.pyman.Container.Stats", asked)
    found: list[dict[str, Any]] = reply["stats"]
    return found


def has_cgroups(engine: Engine) -> bool:
    """An ordinary user's containers have none on cgroup v1."""
    return not isinstance(engine.place, UserPlace) or not hybrid_cgroups()


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_who_works_has_the_processor_and_who_sleeps_has_not(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "busy", "sh", "-c", BUSY)
    run(shared_engine, rootfs, "idle", "sleep", "1000")
    with shared_engine.wire() as wire:
        stream = wire.stream("io.pyman.Container.Stats", {"names": ["busy", "idle"], **SOON})
        looks = [next(stream)["stats"] for _ in range(4)]
    for before, after in pairwise(looks):
        assert [each["Name"] for each in after] == ["busy", "idle"]
        assert after[0]["SystemNano"] > before[0]["SystemNano"]
        spent, passed = (after[0][key] - before[0][key] for key in ("CPUNano", "SystemNano"))
        assert after[0]["CPU"] == pytest.approx(spent / passed * 100)
        assert after[1]["CPUNano"] - before[1]["CPUNano"] < 5_000_000
    busy, idle = looks[-1]
    assert busy["AvgCPU"] > idle["AvgCPU"]
    assert busy["CPUNano"] == busy["UpTime"] == busy["Duration"]
    assert 0 < idle["MemUsage"] < 20 << 20
    assert idle["PIDs"] == 1


@pytest.mark.oci_runtime("runc", "crun")
def test_memory_and_processes_are_counted_against_the_limit(shared_engine: Engine, rootfs: Path) -> None:
    hog = "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; sleep 500 & sleep 600 & wait"
    run(shared_engine, rootfs, "hog", "sh", "-c", hog, options=("-m", "64m"))
    until(lambda: now(shared_engine, "hog")[0]["PIDs"] == 3, "its processes are not counted")
    (found,) = now(shared_engine, "hog")
    assert found["MemLimit"] == 64 << 20
    assert 8 << 20 <= found["MemUsage"] < 24 << 20
    assert found["MemPerc"] == pytest.approx(found["MemUsage"] / (64 << 20) * 100)


@pytest.mark.oci_runtime(*BY_USER)
def test_what_a_container_writes_to_disk_is_counted(shared_engine: Engine, rootfs: Path) -> None:
    write = "dd if=/dev/zero of=/x bs=64k count=1 conv=fsync 2>/dev/null"
    writes = f"for i in 1 2 3 4 5 6 7 8; do {write}; done; echo done; sleep 1000"
    run(shared_engine, rootfs, "w", "sh", "-c", writes)
    until(lambda: "done" in shared_engine.out("logs", "w"), "it does not write")
    if not os.major(shared_engine.root.stat().st_dev):
        pytest.skip("the engine's files are on no device")
    assert now(shared_engine, "w")[0]["BlockOutput"] >= 128 << 10  # and not what the kernel wrote by itself


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_without_a_network_of_its_own_nothing_is_counted_as_its_traffic(
    shared_engine: Engine, rootfs: Path
) -> None:
    run(shared_engine, rootfs, "none", "sleep", "1000", options=("--network", "none"))
    run(shared_engine, rootfs, "host", "sleep", "1000", options=("--network", "host"))
    for name in ("none", "host"):
        assert now(shared_engine, name)[0]["Network"] == {}
    assert shared_engine.out("stats", "--no-stream", "--format", "{{.NetIO}}") == "0B / 0B\n0B / 0B"


@pytest.mark.oci_runtime("runc", "crun")
def test_traffic_is_that_of_its_interfaces_but_for_lo(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "net", "sleep", "1000", options=("--cap-add", "NET_ADMIN,NET_RAW"))
    pid = shared_engine.inspect("net")["State"]["Pid"]
    inside = ["nsenter", "-t", str(pid), "-n", "ip"]
    commands = (
        "link set lo up",
        "link add eth0 type veth peer name eth1",
        "link set eth0 up",
        "link set eth1 up",
    )
    for command in commands:
        subprocess.run([*inside, *command.split()], check=True)
    told: dict[str, dict[str, Any]] = {}

    def has_traffic() -> bool:
        told.update(now(shared_engine, "net")[0]["Network"])
        return all(told[name]["TxBytes"] for name in ("eth0", "eth1"))  # IPv6 speaks up by itself

    until(has_traffic, "no traffic")
    assert set(told) == {"eth0", "eth1"}
    assert told["eth0"]["TxPackets"] > 0


@pytest.mark.oci_runtime(*BY_USER)
def test_only_those_that_run_are_shown_unless_all_are_wanted(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "up", "sleep", "1000")
    shared_engine.cli("create", "--name", "down", "--rootfs", f"{rootfs}:O", "true")
    names = ("stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}} {{.CPUPerc}}")
    assert shared_engine.out(*names).startswith("up 1 ")
    assert shared_engine.out(*names, "--all").splitlines()[1:] == ["down 0 0.00%"]
    assert shared_engine.out(*names, "--latest") == "down 0 0.00%"
    assert shared_engine.out(*names, "down", "up", "down").splitlines()[0] == "down 0 0.00%"
    assert len(shared_engine.out(*names, "down", "up", "down").splitlines()) == 2
    shared_engine.cli("pause", "up", check=has_cgroups(shared_engine))
    if has_cgroups(shared_engine):
        assert shared_engine.out(*names) == ""
        assert shared_engine.out(*names, "up").startswith("up 1 ")


@pytest.mark.oci_runtime(*BY_USER)
def test_containers_come_and_go_while_somebody_watches(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "one", "sleep", "1000")
    with shared_engine.wire() as wire:
        stream = wire.stream("io.pyman.Container.Stats", SOON)

        def shown() -> list[str]:
            return [each["Name"] for each in next(stream)["stats"]]

        assert shown() == ["one"]
        run(shared_engine, rootfs, "two", "sleep", "1000")
        until(lambda: shown() == ["one", "two"], "the second one is not shown")
        shared_engine.cli("stop", "-t", "0", "one")
        until(lambda: shown() == ["two"], "the first one is still shown")
        shared_engine.cli("rm", "-f", "-t", "0", "two")
        until(lambda: shown() == [], "the second one is still shown")


@pytest.mark.oci_runtime(*BY_USER)
def test_a_run_begins_to_count_anew(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "again", "sh", "-c", BUSY)
    with shared_engine.wire() as wire:
        stream = wire.stream("io.pyman.Container.Stats", {"names": ["again"], **SOON})
        until(lambda: next(stream)["stats"][0]["CPUNano"] > 0, "it does not work")
        shared_engine.cli("stop", "-t", "0", "again")
        until(lambda: next(stream)["stats"][0]["CPUNano"] == 0, "it is not down")
        shared_engine.cli("start", "again")
        until(lambda: next(stream)["stats"][0]["CPU"] > 0, "it is not up")


@pytest.mark.oci_runtime(*BY_USER)
def test_one_that_was_named_and_is_removed_ends_the_stream(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sleep", "1000")
    with shared_engine.spawn("stats", "--interval", "0.1", "--format", "{{.Name}}", "c") as watcher:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        assert watcher.stdout.readline() == b"c\n"
        shared_engine.cli("rm", "-f", "-t", "0", "c")
        assert watcher.wait(20) == 125
        assert b"cannot find container 'c'" in watcher.stderr.read()


@pytest.mark.oci_runtime("crun")
def test_who_goes_away_is_not_told_any_more(shared_engine: Engine) -> None:
    before = shared_engine.call("io.pyman.Container.List", {})
    for _ in range(5):
        with shared_engine.wire() as wire:
            next(wire.stream("io.pyman.Container.Stats", SOON))
    assert shared_engine.call("io.pyman.Container.List", {}) == before


@pytest.mark.oci_runtime("crun")
def test_the_command_goes_on_at_the_next_supervisor(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sleep", "1000")
    with shared_engine.spawn("stats", "--interval", "0.1", "--format", "{{.Name}}") as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == b"c\n"
        shared_engine.kill()
        run(shared_engine, rootfs, "d", "sleep", "1000")
        lines = iter(watcher.stdout.readline, b"")
        assert b"d\n" in lines
        watcher.terminate()


@pytest.mark.oci_runtime("crun")
def test_what_makes_no_sense_is_refused(shared_engine: Engine, rootfs: Path) -> None:
    for words, text in (
        (("--all", "--latest"), "together"),
        (("--all", "x"), "together"),
        (("--interval", "0"), "every 0 s"),
        (("nobody",), "cannot find container 'nobody'"),
        (("--latest",), "there is none"),
        (("--format", "{{.Nothing}}"), "Nothing"),
    ):
        done = shared_engine.cli("stats", *words, "--no-stream", check=False)
        if words[0] == "--format":
            run(shared_engine, rootfs, "c", "sleep", "1000")
            done = shared_engine.cli("stats", *words, "--no-stream", check=False)
        assert (done.returncode, done.stdout) == (125, ""), words
        assert text in done.stderr
    with pytest.raises(VarlinkError):
        now(shared_engine, interval=1e300)


@pytest.mark.oci_runtime(*BY_USER)
def test_json_has_podmans_keys(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sleep", "1000")
    (found,) = json.loads(shared_engine.out("stats", "--no-stream", "--format", "json"))
    assert [*found] == [
        "id", "name", "cpu_time", "cpu_percent", "avg_cpu", "mem_usage", "mem_percent", "net_io", "block_io", "pids",
    ]  # fmt: skip
    assert (found["name"], found["pids"], found["net_io"]) == ("c", "1", "0B / 0B")
    assert len(found["id"]) == 12
    whole = shared_engine.out("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}")
    assert whole == shared_engine.inspect("c")["Id"]


@pytest.mark.oci_runtime("crun")
def test_without_a_cgroup_its_processes_are_counted(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sh", "-c", f"sleep 999 & {BUSY}", options=("--cgroups", "disabled"))
    until(lambda: now(shared_engine, "c")[0]["PIDs"] == 2, "its processes are not counted")
    until(lambda: now(shared_engine, "c")[0]["CPUNano"] > 0, "its time is not counted")
    assert now(shared_engine, "c")[0]["MemUsage"] > 0
