"""Capabilities, hidden paths, profiles: what of a request comes into the configuration, and what is refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.spec import Namespace
from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci import confinement, security
from supervisor.oci.build import ExecBuildRequest, build, build_exec
from supervisor.oci.capabilities import added_and_dropped, bounding
from supervisor.oci.host import CAPABILITIES, this_host
from supervisor.oci.request import UserNamespace
from tests.oci.support import built, request, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
USUAL = set(settings().containers.default_capabilities)


def caps(**spec: Any) -> dict[str, set[str]]:
    found = built(request(**spec))["process"]["capabilities"]
    return {name: set(found.get(name, ())) for name in SETS}


# Capabilities


@pytest.mark.parametrize(
    "names", [["net_admin"], ["NET_ADMIN"], ["Cap_Net_Admin"], ["CAP_NET_ADMIN", "chown"]]
)
def test_what_is_added_comes_to_the_usual_ones(names: list[str]) -> None:
    found = caps(cap_add=names)
    assert found["bounding"] == found["effective"] == found["permitted"] == USUAL | {"CAP_NET_ADMIN"}
    assert not found["ambient"] | found["inheritable"]


def test_what_is_dropped_goes_from_the_usual_ones() -> None:
    assert caps(cap_drop=["kill", "NET_RAW"])["bounding"] == USUAL - {"CAP_KILL"}
    assert caps(cap_drop=["all"])["bounding"] == set()
    assert caps(cap_drop=["ALL", "kill"], cap_add=["kill"])["bounding"] == {"CAP_KILL"}


def test_all_is_what_this_engine_has() -> None:
    every = set(this_host().capabilities)
    assert caps(cap_add=["all"])["bounding"] == every
    assert caps(cap_add=["ALL", "kill"], cap_drop=["kill"])["bounding"] == every - {"CAP_KILL"}


def test_another_user_than_root_has_in_effect_what_was_added() -> None:
    found = caps(user="1000", cap_add=["net_admin"], cap_drop=["kill"])
    assert found.pop("bounding") == USUAL - {"CAP_KILL"} | {"CAP_NET_ADMIN"}
    assert all(found[name] == {"CAP_NET_ADMIN"} for name in SETS[1:])
    assert caps(user="1000", privileged=True, cap_add=["kill"])["ambient"] == {"CAP_KILL"}
    assert caps(user="1000", cap_add=["all"])["ambient"] == set(this_host().capabilities)


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ({"cap_add": ["NET_ADMINN"]}, "cannot use --cap-add 'NET_ADMINN': there is no such capability"),
        ({"cap_drop": ["x y"]}, "cannot use --cap-drop 'x y': there is no such capability"),
        ({"cap_add": ["kill"], "cap_drop": ["CAP_KILL"]},
         "cannot use --cap-add CAP_KILL together with --cap-drop CAP_KILL"),
        ({"cap_add": ["all"], "cap_drop": ["ALL"]}, "cannot use --cap-add ALL together with --cap-drop ALL"),
        ({"cap_drop": ["kill"], "privileged": True}, "cannot use --cap-drop together with --privileged"),
        ({"labels": {"io.containers.capabilities": "KILL,TYPO"}}, "io.containers.capabilities 'TYPO'"),
    ],
)  # fmt: skip
def test_capabilities_that_cannot_be_are_refused_by_name(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        build(request(**spec))


def test_what_this_engine_does_not_have_itself_it_cannot_add(change_host: Callable[..., None]) -> None:
    change_host(capabilities=("CAP_CHOWN", "CAP_KILL"))
    assert caps()["bounding"] == {"CAP_CHOWN", "CAP_KILL"}
    assert caps(cap_add=["kill"], cap_drop=["all"])["bounding"] == {"CAP_KILL"}
    with pytest.raises(NotSupported, match="cannot use --cap-add CAP_SYS_TIME: this engine does not have"):
        build(request(cap_add=["sys_time"]))


def test_a_label_of_the_image_says_what_is_enough() -> None:
    def labelled(text: str, **spec: Any) -> set[str]:
        return caps(labels={"io.containers.capabilities": text}, **spec)["bounding"]

    assert labelled("kill,chown") == {"CAP_KILL", "CAP_CHOWN"}
    assert labelled("") == set()
    assert labelled("kill,sys_time") == USUAL  # it gives none that the container would not have
    assert labelled("kill,net_admin", cap_add=["net_admin"]) == {"CAP_KILL", "CAP_NET_ADMIN"}


def test_the_difference_to_the_usual_ones_is_told() -> None:
    asked = request(cap_add=["net_admin"], cap_drop=["kill"])
    assert added_and_dropped(asked, bounding(asked)) == (["CAP_NET_ADMIN"], ["CAP_KILL"])
    whole = request(privileged=True)
    missing = sorted(set(CAPABILITIES) - set(this_host().capabilities))
    assert added_and_dropped(whole, bounding(whole)) == ([], missing)


def _exec(user: str = "", same: str = "", privileged: bool = False, **spec: Any) -> dict[str, set[str]]:
    """`same`: the container's user, as whom it runs too."""
    asked = ExecBuildRequest(
        container=request(user=same, **spec), command=["true"], user=user, privileged=privileged
    )
    found = json.loads(build_exec(asked))["capabilities"]
    return {name: set(found.get(name, ())) for name in SETS}


def test_an_exec_has_what_its_user_has() -> None:
    every = set(this_host().capabilities)
    assert _exec(cap_drop=["kill"])["effective"] == USUAL - {"CAP_KILL"}
    assert _exec(privileged=True)["effective"] == every
    own = _exec(user="1000", cap_add=["net_admin"])
    assert own["bounding"] == USUAL | {"CAP_NET_ADMIN"}
    assert own["effective"] == set()
    same = _exec(same="1000", cap_add=["net_admin"])
    assert same["effective"] == same["ambient"] == {"CAP_NET_ADMIN"}


# Hidden paths, /proc


def paths(**spec: Any) -> tuple[list[str], list[str]]:
    linux = built(request(**spec))["linux"]
    return linux.get("maskedPaths", []), linux.get("readonlyPaths", [])


def test_paths_are_hidden_and_shown() -> None:
    assert paths(mask=["/etc/motd"]) == ([*security.MASKED_PATHS, "/etc/motd"], security.READONLY_PATHS)
    assert paths(unmask=["all"]) == ([], [])
    masked, read_only = paths(unmask=["/proc/ke*", "/proc/s?s/", "/proc/[^a-z]*"])
    assert set(security.MASKED_PATHS) - set(masked) == {"/proc/keys"}
    assert set(security.READONLY_PATHS) - set(read_only) == {"/proc/sys"}
    assert paths(unmask=["/proc*"]) == (security.MASKED_PATHS, security.READONLY_PATHS)
    assert paths(privileged=True, mask=["/a"]) == (["/a"], [])


def test_the_options_of_proc_take_the_place_of_the_usual_ones() -> None:
    found = built(request(procfs_opts=["hidepid=2", "nosuid"]))["mounts"]
    assert {mount["destination"]: mount for mount in found}["/proc"]["options"] == ["hidepid=2", "nosuid"]


def test_the_hosts_proc_has_no_options_of_the_containers() -> None:
    asked = request(pidns=Namespace("host"), procfs_opts=["hidepid=2"])
    inside = msgspec.structs.replace(asked, userns=UserNamespace(this_host().id_maps))
    with pytest.raises(NotSupported, match="--security-opt proc-opts together with --pid host"):
        build(inside)


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ({"mask": ["a"]}, "--security-opt mask=a: the path is not absolute"),
        ({"mask": ["ALL"]}, "--security-opt mask=ALL: the path is not absolute"),
        ({"unmask": [""]}, "--security-opt unmask=: the path is not absolute"),
        ({"procfs_opts": ["hidepid=3"]}, "--security-opt proc-opts=hidepid=3: /proc has no such option"),
        ({"procfs_opts": ["gid=root"]}, "--security-opt proc-opts=gid=root"),
        ({"procfs_opts": [""]}, "--security-opt proc-opts="),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        build(request(**spec))


# Profiles


RULE = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}


def profile(**changes: Any) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [RULE], **changes})


def seccomp(text: str, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = built(request(seccomp_profile_path="p.json", seccomp_profile=text, **spec))[
        "linux"
    ]["seccomp"]
    return found


needs_seccomp = pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")


@needs_seccomp
def test_a_profile_is_translated_for_the_containers_capabilities() -> None:
    able = {**RULE, "includes": {"caps": ["CAP_NET_ADMIN"]}}
    assert seccomp(profile(syscalls=[able]))["syscalls"] == []
    assert len(seccomp(profile(syscalls=[able]), cap_add=["net_admin"])["syscalls"]) == 1
    assert len(seccomp(profile(syscalls=[able]), privileged=True)["syscalls"]) == 1
    assert len(seccomp(profile(syscalls=[{"name": "mkdir", "action": "SCMP_ACT_KILL"}]))["syscalls"]) == 1


@needs_seccomp
def test_errors_have_names_and_numbers() -> None:
    rules = [{**RULE, "errno": "ENOENT", "errnoRet": 1}, {**RULE, "errnoRet": 13}, {**RULE, "errno": "5"}]
    found = seccomp(profile(defaultErrno="ENOSYS", defaultErrnoRet=1, syscalls=rules))
    assert found["defaultErrnoRet"] == 38
    assert [rule["errnoRet"] for rule in found["syscalls"]] == [2, 13, 5]


@needs_seccomp
@pytest.mark.parametrize(
    "text, reason",
    [
        ("{", "truncated"),
        ("[]", "array"),
        (profile(defaultAction="SCMP_ACT_ALOW"), "there is no action 'SCMP_ACT_ALOW'"),
        (profile(syscalls=[{**RULE, "action": "ALLOW"}]), "there is no action 'ALLOW'"),
        (profile(defaultErno=1), "the field 'defaultErno' is not known"),
        (profile(syscalls=[{**RULE, "argz": []}]), r"the field 'argz' is not known in syscalls\[0\]"),
        (profile(syscalls=[{**RULE, "includes": {"cap": ["CAP_KILL"]}}]), r"'cap' is not known in syscalls\[0\].includes"),
        (profile(syscalls=[RULE, {"action": "SCMP_ACT_ALLOW"}]), r"either 'names' or 'name' \(syscalls\[1\]\)"),
        (profile(syscalls=[{**RULE, "name": "a"}]), "either 'names' or 'name'"),
        (profile(syscalls=[{**RULE, "errno": "EWHAT"}]), "there is no error 'EWHAT'"),
        (profile(syscalls=[{**RULE, "errnoRet": -1}]), "there is no error -1"),
        (profile(syscalls=[{**RULE, "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]), "no argument 6"),
        (profile(syscalls=[{**RULE, "args": [{"index": 0, "value": 0, "op": "EQ"}]}]), "there is no comparison 'EQ'"),
        (profile(syscalls=[{**RULE, "includes": {"minKernel": "new"}}]), "'new' is no version"),
        (profile(syscalls=[{**RULE, "action": "SCMP_ACT_NOTIFY"}]), "needs a 'listenerPath'"),
        (profile(architectures=["x86_64"]), "there is no architecture 'x86_64'"),
        (profile(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86"}]), "both"),
        (profile(flags=["TSYNC"]), "there is no flag 'TSYNC'"),
        (" " * (600 << 10), "it is larger than 512 KiB"),
        ('{"syscalls": ' + "[" * 100_000, "array"),
    ],
)  # fmt: skip
def test_a_profile_with_a_typing_error_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot use --security-opt seccomp=p.json: .*{reason}"):
        seccomp(text)


def test_a_profile_without_its_text_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"--security-opt seccomp=p.json: its text is missing"):
        build(request(seccomp_profile_path="p.json"))


def test_a_profile_needs_a_kernel_that_has_seccomp(change_host: Callable[..., None]) -> None:
    change_host(seccomp=False)
    with pytest.raises(NotSupported, match="this kernel has no seccomp"):
        seccomp(profile())


def test_apparmor_is_refused_where_there_is_none(change_host: Callable[..., None]) -> None:
    change_host(apparmor=False)
    assert "apparmorProfile" not in built(request(apparmor_profile="unconfined"))["process"]
    with pytest.raises(NotSupported, match="--security-opt apparmor=mine: this host has no AppArmor"):
        build(request(apparmor_profile="mine"))


def test_apparmor_profiles_are_those_that_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change_host: Callable[..., None]
) -> None:
    change_host(apparmor=True)
    (tmp_path / "profiles").write_text("mine (enforce)\nother (complain)\n")
    monkeypatch.setattr(confinement, "LOADED", str(tmp_path / "profiles"))
    configured = settings(apparmor_profile="other")

    def profile_of(**spec: Any) -> str | None:
        found: str | None = built(request(chosen=configured, **spec))["process"].get("apparmorProfile")
        return found

    assert profile_of() == "other"
    assert profile_of(apparmor_profile="mine") == "mine"
    assert profile_of(apparmor_profile="unconfined") == "unconfined"
    assert profile_of(privileged=True) is None
    assert profile_of(privileged=True, apparmor_profile="mine") == "mine"
    with pytest.raises(InvalidArgument, match="apparmor=nine: the kernel does not have the profile"):
        profile_of(apparmor_profile="nine")


def test_labels_are_refused_where_they_would_matter(change_host: Callable[..., None]) -> None:
    change_host(selinux=True)
    build(request(selinux_opts=["disable"]))
    with pytest.raises(NotSupported, match="--security-opt label=type:t: containers get no labels"):
        build(request(selinux_opts=["type:t"]))
    with pytest.raises(NotSupported, match="--security-opt label=nested: containers get no labels"):
        build(request(label_nested=True))


def test_what_was_asked_for_is_noted() -> None:
    noted = built(
        request(selinux_opts=["type:t", "level:l"], label_nested=True, seccomp_profile_path="unconfined")
    )["annotations"]
    assert noted["io.podman.annotations.label"] == "type:t,label=level:l,label=nested"
    assert noted["io.podman.annotations.seccomp"] == "unconfined"
    assert "io.podman.annotations.apparmor" not in noted


def test_labels_are_checked_wherever_they_are_kept() -> None:
    build(request(selinux_opts=["user:u", "role:r", "type:t", "level:s0:c1,c2", "filetype:f", "disable"]))
    for option in ("", "tpye:t", "type:", "type", "type:a b", "type:a:b"):
        with pytest.raises(InvalidArgument, match=f"--security-opt label={option}"):
            build(request(selinux_opts=[option]))
