"""Kernel parameters, names and personalities of containers, as their processes see them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


def run(engine: Engine, rootfs: Path, *options: str, script: str) -> list[str]:
    return engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script).split()


def refused(engine: Engine, rootfs: Path, *options: str) -> str:
    """What a command says that makes nothing."""
    done = engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert engine.out("ps", "-aq") == ""
    return done.stderr


def host_of(path: str) -> str:
    with open(f"/proc/sys/{path}", encoding="ascii") as file:
        return file.read().strip()


def test_a_kernel_parameter_is_the_containers_own(shared_engine: Engine, rootfs: Path) -> None:
    before = host_of("net/ipv4/ip_forward"), host_of("kernel/msgmax")
    seen = run(
        shared_engine,
        rootfs,
        *("--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "net.core.somaxconn=321"),
        *("--sysctl", "kernel.msgmax=4321", "--sysctl", "fs.mqueue.msg_max=7"),
        script="cd /proc/sys; cat net/ipv4/ip_default_ttl net/core/somaxconn kernel/msgmax fs/mqueue/msg_max",
    )
    assert seen == ["77", "321", "4321", "7"]
    assert (host_of("net/ipv4/ip_forward"), host_of("kernel/msgmax")) == before


def test_what_is_configured_yields_to_what_was_asked_for(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    script = "cat /proc/sys/net/ipv4/ping_group_range"
    assert run(engine, rootfs, script=script) == ["0", "0"]
    assert run(engine, rootfs, "--sysctl", "net.ipv4.ping_group_range=0 1", script=script) == ["0", "1"]
    # The host's is left alone by the configured one.
    seen = run(engine, rootfs, "--network", "host", script=script)
    if not isinstance(engine, UserEngine):  # to whom the host's groups are nobody's
        assert seen == host_of("net/ipv4/ping_group_range").split()


@pytest.mark.parametrize(
    "asked", ["net.ipv4.conf.nosuch.forwarding=1", "net.ipv4.ip_default_ttl=99999", "kernel.msgmax=many"]
)
def test_a_parameter_that_cannot_be_set_is_named(shared_engine: Engine, rootfs: Path, asked: str) -> None:
    """Only in the container it shows that there is no such device, or what the kernel thinks of the value."""
    run = ("run", "--rm", "--sysctl", asked, "--rootfs", f"{rootfs}:O", "true")
    done = shared_engine.cli(*run, check=False)
    assert done.returncode == 126
    assert f"the kernel parameter '{asked.partition('=')[0]}' (--sysctl) cannot be set: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert shared_engine.out("ps", "-aq") == ""


@pytest.mark.oci_runtime(*BY_USER)
def test_a_parameter_of_a_joined_namespace_is_set_in_it(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    engine.cli("run", "-d", "--name", "owner", "--rootfs", f"{rootfs}:O", *SLEEP)
    joins = ("--network", "container:owner")
    run(engine, rootfs, *joins, "--sysctl", "net.ipv4.ip_default_ttl=66", script="true")
    assert engine.out("exec", "owner", "cat", "/proc/sys/net/ipv4/ip_default_ttl") == "66"


@pytest.mark.oci_runtime(*BY_USER)
def test_inspect_tells_what_was_asked_for(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--sysctl", "kernel.sem=250 32000 32 200", "--domainname", "home.example")
    shared_engine.cli("create", "--name", "box", *options, "--rootfs", f"{rootfs}:O", "true")
    told = shared_engine.inspect("box")
    assert told["HostConfig"]["Sysctls"] == {"kernel.sem": "250 32000 32 200"}
    assert told["Config"]["Domainname"] == "home.example"


@pytest.mark.oci_runtime("runc")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--sysctl", "kernel.panic=1"), "cannot use --sysctl kernel.panic: it is not of a namespace"),
        (("--sysctl", "kernel.msgmaximum=1"), "kernel.msgmaximum: it is not of a namespace"),
        (("--sysctl", "vm.swappiness=1"), "vm.swappiness: it is not of a namespace"),
        (("--sysctl", "net.ipv4.nothing=1"), "net.ipv4.nothing: this kernel has no such parameter"),
        (("--sysctl", "net.ipv4/ip_forward=1"), "it is no name of a kernel parameter"),
        (("--sysctl", "net.ipv4...kernel.panic=1"), "it is no name of a kernel parameter"),
        (("--sysctl", "net.ipv4.ip_forward"), "it must be NAME=VALUE"),
        (("--sysctl", "net.ipv4.ip_forward= 1"), "net.ipv4.ip_forward: it cannot be ' 1'"),
        (("--sysctl", "kernel.hostname=x"), "kernel.hostname: it has an option of its own: give --hostname"),
        (("--sysctl", "kernel.domainname=x"), "give --domainname"),
        (("--network", "host", "--sysctl", "net.ipv4.ip_forward=1"), "it would be the host's"),
        (("--ipc", "host", "--sysctl", "kernel.msgmax=1"), "(--ipc host)"),
        (("--ipc", "host", "--sysctl", "fs.mqueue.msg_max=1"), "(--ipc host)"),
        (("--hostname", "a b"), "cannot use the hostname 'a b'"),
        (("--hostname", "a" * 65), "it has more than 64 characters"),
        (("--domainname", "a" * 65), "it has more than 64 characters"),
        (("--domainname", "a\nb"), "cannot use the domain name"),
        (("--uts", "host", "--domainname", "x"), "cannot use --domainname together with --uts host"),
        (("--personality", "BSD"), "cannot use --personality BSD: known are LINUX, LINUX32"),
    ],
)
def test_what_cannot_be_set_is_refused(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], complaint: str
) -> None:
    assert complaint in refused(shared_engine, rootfs, *options)


def test_the_domain_name_is_the_containers_own(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    script = "cat /proc/sys/kernel/domainname"
    before = host_of("kernel/domainname")
    assert run(engine, rootfs, "--domainname", "home.example", script=script) == ["home.example"]
    assert host_of("kernel/domainname") == before
    # Also at every later start, and for a command that only just waits to be started.
    engine.cli("create", "--name", "box", "--domainname", "two", "--rootfs", f"{rootfs}:O", *SLEEP)
    engine.cli("init", "box")
    engine.kill()
    engine.cli("start", "box")
    assert engine.out("exec", "box", "cat", "/proc/sys/kernel/domainname") == "two"
    engine.cli("restart", "-t", "0", "box")
    assert engine.out("exec", "box", "cat", "/proc/sys/kernel/domainname") == "two"


def test_a_domain_name_with_ids_of_its_own(shared_engine: Engine, rootfs: Path) -> None:
    first = 1 if isinstance(shared_engine, UserEngine) else 300_000
    options = ("--uidmap", f"0:{first}:2000", "--domainname", "mine")
    assert run(shared_engine, rootfs, *options, script="cat /proc/sys/kernel/domainname") == ["mine"]


@pytest.mark.oci_runtime("crun")
def test_a_personality_is_the_commands(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    assert run(engine, rootfs, "--personality", "LINUX32", script="uname -m") == ["i686"]
    assert run(engine, rootfs, "--personality", "LINUX", script="uname -m") == [os.uname().machine]
    engine.cli("run", "-d", "--name", "box", "--personality", "LINUX32", "--rootfs", f"{rootfs}:O", *SLEEP)
    assert engine.out("exec", "box", "uname", "-m") == "i686"


@pytest.mark.oci_runtime("runc", "rootless")
def test_a_personality_that_the_oci_runtime_would_leave_out_is_refused(
    shared_engine: Engine, rootfs: Path
) -> None:
    said = refused(shared_engine, rootfs, "--personality", "LINUX32")
    assert "cannot use --personality LINUX32: the OCI runtime runc" in said
    assert "use --runtime crun" in said


def test_a_class_of_caches_is_refused_where_there_are_none(shared_engine: Engine, rootfs: Path) -> None:
    said = refused(shared_engine, rootfs, "--rdt-class", "gold")
    assert "cannot use --rdt-class gold: " in said
    if not isinstance(shared_engine, UserEngine):
        assert "nothing is mounted at /sys/fs/resctrl" in said


@pytest.mark.oci_runtime(*BY_USER)
def test_hosts_are_those_of_whose_network_it_is(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    given = ("--add-host", "far.example:192.0.2.7")
    engine.cli("run", "-d", "--name", "owner", *given, "--rootfs", f"{rootfs}:O", *SLEEP)
    joins = ("--network", "container:owner")
    assert "192.0.2.7" in run(engine, rootfs, *joins, script="cat /etc/hosts")
    engine.cli("run", "-d", "--name", "guest", *joins, "--rootfs", f"{rootfs}:O", *SLEEP)
    assert "192.0.2.7" in run(engine, rootfs, "--network", "container:guest", script="cat /etc/hosts")
    done = engine.cli("create", *joins, *given, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert "cannot use --add-host together with --network container:owner" in done.stderr
    engine.cli("rm", "-f", "-t", "0", "--depend", "owner")
