"""What may be made and limited where, on a tree that is only directories and files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import cgroups

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree in which /mine, with no process in it, and /busy can be written."""
    found = (cgroups._Hierarchy(str(tmp_path), frozenset()),)
    monkeypatch.setattr(cgroups, "_hierarchies", lambda: found)
    for name, procs in (("", "1\n"), ("mine", ""), ("busy", "7\n"), ("mine/below", "")):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.controllers").write_text("cpu memory pids\n")
        (directory / "cgroup.subtree_control").write_text("pids\n")
        (directory / "cgroup.procs").write_text(procs)
    return tmp_path


@pytest.mark.usefixtures("v2")
def test_controllers_are_those_of_the_nearest_cgroup_above_that_there_is() -> None:
    whole = frozenset({"cpu", "memory", "pids"})
    assert cgroups.controllers("/mine") == whole
    assert cgroups.controllers("/nowhere") == frozenset()
    assert cgroups.controllers_below("/mine/new/newer") == (whole, "/mine")
    assert cgroups.controllers_below("/mine/below") == (whole, "/mine/below")


@pytest.mark.usefixtures("v2")
def test_where_processes_are_only_what_is_passed_on_already_can_be_had() -> None:
    assert cgroups.controllers_below("/busy/new") == (frozenset({"pids"}), "/busy")
    assert cgroups.controllers_below("/new") == (
        frozenset({"cpu", "memory", "pids"}),
        "/",
    )  # the root may have some


def test_a_cgroup_may_be_made_where_the_nearest_one_above_can_be_written(
    v2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path in (f"{v2}/mine", f"{v2}/mine/below"))
    assert cgroups.may_make("/mine/new/newer")
    assert cgroups.may_make("/mine/below")
    assert not cgroups.may_make("/busy/new")
    assert not cgroups.may_make("/new")
    assert not cgroups.may_make("")


@pytest.mark.parametrize(
    "files, counted", [([], True), (["memory.max"], False), (["memory.max", "memory.swap.max"], True)]
)
def test_swap_is_counted_where_a_cgroup_with_memory_has_a_limit_for_it(
    v2: Path, files: list[str], counted: bool
) -> None:
    for name in files:
        (v2 / "mine/below" / name).touch()
    assert cgroups.counts_swap("/mine") is counted
    assert cgroups.counts_swap("") is counted


def test_a_users_manager_is_found_from_within_and_guessed_from_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cgroups, "own_path", lambda: "/a/user@7.service/app.slice/x.scope")
    assert cgroups.manager_of(7) == "/a/user@7.service"
    assert cgroups.manager_of(8) == "/user.slice/user-8.slice/user@8.service"


def test_a_process_that_is_gone_has_no_cgroup() -> None:
    assert cgroups.own_path(1 << 22) == ""
