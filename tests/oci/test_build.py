"""What stands in config.json, topic by topic, without running anything."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.spec import Namespace, Rlimit
from pyman.errors import CommandNotExecutable, InvalidArgument, InvalidConfig, NotSupported, StorageFailed
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.oci import devices, mounts, seccomp, security
from supervisor.oci.build import ExecBuildRequest, build, build_exec, environment_of, write_files
from supervisor.oci.host import this_host
from supervisor.oci.request import UserNamespace
from tests.oci.support import built, host_settings, request, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = Namespace("host")


def _spec(field: str, wish: Namespace) -> Any:
    return {field: wish}


def _kinds(config: dict[str, Any]) -> set[str]:
    return {entry["type"] for entry in config["linux"]["namespaces"]}


def _mounts(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in config["mounts"]}


def _env(config: dict[str, Any]) -> dict[str, str]:
    env: list[str] = config["process"]["env"]
    return dict(item.split("=", 1) for item in env)


# Namespaces


def test_a_container_has_its_own_namespaces(change_host: Callable[..., None]) -> None:
    change_host(unified=False)
    assert _kinds(built(request())) == {"pid", "network", "ipc", "uts", "mount"}


def test_on_the_unified_hierarchy_it_has_a_cgroup_namespace_too(change_host: Callable[..., None]) -> None:
    change_host(unified=True)
    assert "cgroup" in _kinds(built(request()))
    assert "cgroup" not in _kinds(built(request(cgroupns=HOST)))


@pytest.mark.parametrize(
    "field, kind", [("pidns", "pid"), ("netns", "network"), ("ipcns", "ipc"), ("utsns", "uts")]
)
def test_the_hosts_namespace_is_shared_on_request(field: str, kind: str) -> None:
    assert kind not in _kinds(built(request(**_spec(field, HOST))))
    assert "mount" in _kinds(built(request(**_spec(field, HOST))))


@pytest.mark.parametrize(
    "key, kind", [("pidns", "pid"), ("netns", "network"), ("ipcns", "ipc"), ("utsns", "uts")]
)
def test_the_configured_default_counts_where_the_container_says_nothing(key: str, kind: str) -> None:
    shared = settings(**{key: "host"})
    assert kind not in _kinds(built(request(chosen=shared)))
    own = Namespace("none" if key == "netns" else "private")
    assert kind in _kinds(built(request(chosen=shared, **_spec(key, own))))


@pytest.mark.parametrize(
    "field, kind",
    [("pidns", "pid"), ("netns", "network"), ("ipcns", "ipc"), ("utsns", "uts"), ("cgroupns", "cgroup")],
)
@pytest.mark.parametrize("wish", [Namespace("container", "f" * 64), Namespace("ns", "/run/x")])
def test_a_namespace_that_is_joined_stands_at_the_path_of_this_run(
    field: str, kind: str, wish: Namespace
) -> None:
    asked = request(**_spec(field, wish))
    joined = msgspec.structs.replace(asked, joined={kind: "/proc/7/fd/8"})
    entries = {entry["type"]: entry.get("path", "") for entry in built(joined)["linux"]["namespaces"]}
    assert entries[kind] == "/proc/7/fd/8"
    assert [path for path in entries.values() if path] == ["/proc/7/fd/8"]
    build(asked)  # where it is, is not known when a container is created


@pytest.mark.parametrize(
    "field, wish, option",
    [
        ("ipcns", Namespace("pod"), "--ipc pod"),
    ],
)
def test_what_cannot_be_shared_yet_is_refused_by_the_name_of_its_option(
    field: str, wish: Namespace, option: str
) -> None:
    with pytest.raises(NotSupported) as caught:
        build(request(**_spec(field, wish)))
    assert caught.value.subject == option


@pytest.mark.parametrize(
    "wish, complaint",
    [
        (Namespace("container"), "cannot use '--pid container': the name of a container is missing"),
        (Namespace("ns"), "cannot use '--pid ns': the path of a namespace is missing"),
        (Namespace("ns", "run/x"), "cannot use '--pid ns:run/x': the path is not absolute"),
    ],
)
def test_a_namespace_that_names_nothing_is_refused(wish: Namespace, complaint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        build(request(pidns=wish))
    assert caught.value.message == complaint


def test_what_shows_a_joined_namespace_follows_it() -> None:
    guest = request(ipcns=Namespace("container", "f" * 64), netns=Namespace("container", "f" * 64))
    found = _mounts(built(guest))
    assert found["/dev/shm"]["source"] == "/run/pyman-test/mounts/shm"
    assert found["/dev/mqueue"]["type"] == "mqueue"
    assert found["/sys"]["type"] == "sysfs"
    assert _mounts(built(request(ipcns=Namespace("ns", "/run/x"))))["/dev/shm"]["type"] == "tmpfs"
    # What belongs to another user namespace it cannot mount.
    maps = IdMaps((IdRange(0, 100_000, 1000),), (IdRange(0, 100_000, 1000),))
    apart = msgspec.structs.replace(guest, userns=UserNamespace(maps), foreign=frozenset({"ipc", "network"}))
    found = _mounts(built(apart))
    assert "/dev/mqueue" not in found
    assert found["/sys"]["type"] == "bind"


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="cannot use '--pid privat': known are host, private"):
        build(request(pidns=Namespace("privat")))


def test_the_hostname_is_set_only_in_an_own_uts_namespace() -> None:
    assert built(request())["hostname"] == "boxhost"
    for wish in (Namespace("container", "f" * 64), Namespace("ns", "/run/x")):
        config = built(request(utsns=wish))
        assert "hostname" not in config
        assert _env(config)["HOSTNAME"] == "boxhost"
    assert "hostname" not in built(request(utsns=HOST))


def test_sysctls_of_a_shared_namespace_are_left_alone() -> None:
    chosen = settings(
        default_sysctls={"net.a": "1", "kernel.shmmax": "2", "kernel.domainname": "x", "fs.mqueue.b": "3"}
    )
    assert set(built(request(chosen=chosen))["linux"]["sysctl"]) == set(chosen.containers.default_sysctls)
    shared = built(request(chosen=chosen, netns=HOST, utsns=HOST))["linux"]["sysctl"]
    assert set(shared) == {"kernel.shmmax", "fs.mqueue.b"}
    assert "sysctl" not in built(request(chosen=chosen, netns=HOST, utsns=HOST, ipcns=HOST))["linux"]


def test_what_was_asked_for_is_stronger_than_what_is_configured() -> None:
    chosen = settings(default_sysctls={"net.ipv4.ip_forward": "1", "kernel.shmmax": "2"})
    asked = request(chosen=chosen, sysctl={"net.ipv4.ip_forward": "0"})
    assert built(asked)["linux"]["sysctl"] == {"net.ipv4.ip_forward": "0", "kernel.shmmax": "2"}
    # In a namespace that is joined, what was asked for alone.
    asked = request(
        chosen=chosen,
        sysctl={"net.ipv4.ip_forward": "0"},
        netns=Namespace("container", "f" * 64),
        ipcns=Namespace("ns", "/run/x"),
    )
    assert built(asked)["linux"]["sysctl"] == {"net.ipv4.ip_forward": "0"}


@pytest.mark.parametrize(
    "asked",
    [
        {f"net.x{number}": "1" for number in range(257)},
        {"net.ipv4.ip_forward": "1" * 4097},
        {"net.ipv4.ip_forward": "1\n2"},
        {"net": "1"},
        {"net.": "1"},
        {"": "1"},
    ],
)
def test_sysctls_are_bounded(asked: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="--sysctl"):
        build(request(sysctl=asked))


# Mounts


def test_a_parent_is_mounted_before_what_lies_below_it() -> None:
    seen: list[str] = []
    for mount in built(request(read_only_filesystem=True, init=True))["mounts"]:
        destination: str = mount["destination"]
        assert not any(earlier.startswith(f"{destination}/") for earlier in seen)
        seen.append(destination)
    assert {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"} <= set(seen)


def test_shm_has_the_configured_size_and_lets_nothing_be_executed() -> None:
    options = _mounts(built(request(chosen=settings(shm_size=1 << 20))))["/dev/shm"]["options"]
    assert {"size=1048576", "noexec", "nosuid", "nodev", "mode=1777"} <= set(options)


def test_shm_follows_the_ipc_namespace() -> None:
    shared = _mounts(built(request(ipcns=HOST)))["/dev/shm"]
    assert (shared["type"], shared["source"]) == ("bind", "/dev/shm")
    assert "/dev/shm" not in _mounts(built(request(ipcns=Namespace("none"))))


def test_a_read_only_root_keeps_writable_places_unless_they_are_refused() -> None:
    config = built(request(read_only_filesystem=True))
    assert config["root"]["readonly"] is True
    assert {"/run", "/tmp", "/var/tmp"} <= set(_mounts(config))
    bare = built(request(read_only_filesystem=True, read_write_tmpfs=False))
    assert not {"/run", "/tmp", "/var/tmp"} & set(_mounts(bare))
    assert "readonly" not in built(request())["root"]
    assert built(request(chosen=settings(read_only=True)))["root"]["readonly"] is True


def test_containerenv_is_mounted_from_the_run_directory(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(request(privileged=True), run_directory=str(tmp_path))
    source = _mounts(built(asked))["/run/.containerenv"]["source"]
    assert not os.path.exists(source)
    write_files(asked)
    write_files(asked)
    with open(source, encoding="utf-8") as file:
        assert file.read().splitlines()[:3] == ['engine="pyman"', 'name="box"', f'id="{"c" * 64}"']


def test_containerenv_cannot_be_redirected_by_a_link(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(request(), run_directory=str(tmp_path))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/containerenv").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed):
        write_files(asked)
    assert not (tmp_path / "elsewhere").exists()


# Init


def test_init_wraps_the_command(tmp_path: Path) -> None:
    program = tmp_path / "init"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    config = built(request(init=True, init_path=str(program), command=["a", "b"]))
    assert config["process"]["args"] == [mounts.INIT_DESTINATION, "--", "a", "b"]
    mount = _mounts(config)[mounts.INIT_DESTINATION]
    assert mount["source"] == str(program)
    assert "ro" in mount["options"]
    assert (
        built(request(chosen=settings(init=True, init_path=str(program))))["process"]["args"][0]
        == "/run/podman-init"
    )


def test_init_that_is_missing_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageFailed, match="cannot use the init '/none'"):
        build(request(init=True, init_path="/none"))
    monkeypatch.setattr("supervisor.oci.mounts._executable", lambda _path: False)
    with pytest.raises(NotSupported, match="this host has no catatonit: install it"):
        build(request(init=True))


def test_init_needs_its_own_pid_namespace() -> None:
    with pytest.raises(InvalidArgument, match="--init with --pid container:f"):
        build(request(init=True, init_path="/bin/true", pidns=Namespace("container", "f" * 64)))
    with pytest.raises(InvalidArgument, match="--init with --pid host"):
        build(request(init=True, init_path="/bin/true", pidns=HOST))


# Process


def test_entrypoint_and_command_are_one_command() -> None:
    assert built(request(entrypoint=["a"], command=["b"]))["process"]["args"] == ["a", "b"]


def test_a_container_without_command_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no command is given"):
        build(request(command=[]))


def test_zero_bytes_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="zero byte"):
        build(request(command=["a\0b"]))
    for variables in ({"A": "\0"}, {"": "x"}, {"A=B": "x"}):
        with pytest.raises(InvalidArgument, match="environment variable"):
            build(request(env=variables))


def test_the_environment_has_defaults_that_can_be_taken_away() -> None:
    default = _env(built(request()))
    assert default["container"] == "podman"
    assert default["HOSTNAME"] == "boxhost"
    assert "/usr/bin" in default["PATH"]
    assert "TERM" not in _env(built(request(unsetenv=["TERM"])))
    assert set(_env(built(request(unsetenv_all=True)))) == {"HOSTNAME", "HOME"}


def test_what_is_asked_for_by_name_wins_over_everything() -> None:
    asked = request(
        chosen=settings(env={"A": "config", "B": "config", "C": "config"}),
        env={"C": "asked", "HOSTNAME": "mine", "HOME": "/x"},
        env_host=True,
        unsetenv=["C"],
    )
    asked = msgspec.structs.replace(asked, host_environment={"B": "host", "C": "host"})
    env = _env(built(asked))
    assert [env[name] for name in ("A", "B", "C", "HOSTNAME", "HOME")] == [
        "config",
        "host",
        "asked",
        "mine",
        "/x",
    ]
    assert environment_of(asked, "/x") == built(asked)["process"]["env"]


def test_the_callers_environment_stays_out_unless_asked_for() -> None:
    asked = msgspec.structs.replace(request(), host_environment={"SECRET": "x"})
    assert "SECRET" not in _env(built(asked))


def test_a_terminal_has_a_size_and_a_type() -> None:
    asked = msgspec.structs.replace(request(terminal=True, chosen=settings(env={})), rows=24, columns=80)
    process = built(asked)["process"]
    assert process["terminal"] is True
    assert process["consoleSize"] == {"height": 24, "width": 80}
    assert "TERM=xterm" in process["env"]
    assert "terminal" not in built(request())["process"]


@pytest.mark.parametrize("text, umask", [("", 0o022), ("0077", 0o077), ("7", 7)])
def test_the_umask_is_octal(text: str, umask: int) -> None:
    assert built(request(umask=text))["process"]["user"]["umask"] == umask


@pytest.mark.parametrize("text", ["8", "0o22", "-1", "1777777", "x"])
def test_a_umask_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="umask"):
        build(request(umask=text))


def test_the_working_directory_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "inside").mkdir()
    (tmp_path / "link").symlink_to("/inside")
    (tmp_path / "out").symlink_to("/etc")
    for path in ("", "/inside", "/link", "/inside/../inside/", "/proc/self", "/tmp"):
        if path == "/tmp":
            (tmp_path / "tmp").mkdir()
        build(request(str(tmp_path), work_dir=path))
    for path, reason in {
        "/none": "does not exist",
        "/file": "not a directory",
        "/out": "does not exist",
    }.items():
        with pytest.raises(
            CommandNotExecutable,
            match=f"cannot use the working directory '{path}': it {'is ' if 'not a' in reason else ''}{reason}",
        ):
            build(request(str(tmp_path), work_dir=path))
    with pytest.raises(InvalidArgument, match="not an absolute path"):
        build(request(work_dir="relative"))


# Limits


def test_default_limits_are_lowered_to_what_is_possible(change_host: Callable[..., None]) -> None:
    change_host(hard_limits={"RLIMIT_NOFILE": 500, "RLIMIT_NPROC": -1})
    chosen = settings(default_ulimits=(Rlimit("RLIMIT_NOFILE", hard=1000, soft=400),))
    found = {limit["type"]: limit for limit in built(request(chosen=chosen))["process"]["rlimits"]}
    assert found["RLIMIT_NOFILE"] == {"type": "RLIMIT_NOFILE", "hard": 500, "soft": 400}
    assert found["RLIMIT_NPROC"]["hard"] == 1 << 20


def test_a_limit_that_was_asked_for_and_is_too_high_is_refused_by_name(
    change_host: Callable[..., None],
) -> None:
    change_host(hard_limits={"RLIMIT_NOFILE": 500, "RLIMIT_NPROC": 10})
    build(request(r_limits=[Rlimit("RLIMIT_NOFILE", hard=500, soft=1)]))
    for hard in (501, -1):
        with pytest.raises(
            InvalidArgument, match=f"--ulimit nofile=1:{hard}: this host permits no more than 500"
        ):
            build(request(r_limits=[Rlimit("RLIMIT_NOFILE", hard=hard, soft=1)]))


@pytest.mark.parametrize(
    "limit",
    [
        Rlimit("RLIMIT_WHAT", hard=1, soft=1),
        Rlimit("nofile", hard=1, soft=1),
        Rlimit("RLIMIT_CORE", hard=1, soft=2),
        Rlimit("RLIMIT_CORE", hard=-2, soft=-2),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limit: Rlimit) -> None:
    with pytest.raises(InvalidArgument):
        build(request(r_limits=[limit]))


def test_unlimited_is_the_largest_number_on_the_wire(change_host: Callable[..., None]) -> None:
    change_host(hard_limits=dict.fromkeys(this_host().hard_limits, -1))
    found = built(request(r_limits=[Rlimit("RLIMIT_CORE", hard=-1, soft=-1)]))["process"]["rlimits"]
    assert {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1} in found


# Security


def test_an_ordinary_container_has_the_configured_capabilities() -> None:
    found = built(request())["process"]["capabilities"]
    assert found["bounding"] == found["effective"] == found["permitted"]
    assert "CAP_CHOWN" in found["bounding"]
    assert "CAP_SYS_ADMIN" not in found["bounding"]
    assert not {"inheritable", "ambient"} & set(found)


def test_another_user_than_root_has_no_capability_in_effect() -> None:
    assert set(built(request(user="1000"))["process"]["capabilities"]) == {"bounding"}


def test_capabilities_that_this_process_lacks_are_left_out(change_host: Callable[..., None]) -> None:
    change_host(capabilities=("CAP_CHOWN",))
    assert built(request())["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert built(request(privileged=True))["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]


def test_a_privileged_container_has_everything() -> None:
    for asked in (request(privileged=True), request(chosen=settings(privileged=True))):
        config = built(asked)
        assert "CAP_SYS_ADMIN" in config["process"]["capabilities"]["bounding"]
        assert not {"maskedPaths", "readonlyPaths", "seccomp"} & set(config["linux"])
        assert config["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
        assert "/dev/null" in {device["path"] for device in config["linux"]["devices"]}
        assert "rw" in _mounts(config)["/sys"]["options"]
        assert config["annotations"]["io.podman.annotations.privileged"] == "TRUE"


def test_an_ordinary_container_sees_less_of_proc_and_sys() -> None:
    config = built(request())
    assert config["linux"]["maskedPaths"] == security.MASKED_PATHS
    assert config["linux"]["readonlyPaths"] == security.READONLY_PATHS
    assert config["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert "devices" not in config["linux"]
    assert "ro" in _mounts(config)["/sys/fs/cgroup"]["options"]


def test_devices_are_listed_with_type_and_number() -> None:
    found = {device.path: device for device in devices.host_devices()}
    null = found["/dev/null"]
    assert (null.type, null.major, null.minor, null.file_mode) == ("c", 1, 3, 0o666)
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in found)
    assert devices.host_devices("/none") == []


# Seccomp


def _profile(directory: Path, *rules: dict[str, Any], **more: Any) -> str:
    path = directory / "profile.json"
    whole = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **more}
    path.write_text(json.dumps(whole))
    return str(path)


def _allow(name: str, **conditions: Any) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [], **conditions}


@pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")
def test_rules_are_chosen_by_architecture_capability_and_kernel(tmp_path: Path) -> None:
    machine = os.uname().machine
    native = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    path = _profile(
        tmp_path,
        _allow("always"),
        _allow("here", includes={"arches": [native, "other"]}),
        _allow("elsewhere", includes={"arches": ["other"]}),
        _allow("not-here", excludes={"arches": [native]}),
        _allow("able", includes={"caps": ["CAP_CHOWN"]}),
        _allow("unable", includes={"caps": ["CAP_SYS_ADMIN"]}),
        _allow("instead", excludes={"caps": ["CAP_SYS_ADMIN"]}),
        _allow("new", includes={"minKernel": "4.8"}),
        _allow("future", includes={"minKernel": "999.1"}),
        _allow("old", excludes={"minKernel": "4.8"}),
    )
    found = built(request(chosen=settings(seccomp_profile=path)))["linux"]["seccomp"]
    names = [rule["names"][0] for rule in found["syscalls"]]
    assert names == ["always", "here", "able", "instead", "new"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="an ABI of x86-64")
@pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")
@pytest.mark.parametrize("x32", [True, False])
def test_the_x32_abi_is_left_out_where_the_kernel_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x32: bool
) -> None:
    others = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    entry = {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": others}
    path = _profile(tmp_path, _allow("read"), archMap=[entry])
    monkeypatch.setattr(seccomp, "this_host", lambda: msgspec.structs.replace(this_host(), x32=x32))
    found = built(request(chosen=settings(seccomp_profile=path)))["linux"]["seccomp"]
    assert found["architectures"] == ["SCMP_ARCH_X86_64", *(others if x32 else others[:1])]


def test_a_changed_profile_is_read_again(tmp_path: Path) -> None:
    path = _profile(tmp_path, _allow("one"))
    chosen = settings(seccomp_profile=path)
    assert "one" in build(request(chosen=chosen)).decode()
    _profile(tmp_path, _allow("another"))
    assert "another" in build(request(chosen=chosen)).decode()


@pytest.mark.parametrize("text", [None, "", "[]", '{"syscalls": []}', '{"defaultAction": 3}'])
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidConfig, match=f"cannot use the seccomp profile '{path}'"):
        build(request(chosen=settings(seccomp_profile=str(path))))


def test_no_profile_is_applied_where_none_is_wanted() -> None:
    for profile in ("", "unconfined"):
        assert "seccomp" not in built(request(chosen=settings(seccomp_profile=profile)))["linux"]


# Annotations


def test_the_users_annotations_win_over_the_configured_ones() -> None:
    found = built(
        request(chosen=settings(annotations={"a": "1", "b": "1"}), annotations={"b": "2"}, remove=True)
    )["annotations"]
    assert (found["a"], found["b"]) == ("1", "2")
    assert found["io.container.manager"] == "pyman"
    assert found["org.opencontainers.image.stopSignal"] == "15"
    assert found["io.podman.annotations.autoremove"] == "TRUE"


# Exec


def test_an_exec_takes_over_what_the_container_has() -> None:
    container = request(env={"A": "1"}, work_dir="/", umask="0077", user="0", groups=["7"])
    process = json.loads(build_exec(ExecBuildRequest(container, ["id", "-u"], env={"B": "2"})))
    assert process["args"] == ["id", "-u"]
    assert {"A=1", "B=2", "HOSTNAME=boxhost"} <= set(process["env"])
    assert process["user"] == {"uid": 0, "gid": 0, "umask": 0o077, "additionalGids": [0, 7]}
    assert process["rlimits"] == built(container)["process"]["rlimits"]
    assert process["capabilities"] == built(container)["process"]["capabilities"]


def test_an_exec_may_have_a_user_a_directory_a_terminal_and_privileges_of_its_own() -> None:
    container = request(user="1000", env={"TERM": "vt100"})
    asked = ExecBuildRequest(
        container, ["a"], user="0", work_dir="/tmp", terminal=True, privileged=True, rows=5, columns=6
    )
    process = json.loads(build_exec(asked))
    assert process["user"]["uid"] == 0
    assert (process["cwd"], process["terminal"]) == ("/tmp", True)
    assert process["consoleSize"] == {"height": 5, "width": 6}
    assert "TERM=vt100" in process["env"]
    assert "CAP_SYS_ADMIN" in process["capabilities"]["effective"]


def test_an_exec_without_command_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="none is given"):
        build_exec(ExecBuildRequest(request(), []))


# The whole


def test_a_configuration_is_built_in_less_than_a_millisecond() -> None:
    asked = request(chosen=host_settings())
    build(asked)
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        build(asked)
        times.append(time.perf_counter() - begun)
    assert sorted(times)[5] < 0.001  # others may have the processors most of the time
