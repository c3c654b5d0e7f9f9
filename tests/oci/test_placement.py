"""Where a container's cgroup is: a table of managers, users and hierarchies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyman.api.spec import ContainerSpec, Namespace
from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.placement import check, own_cgroup, place_of
from supervisor.settings.model import ContainersSettings, EngineSettings, Settings
from supervisor.settings.xdg import Xdg
from tests.oci.support import built, request

if TYPE_CHECKING:
    from collections.abc import Callable

UNIFIED = "0::/user.slice/user-7.slice/session-1.scope\n"
HYBRID = "5:memory:/elsewhere\n1:name=systemd:/system.slice/x.service\n0::/system.slice\n"


def settings(uid: int = 0, manager: str = "cgroupfs", cgroups: str = "enabled") -> Settings:
    return Settings(
        uid=uid,
        xdg=Xdg.of({"HOME": "/nowhere", "XDG_RUNTIME_DIR": "/nowhere"}, 0),
        engine=EngineSettings(cgroup_manager=manager),
        containers=ContainersSettings(cgroups=cgroups),
    )


@pytest.mark.parametrize(
    "unified, uid, manager, spec, path, monitor",
    [
        (False, 0, "cgroupfs", {}, "/pyman/ctr-ID", "/pyman/conmon-ID"),
        (True, 0, "cgroupfs", {}, "/pyman/ctr-ID", "/pyman/conmon-ID"),
        (False, 0, "cgroupfs", {"cgroup_parent": "/a/b/"}, "/a/b/ctr-ID", "/a/b/conmon-ID"),
        (False, 0, "cgroupfs", {"cgroup_parent": "a"}, "/a/ctr-ID", "/a/conmon-ID"),
        (False, 0, "cgroupfs", {"cgroup_parent": "//a//b"}, "/a/b/ctr-ID", "/a/b/conmon-ID"),
        (False, 0, "cgroupfs", {"cgroup_parent": "/"}, "/ctr-ID", "/conmon-ID"),
        (False, 0, "cgroupfs", {"cgroups_mode": "no-conmon"}, "/pyman/ctr-ID", ""),
        (False, 0, "cgroupfs", {"cgroups_mode": "disabled"}, "", ""),
        (False, 0, "systemd", {}, "machine.slice:pyman:ID", "/pyman/conmon-ID"),
        (True, 0, "systemd", {"cgroup_parent": "my.slice"}, "my.slice:pyman:ID", "/pyman/conmon-ID"),
        (True, 7, "systemd", {}, "user.slice:pyman:ID", "/pyman/conmon-ID"),
        (True, 7, "systemd", {"cgroup_parent": "my.slice"}, "my.slice:pyman:ID", "/pyman/conmon-ID"),
        (True, 7, "cgroupfs", {}, "", "/pyman/conmon-ID"),
        (True, 7, "cgroupfs", {"cgroup_parent": "/mine"}, "/mine/ctr-ID", "/mine/conmon-ID"),
        (False, 7, "cgroupfs", {}, "", "/pyman/conmon-ID"),
        (False, 7, "systemd", {}, "", "/pyman/conmon-ID"),
        (False, 7, "cgroupfs", {"cgroup_parent": "/mine"}, "/mine/ctr-ID", "/mine/conmon-ID"),
    ],
)
def test_the_cgroup_follows_from_the_manager_the_user_and_the_hierarchy(
    unified: bool,
    uid: int,
    manager: str,
    spec: dict[str, Any],
    path: str,
    monitor: str,
    change_host: Callable[..., None],
) -> None:
    change_host(unified=unified)
    found = place_of(settings(uid, manager), ContainerSpec(**spec), "", "ID")
    assert (found.path, found.monitor) == (path, monitor)
    assert found.systemd == (":" in path)
    assert bool(found.reason) != bool(path)


@pytest.mark.parametrize("manager", ["cgroupfs", "systemd"])
@pytest.mark.parametrize("uid", [0, 7])
def test_split_is_beside_the_caller_whatever_the_manager(
    uid: int, manager: str, change_host: Callable[..., None]
) -> None:
    change_host(unified=True)
    found = place_of(settings(uid, manager), ContainerSpec(cgroups_mode="split"), UNIFIED, "ID")
    own = "/user.slice/user-7.slice/session-1.scope"
    assert (found.path, found.monitor, found.systemd) == (f"{own}/ctr-ID", f"{own}/conmon-ID", False)


def test_the_callers_cgroup_is_that_of_the_tree_by_which_services_are_told_apart(
    change_host: Callable[..., None],
) -> None:
    change_host(unified=True)
    assert own_cgroup(UNIFIED) == "/user.slice/user-7.slice/session-1.scope"
    assert own_cgroup("0::/\n") == own_cgroup("") == own_cgroup("nonsense") == ""
    change_host(unified=False)
    assert own_cgroup(HYBRID) == "/system.slice/x.service"


@pytest.mark.parametrize(
    "unified, uid, manager, spec, sentence",
    [
        (False, 0, "cgroupfs", {"cgroups_mode": "some"}, "cannot use --cgroups 'some'"),
        (False, 0, "cgroupfs", {"cgroups_mode": "disabled", "cgroup_parent": "/a"}, "together with --cgroups disabled"),
        (False, 0, "cgroupfs", {"cgroups_mode": "disabled", "cgroupns": Namespace("private")},
         "cannot use --cgroupns private together with --cgroups disabled"),
        (False, 0, "cgroupfs", {"cgroups_mode": "disabled"}, "the OCI runtime 'runc' always makes a cgroup"),
        (False, 0, "cgroupfs", {"cgroups_mode": "split", "cgroup_parent": "/a"}, "together with --cgroups split"),
        (False, 0, "cgroupfs", {"cgroups_mode": "split"}, "the command runs in the root cgroup"),
        (False, 0, "cgroupfs", {"cgroup_parent": "a.slice"}, "'a.slice': a slice needs the cgroup manager 'systemd'"),
        (False, 0, "cgroupfs", {"cgroup_parent": "a/../b"}, "there is '..' in it"),
        (False, 0, "systemd", {"cgroup_parent": "/a"}, "with the cgroup manager 'systemd' it is the name of a slice"),
        (False, 0, "systemd", {"cgroup_parent": "/a.slice"}, "is the name of a slice"),
        (False, 7, "systemd", {"cgroup_parent": "a.slice"}, "gives an ordinary user no cgroups on cgroup v1"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_or_is_not_possible_is_refused(
    unified: bool,
    uid: int,
    manager: str,
    spec: dict[str, Any],
    sentence: str,
    change_host: Callable[..., None],
) -> None:
    change_host(unified=unified)
    with pytest.raises((InvalidArgument, NotSupported), match=sentence.replace("(", r"\(")):
        check(settings(uid, manager), ContainerSpec(**spec), "", "runc")


def test_no_cgroup_is_possible_with_an_oci_runtime_that_can_do_without() -> None:
    check(settings(), ContainerSpec(cgroups_mode="disabled"), "", "crun")
    with pytest.raises(NotSupported, match="'runc'"):
        check(settings(cgroups="disabled"), ContainerSpec(), "", "runc")


def test_a_user_may_divide_only_what_is_the_users(
    monkeypatch: pytest.MonkeyPatch, change_host: Callable[..., None]
) -> None:
    change_host(unified=True)
    asked: list[str] = []

    def may_make(path: str) -> bool:
        asked.append(path)
        return path == "/mine"

    monkeypatch.setattr("supervisor.oci.placement.cgroups.may_make", may_make)
    check(settings(7), ContainerSpec(cgroup_parent="mine"), "", "runc")
    with pytest.raises(InvalidArgument, match="'/other': this user may not make cgroups there"):
        check(settings(7), ContainerSpec(cgroup_parent="/other"), "", "runc")
    with pytest.raises(
        InvalidArgument, match=r"session-1\.scope' of the command is not this user's to divide"
    ):
        check(settings(7), ContainerSpec(cgroups_mode="split"), UNIFIED, "runc")
    assert asked == ["/mine", "/other", "/user.slice/user-7.slice/session-1.scope"]


def test_systemd_ends_a_scope_as_the_supervisor_would_end_the_container() -> None:
    asked = request(chosen=settings(manager="systemd"))
    asked = type(asked)(
        **{name: getattr(asked, name) for name in asked.__struct_fields__} | {"stop_signal": 2}
    )
    annotations = built(asked)["annotations"]
    assert annotations["org.systemd.property.KillSignal"] == "2"
    assert annotations["org.systemd.property.TimeoutStopUSec"] == "uint64 10000000"
    assert not any(name.startswith("org.systemd.") for name in built(request())["annotations"])
