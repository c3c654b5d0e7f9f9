"""The files of a container's /etc that the engine writes, seen by containers: root's and an ordinary user's."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel.addresses import first_address
from tests.support.images import import_image, podman
from tests.support.runtimes import BY_USER
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

SLEEP = ("sleep", "1000")
PLACES = {"HostsPath": "hosts", "ResolvConfPath": "resolv.conf", "HostnamePath": "hostname"}


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """One whose settings a test may change."""
    before = shared_engine.configuration.read_text()
    yield shared_engine
    if shared_engine.configuration.read_text() != before:
        shared_engine.configuration.write_text(before)
        shared_engine.cli("system", "reload")


def configure(engine: Engine, text: str) -> None:
    """Settings of new containers."""
    engine.add_settings(f"[containers]\n{text}\n")
    engine.cli("system", "reload")


def run(engine: Engine, rootfs: Path, *options: str, script: str) -> str:
    return engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)


def entries(text: str) -> dict[str, list[str]]:
    """The addresses of each name in a file of hosts, in their order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            found.setdefault(name, []).append(address)
    return found


def refused(engine: Engine, rootfs: Path, *options: str) -> str:
    """What a command says that makes nothing."""
    done = engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert engine.out("ps", "-aq") == ""
    return done.stderr


def test_hosts_has_what_the_host_has_and_the_container(engine: Engine, rootfs: Path) -> None:
    text = run(engine, rootfs, "--name", "web", "--hostname", "box", script="cat /etc/hosts")
    found = entries(text)
    for name, addresses in entries(Path("/etc/hosts").read_text()).items():
        assert found[name][: len(addresses)] == addresses
    assert "127.0.0.1" in found["localhost"]
    assert found["box"] == found["web"] == ["127.0.0.1"]
    if address := first_address():
        assert found["host.containers.internal"] == found["host.docker.internal"] == [address]


def test_the_host_is_itself_where_the_network_is_its_own(engine: Engine, rootfs: Path) -> None:
    found = entries(run(engine, rootfs, "--network", "host", "--name", "web", script="cat /etc/hosts"))
    assert found["host.containers.internal"] == ["127.0.0.1"]
    assert "web" not in found


def test_hosts_can_be_added_and_win(engine: Engine, rootfs: Path) -> None:
    options = ("--add-host", "one;two:192.0.2.7", "--add-host", "six:2001:db8::6,gate:host-gateway")
    more = ("--add-host", "host.docker.internal:192.0.2.8", "--hosts-file", "none", "--name", "web")
    lines = run(engine, rootfs, *options, *more, script="cat /etc/hosts").splitlines()
    address = first_address()
    assert lines[:4] == [
        "192.0.2.7\tone two",
        "2001:db8::6\tsix",
        f"{address}\tgate",
        "192.0.2.8\thost.docker.internal",
    ]
    assert lines[4:7] == ["127.0.0.1\tlocalhost", "::1\tlocalhost", f"{address}\thost.containers.internal"]
    assert lines[7].endswith(" web")
    assert len(lines) == 8


def test_a_base_file_is_the_hosts_the_images_or_another(engine: Engine, rootfs: Path) -> None:
    other = engine.path / "others"
    other.write_text("192.0.2.9 there # a remark\n# 192.0.2.1 nowhere\n192.0.2.2\n")
    other.chmod(0o644)
    found = entries(run(engine, rootfs, "--hosts-file", str(other), script="cat /etc/hosts"))
    assert found["there"] == ["192.0.2.9"]
    assert not {"nowhere", "remark", *entries(Path("/etc/hosts").read_text())} & found.keys() - {"localhost"}
    with (rootfs / "etc/hosts").open("w") as file:
        file.write("192.0.2.3 within\n")
    try:
        found = entries(run(engine, rootfs, "--hosts-file", "image", script="cat /etc/hosts"))
        assert found["within"] == ["192.0.2.3"]
        assert run(engine, rootfs, "--no-hosts", script="cat /etc/hosts") == "192.0.2.3 within"
        configure(engine, 'base_hosts_file = "image"\nhost_containers_internal_ip = "192.0.2.77"')
        found = entries(run(engine, rootfs, "--add-host", "gate:host-gateway", script="cat /etc/hosts"))
        assert found["within"] == ["192.0.2.3"]
        assert found["gate"] == found["host.containers.internal"] == ["192.0.2.77"]
        configure(engine, 'host_containers_internal_ip = "none"\nno_hosts = true')
        assert run(engine, rootfs, script="cat /etc/hosts") == "192.0.2.3 within"
        assert "containers.conf is none" in refused(
            engine, rootfs, "--no-hosts=false", "--add-host", "a:host-gateway"
        )
        assert "host.containers" not in run(engine, rootfs, "--no-hosts=false", script="cat /etc/hosts")
        assert "no_hosts is set" in refused(engine, rootfs, "--add-host", "a:192.0.2.1")
    finally:
        (rootfs / "etc/hosts").unlink()


@pytest.mark.oci_runtime(*BY_USER)
def test_no_link_in_an_image_leads_its_hosts_out_of_it(engine: Engine, rootfs: Path) -> None:
    (engine.path / "secret").write_text("192.0.2.5 secret\n")
    (rootfs / "etc/hosts").symlink_to(engine.path / "secret")
    try:
        assert "secret" not in run(engine, rootfs, "--hosts-file", "image", script="cat /etc/hosts")
    finally:
        (rootfs / "etc/hosts").unlink()
    assert (engine.path / "secret").read_text() == "192.0.2.5 secret\n"


def test_the_hostname_is_a_file_too(engine: Engine, rootfs: Path) -> None:
    assert run(engine, rootfs, "--hostname", "box", script="cat /etc/hostname") == "box"
    assert run(engine, rootfs, "--uts", "host", script="cat /etc/hostname") == socket.gethostname()
    assert run(engine, rootfs, "--no-hostname", "--hostname", "box", script="cat /etc/hostname") == "busybox"


def test_name_servers_are_the_hosts_where_its_network_is(engine: Engine, rootfs: Path) -> None:
    words = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    wanted = [line[1] for line in words if line[:1] == ["nameserver"]]
    text = run(engine, rootfs, "--network", "host", script="cat /etc/resolv.conf")
    assert [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")] == wanted
    script = "cat /etc/resolv.conf 2>/dev/null; true"
    assert run(engine, rootfs, "--network", "none", script=script) == ""


@pytest.mark.parametrize("network", ["host", "none"])
def test_name_servers_domains_and_options_can_be_given(engine: Engine, rootfs: Path, network: str) -> None:
    options = ("--dns", "192.0.2.1,2001:db8::1", "--dns-search", "one.example,two", "--dns-opt", "ndots:2")
    text = run(engine, rootfs, "--network", network, *options, script="cat /etc/resolv.conf")
    assert text.splitlines() == [
        "search one.example two",
        "nameserver 192.0.2.1",
        "nameserver 2001:db8::1",
        "options ndots:2",
    ]


def test_configured_name_servers_come_first(engine: Engine, rootfs: Path) -> None:
    configure(engine, 'dns_servers = ["192.0.2.1"]\ndns_searches = ["one"]\ndns_options = ["rotate"]')
    options = ("--dns", "192.0.2.2", "--dns-search", "two", "--dns-option", "ndots:2", "--network", "host")
    assert run(engine, rootfs, *options, script="cat /etc/resolv.conf").splitlines() == [
        "search one two",
        "nameserver 192.0.2.1",
        "nameserver 192.0.2.2",
        "options rotate ndots:2",
    ]
    text = run(engine, rootfs, "--dns-search=.", "--network", "host", script="cat /etc/resolv.conf")
    assert text.splitlines() == ["nameserver 192.0.2.1", "options rotate"]


@pytest.mark.oci_runtime("runc", "crun")
def test_a_network_namespace_with_a_name_has_its_own_name_servers(engine: Engine, rootfs: Path) -> None:
    """As `ip netns` has it; those on the loopback of the host are not reached there."""
    file = engine.path / f"named-{engine.path.name}"
    file.touch()
    prefix = engine.place.prefix("/")
    subprocess.run([*prefix, "unshare", f"--net={file}", "true"], check=True)
    directory = Path("/etc/netns") / file.name
    try:
        directory.mkdir(parents=True)
        (directory / "resolv.conf").write_text("nameserver 127.0.0.1\nnameserver 192.0.2.44\nsearch there\n")
        text = run(engine, rootfs, "--network", f"ns:{file}", script="cat /etc/resolv.conf")
        assert text.splitlines() == ["search there", "nameserver 192.0.2.44"]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            directory.parent.rmdir()
        subprocess.run([*prefix, "umount", file], check=True)
        file.unlink()


def test_the_images_name_servers_can_stay(engine: Engine, rootfs: Path) -> None:
    (rootfs / "etc/resolv.conf").write_text("# mine\n")
    try:
        text = run(engine, rootfs, "--network", "host", "--dns", "none", script="cat /etc/resolv.conf")
        assert text == "# mine"
        configure(engine, 'dns_servers = ["none"]')
        assert run(engine, rootfs, "--network", "host", script="cat /etc/resolv.conf") == "# mine"
        text = run(engine, rootfs, "--network", "host", "--dns", "192.0.2.2", script="cat /etc/resolv.conf")
        assert "nameserver 192.0.2.2" in text.splitlines()
    finally:
        (rootfs / "etc/resolv.conf").unlink()


def test_a_mount_of_the_users_takes_the_place(engine: Engine, rootfs: Path) -> None:
    mine = engine.path / "mine"
    mine.write_text("192.0.2.4 mine\n")
    mine.chmod(0o644)
    engine.cli("create", "--name", "c", "-v", f"{mine}:/etc/hosts:ro", "--rootfs", f"{rootfs}:O", *SLEEP)
    assert engine.inspect("c")["HostnamePath"] == ""
    engine.cli("start", "c")
    assert engine.out("exec", "c", "cat", "/etc/hosts") == "192.0.2.4 mine"
    seen = engine.inspect("c")
    assert seen["HostsPath"] == seen["ResolvConfPath"] == ""
    assert Path(seen["HostnamePath"]).read_text() == f"{seen['Config']['Hostname']}\n"
    assert mine.read_text() == "192.0.2.4 mine\n"


def test_a_directory_of_the_users_has_them_where_it_can(engine: Engine, rootfs: Path) -> None:
    """One that cannot be written and has none of them is left as it is."""
    directory = engine.path / "their-etc"
    directory.mkdir()
    (directory / "hosts").write_text("192.0.2.4 theirs\n")
    if isinstance(engine, UserEngine):
        engine.user.owns(directory)
    script = "cat /etc/hosts /etc/hostname; true"
    mount = f"{directory}:/etc"
    options = ("--hostname", "box", "--hosts-file", "none", "--name", "c")
    text = run(engine, rootfs, *options, "-v", f"{mount}:ro", script=f"{script} 2>/dev/null")
    assert "box" in entries(text)
    assert "box" not in text.splitlines()
    assert [file.name for file in directory.iterdir()] == ["hosts"]
    text = run(engine, rootfs, *options, "-v", mount, script=script)
    assert text.splitlines()[-1] == "box"
    assert (directory / "hosts").read_text() == "192.0.2.4 theirs\n"


def test_who_joins_a_network_has_its_files(engine: Engine, rootfs: Path) -> None:
    given = ("--add-host", "far:192.0.2.7", "--dns", "192.0.2.1")
    engine.cli("run", "-d", "--name", "owner", *given, "--rootfs", f"{rootfs}:O", *SLEEP)
    words = ("--network", "container:owner", "--rootfs", f"{rootfs}:O")
    engine.cli("run", "-d", "--name", "guest", *words, *SLEEP)
    seen, theirs = engine.inspect("guest"), engine.inspect("owner")
    for key in ("HostsPath", "ResolvConfPath"):
        assert seen[key] == theirs[key]
    assert seen["HostnamePath"] != theirs["HostnamePath"]
    text = engine.out("exec", "guest", "cat", "/etc/hosts", "/etc/resolv.conf")
    assert entries(text)["far"] == ["192.0.2.7"]
    assert "nameserver 192.0.2.1" in text
    engine.cli("restart", "--time", "0", "guest")
    assert entries(engine.out("exec", "owner", "cat", "/etc/hosts"))["guest"] == ["127.0.0.1"]
    engine.cli("run", "-d", "--name", "bare", "--no-hosts", "--rootfs", f"{rootfs}:O", *SLEEP)
    script = "ls /etc/hosts /etc/resolv.conf 2>/dev/null; true"
    assert run(engine, rootfs, "--network", "container:bare", script=script) == ""
    engine.cli("rm", "--force", "--time", "0", "guest", "owner", "bare")


def test_the_files_are_roots_in_the_container_and_made_anew_for_each_run(
    engine: Engine, rootfs: Path
) -> None:
    options = ["--name", "c", "--dns", "192.0.2.1", "--add-host", "a:192.0.2.6"]
    if isinstance(engine, UserEngine):
        options += ["--userns", "keep-id", "--user", "root"]
    else:
        options += ["--uidmap", "0:200000:65536"]
    engine.cli("run", "-d", *options, "--rootfs", f"{rootfs}:O", *SLEEP)
    script = "cd /etc; stat -c '%u:%g %a' hosts resolv.conf hostname; echo 192.0.2.9 more >> hosts; cat hosts"
    *owners, _ = engine.out("exec", "c", "sh", "-c", script).splitlines()
    assert owners[:3] == ["0:0 644"] * 3
    assert owners[3] == "192.0.2.6\ta"
    seen = engine.inspect("c")
    for key, name in PLACES.items():
        assert Path(seen[key]).name == name
        assert Path(seen[key]).is_file()
    assert "192.0.2.9 more" in Path(seen["HostsPath"]).read_text()
    host = seen["HostConfig"]
    assert (host["ExtraHosts"], host["Dns"], host["DnsSearch"]) == (["a:192.0.2.6"], ["192.0.2.1"], [])
    engine.kill()
    engine.cli("restart", "--time", "0", "c")
    text = engine.out("exec", "c", "cat", "/etc/hosts")
    assert "more" not in text
    assert text.startswith("192.0.2.6\ta\n")


def test_with_a_read_only_root_filesystem_they_are_read_only(engine: Engine, rootfs: Path) -> None:
    script = "cat /etc/hostname; for f in hosts hostname; do echo x 2>/dev/null >> /etc/$f || echo no; done"
    options = ("--read-only", "--hostname", "box")
    assert run(engine, rootfs, *options, script=script).splitlines() == ["box", "no", "no"]


def test_other_root_directories_in_it_have_them_too(engine: Engine, rootfs: Path) -> None:
    options = ("--chrootdirs", "/srv/jail,/tmp/../home", "--hostname", "box", "--dns", "192.0.2.1")
    script = (
        "for d in /srv/jail /home; do cat $d/etc/hostname $d/etc/resolv.conf; grep -c box $d/etc/hosts; done"
    )
    text = run(engine, rootfs, *options, "--dns-search=.", script=script)
    assert [line for line in text.splitlines() if not line.startswith("options")] == [
        *("box", "nameserver 192.0.2.1", "1") * 2
    ]


@pytest.mark.parametrize(
    "options, told",
    [
        (("--add-host", "a"), "--add-host 'a'"),
        (("--add-host", ":192.0.2.1"), "NAME"),
        (("--add-host", "a;:192.0.2.1"), "NAME"),
        (("--add-host", "a:192.0.2.1000"), "'192.0.2.1000' is not an IP address"),
        (("--add-host", "a b:192.0.2.1"), "NAME"),
        (("--add-host", "a\nb:192.0.2.1"), "--add-host"),
        (("--add-host", "a:192.0.2.1", "--no-hosts"), "--add-host together with --no-hosts"),
        (("--hosts-file", "hosts"), "--hosts-file 'hosts'"),
        (("--hosts-file", "/nowhere"), "--hosts-file '/nowhere'"),
        (("--hosts-file", "/etc"), "--hosts-file '/etc'"),
        (("--hosts-file", "none", "--no-hosts"), "together with --no-hosts"),
        (("--dns", "example.org"), "--dns 'example.org'"),
        (("--dns", "none", "--dns", "192.0.2.1"), "--dns none together with another --dns"),
        (("--dns", "none", "--dns-search", "a"), "--dns none together with --dns-search"),
        (("--dns", "none", "--dns-opt", "a"), "--dns none together with --dns-option"),
        (("--dns-search", "a b"), "--dns-search 'a b'"),
        (("--dns-search", "."), ""),
        (("--dns-search", ".,a"), "--dns-search . together with a domain"),
        (("--dns-option", "a b"), "--dns-option 'a b'"),
        (("--chrootdirs", "srv"), "--chrootdirs 'srv'"),
        (("--chrootdirs", "/srv/.."), "--chrootdirs"),
    ],
)
@pytest.mark.oci_runtime(*BY_USER)
def test_what_cannot_be_is_refused_with_the_option_named(
    engine: Engine, rootfs: Path, options: tuple[str, ...], told: str
) -> None:
    if told:
        assert told in refused(engine, rootfs, *options)
    else:
        engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true")


@pytest.fixture
def bare(engine: Engine, rootfs: Path, tmp_path: Path) -> str:
    """An image with none of the files, which others may have left in the directory that all share."""
    if podman(engine, "image", "exists", "bare", check=False).returncode:
        own = shutil.copytree(rootfs, tmp_path / "bare", symlinks=True)
        for name in ("hostname", "hosts", "resolv.conf"):
            (own / "etc" / name).unlink(missing_ok=True)
        import_image(engine, own, "bare")
    return "bare"


@pytest.mark.oci_runtime(*BY_USER)
def test_they_leave_no_trace_in_what_is_made_of_the_container(engine: Engine, bare: str) -> None:
    script = "cat /etc/hosts /etc/resolv.conf /etc/hostname > /kept; : > /etc/empty"
    engine.cli("run", "--name", "c", "--dns", "192.0.2.1", bare, "sh", "-c", script)
    changed = json.loads(engine.out("diff", "--format", "json", "c"))
    assert changed == {"changed": ["/etc"], "added": ["/etc/empty", "/kept"]}
    for options in ((), ("--squash",)):
        engine.cli("commit", "-q", *options, "c", "made")
        kept = ("--no-hosts", "--no-hostname")
        text = engine.out("run", "--rm", *kept, "made", "sh", "-c", "ls /etc; wc -l < /kept")
        names = text.split()
        assert not {"hosts", "hostname", "resolv.conf"} & set(names)
        assert "empty" in names
        assert int(names[-1]) > 3
        engine.cli("rmi", "made")


@pytest.mark.oci_runtime(*BY_USER)
def test_a_container_that_changes_nothing_has_changed_nothing(engine: Engine, bare: str) -> None:
    engine.cli("run", "--name", "c", bare, "true")
    assert json.loads(engine.out("diff", "--format", "json", "c")) == {}


def test_a_link_that_leads_nowhere_is_followed_within_the_root(engine: Engine, rootfs: Path) -> None:
    """As in images that expect systemd-resolved."""
    (rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    try:
        text = run(engine, rootfs, "--dns", "192.0.2.1", script="cat /run/systemd/resolve/stub-resolv.conf")
    finally:
        (rootfs / "etc/resolv.conf").unlink()
    assert text.startswith("nameserver 192.0.2.1") or "nameserver 192.0.2.1" in text
    with contextlib.suppress(FileNotFoundError):
        assert "192.0.2.1" not in Path("/run/systemd/resolve/stub-resolv.conf").read_text()
