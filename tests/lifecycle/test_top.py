"""The processes of a container, looked at from outside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyman.descriptors import TITLES
from tests.support.runtimes import BY_USER
from tests.support.user import USER, UserPlace
from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.engine import Engine

FAMILY = "sleep 500 & sleep 600 & wait"
ACCOUNTS = "echo 'web:x:77:88::/:/bin/sh' >>/etc/passwd; echo 'www:x:88:' >>/etc/group"


def run(engine: Engine, rootfs: Path, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
    """Until the OCI runtime has become the command, which is after its start."""
    engine.cli("run", "-d", "--name", name, *options, "--rootfs", f"{rootfs}:O", *command)
    until(lambda: " init" not in engine.out("top", name, "args"), "the command does not come")


def table(engine: Engine, *words: str) -> list[list[str]]:
    """The processes; columns are far apart."""
    lines = engine.out("top", *words).splitlines()
    return [re.split(r"\s{2,}", line.strip()) for line in lines[1:]]


def whole(engine: Engine, name: str, count: int) -> None:
    until(lambda: len(table(engine, name, "pid", "comm")) == count, f"there are not {count} processes")


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_processes_are_shown_as_they_see_themselves(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sh", "-c", FAMILY)
    until(lambda: table(shared_engine, "c", "args").count(["sleep 600"]) == 1, "it is not there")
    lines = shared_engine.out("top", "c").splitlines()
    assert lines[0].split() == ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]
    rows = [re.split(r"\s{2,}", line) for line in lines[1:]]
    first, second = rows[1][1], rows[2][1]
    assert [[row[0], *row[1:3], *row[5:]] for row in rows] == [
        ["root", "1", "0", "?", "0s", f"sh -c {FAMILY}"],
        ["root", first, "1", "?", "0s", "sleep 500"],
        ["root", second, "1", "?", "0s", "sleep 600"],
    ]
    assert 1 < int(first) < int(second) < 50
    pids = {row[1]: int(row[0]) for row in table(shared_engine, "c", "hpid,pid", "state")}
    assert pids["1"] == shared_engine.inspect("c")["State"]["Pid"]
    assert Path(f"/proc/{pids[first]}/cmdline").read_bytes() == b"sleep\x00500\x00"


@pytest.mark.oci_runtime(*BY_USER)
def test_every_column_has_something_to_say(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sh", "-c", FAMILY)
    listed = shared_engine.out("top", "--list-descriptors").split()
    assert listed == sorted(TITLES)
    (first, *_) = table(
        shared_engine, "c", ",".join(name for name in listed if name not in ("groups", "hgroups"))
    )
    assert len(first) == len(listed) - 2
    assert all(first)
    assert table(shared_engine, "c", "%p", "%U", "%c")[0] == ["1", "root", "sh"]


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_users_have_the_names_that_the_container_gives_them(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sh", "-c", f"{ACCOUNTS}; sleep 1000")
    until(lambda: table(shared_engine, "c", "args") == [["sleep 1000"]], "it is not there")
    shared_engine.cli("exec", "-d", "--user", "77:88", "c", "sleep", "900")
    shared_engine.cli("exec", "-d", "--user", "4321:4321", "c", "sleep", "800")
    whole(shared_engine, "c", 3)
    rows = table(shared_engine, "c", "user", "uid", "group", "ruser", "rgroup", "ppid", "args")
    assert rows[1:] == [
        ["web", "77", "www", "web", "www", "0", "sleep 900"],
        ["4321", "4321", "4321", "4321", "4321", "0", "sleep 800"],
    ]


@pytest.mark.oci_runtime(*BY_USER)
def test_on_the_host_they_are_others(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sleep", "1000")
    shared_engine.cli("exec", "-d", "--user", "77", "c", "sleep", "900")
    whole(shared_engine, "c", 2)
    first, second = table(shared_engine, "c", "user", "huser", "huid", "hgroup")
    rootless = isinstance(shared_engine.place, UserPlace)
    assert first[:2] == ["root", USER if rootless else "root"]
    pid = table(shared_engine, "c", "hpid", "pid")[1][0]
    outer = re.search(r"^Uid:\s+\d+\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert outer is not None
    assert second[2] == outer[1]
    assert (second[2] == "77") is not rootless


@pytest.mark.oci_runtime("crun")
def test_in_a_user_namespace_of_its_own_ids_are_the_inner_ones(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536")
    run(shared_engine, rootfs, "c", "sleep", "1000", options=options)
    assert table(shared_engine, "c", "user", "uid", "huid", "hgroup") == [["root", "0", "300000", "300000"]]


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_terminals_are_named(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sleep", "1000", options=("-t",))
    assert table(shared_engine, "c", "tty", "comm") == [["pts/0", "sleep"]]


@pytest.mark.oci_runtime("runc", "crun")
def test_capabilities_and_seccomp_are_told(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--cap-drop", "all", "--cap-add", "CHOWN,KILL")
    run(shared_engine, rootfs, "few", "sleep", "1000", options=options)
    run(shared_engine, rootfs, "all", "sleep", "1000", options=("--privileged",))
    assert table(shared_engine, "few", "capbnd", "capeff", "capinh", "seccomp") == [
        ["CHOWN,KILL", "CHOWN,KILL", "none", "filter"]
    ]
    (found,) = table(shared_engine, "all", "capeff", "seccomp")
    assert found[0] == "full" or "SYS_ADMIN" in found[0]
    assert found[1] == "disabled"


@pytest.mark.oci_runtime("runc", "crun")
def test_with_the_hosts_pids_only_its_own_are_shown(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sh", "-c", FAMILY, options=("--pid", "host"))
    until(lambda: len(table(shared_engine, "c", "pid", "comm")) == 3, "they are not there")
    rows = table(shared_engine, "c", "pid", "hpid", "ppid", "comm")
    assert all(row[0] == row[1] for row in rows)
    init = str(shared_engine.inspect("c")["State"]["Pid"])
    assert rows[0][0] == init
    assert [row[2] for row in rows[1:]] == [init, init]


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_with_anothers_pids_only_its_own_are_shown(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "base", "sh", "-c", FAMILY)
    whole(shared_engine, "base", 3)
    run(shared_engine, rootfs, "c", "sleep", "900", options=("--pid", "container:base"))
    shared_engine.cli("exec", "-d", "c", "sleep", "800")
    whole(shared_engine, "c", 2)
    first, second = table(shared_engine, "c", "pid", "ppid", "args")
    assert (first[1:], second[1:]) == (["0", "sleep 900"], ["0", "sleep 800"])
    assert int(first[0]) > 3
    assert [row[0] for row in table(shared_engine, "base", "args")][1:] == ["sleep 500", "sleep 600"]


@pytest.mark.oci_runtime("crun")
def test_without_a_cgroup_they_are_found_by_their_descent(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sh", "-c", FAMILY, options=("--cgroups", "disabled"))
    shared_engine.cli("exec", "-d", "c", "sleep", "700")
    whole(shared_engine, "c", 4)
    assert [row[0] for row in table(shared_engine, "c", "args")][1:] == [
        "sleep 500",
        "sleep 600",
        "sleep 700",
    ]


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_what_is_no_column_is_for_ps_in_the_container(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "c", "sleep", "1000")
    lines = shared_engine.out("top", "c", "-o", "pid,args").splitlines()
    assert [line.split(None, 1) for line in lines] == [["PID", "COMMAND"], ["1", "sleep 1000"]]
    assert shared_engine.out("top", "c", "-o pid,comm").splitlines()[1].split() == ["1", "sleep"]
    assert shared_engine.out("top", "-l", "--", "-o", "pid,args").splitlines()[1:] == lines[1:]
    done = shared_engine.cli("top", "c", "--no-such-option", check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert "'ps --no-such-option' in the container ended with exit code 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    shared_engine.cli("exec", "c", "rm", "/bin/ps")
    done = shared_engine.cli("top", "c", "nonsense", check=False)
    assert done.returncode == 127
    assert "it has no ps" in done.stderr


@pytest.mark.oci_runtime(*BY_USER)
def test_a_container_that_does_not_run_has_none(shared_engine: Engine, rootfs: Path) -> None:
    shared_engine.cli("create", "--name", "c", "--rootfs", f"{rootfs}:O", "true")
    for words, text in (
        (("c",), "it is created, not running"),
        (("nobody",), "cannot find container 'nobody'"),
        ((), "needs a container"),
    ):
        done = shared_engine.cli("top", *words, check=False)
        assert (done.returncode, done.stdout) == (125, "")
        assert text in done.stderr
    with pytest.raises(VarlinkError, match="cannot show the column 'nonsense'"):
        shared_engine.call("io.pyman.Container.Top", {"name": "c", "descriptors": ["nonsense"]})


@pytest.mark.oci_runtime(*BY_USER)
def test_a_hostile_container_shows_no_more_than_itself(shared_engine: Engine, rootfs: Path) -> None:
    secret = shared_engine.path / "passwd"
    secret.write_text("secret:x:0:0::/:/bin/sh\n")
    secret.chmod(0o644)
    tricks = f"rm -f /etc/passwd /etc/group; ln -s {secret} /etc/passwd; mkfifo /etc/group"
    run(shared_engine, rootfs, "c", "sh", "-c", f"{tricks}; sleep 1000 & wait", "\033[31mred\nline")
    until(lambda: len(table(shared_engine, "c", "pid", "comm")) == 2, "it is not there")
    assert table(shared_engine, "c", "user", "group", "pid")[0] == ["0", "0", "1"]
    text = shared_engine.out("top", "c", "pid", "args")
    assert "\033" not in text
    assert len(text.splitlines()) == 3
