"""conmon is found where the configuration says, then on the search path; too old and absent differ."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from pyman.errors import ConmonNotFound, ConmonOutdated
from supervisor.conmon.find import Conmon, find_conmon

if TYPE_CHECKING:
    from pathlib import Path


def program(directory: Path, body: str, name: str = "conmon") -> str:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def stating(version: str) -> str:
    return f"echo conmon version {version}; echo commit: unknown"


async def test_the_real_one_is_found_on_the_search_path() -> None:
    found = await find_conmon([], os.environ["PATH"])
    assert found.path == shutil.which("conmon")
    assert found.version.startswith("2.")


async def test_configured_paths_come_first_and_in_order(tmp_path: Path) -> None:
    first = program(tmp_path / "a", stating("2.0.24"))
    second = program(tmp_path / "b", stating("2.2.1"))
    third = program(tmp_path / "c", stating("2.1.0"))
    assert await find_conmon([first, second], str(tmp_path / "c")) == Conmon(first, "2.0.24")
    assert await find_conmon([second, first], str(tmp_path / "c")) == Conmon(second, "2.2.1")
    assert await find_conmon([], str(tmp_path / "c")) == Conmon(third, "2.1.0")


async def test_what_is_no_program_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "directory" / "conmon").mkdir(parents=True)
    plain = tmp_path / "plain"
    plain.write_text(stating("2.1.0"))
    good = program(tmp_path / "good", stating("2.1.0"))
    paths = [str(tmp_path / "directory" / "conmon"), str(plain), str(tmp_path / "absent"), good]
    assert (await find_conmon(paths, "")).path == good


async def test_an_old_one_is_passed_over_for_a_later_one(tmp_path: Path) -> None:
    old = program(tmp_path / "old", stating("2.0.23"))
    new = program(tmp_path / "new", stating("2.0.24-dev"))
    assert await find_conmon([old, new], "") == Conmon(new, "2.0.24")


@pytest.mark.parametrize("version", ["2.0.23", "1.9.99", "0.3"])
async def test_only_old_ones_are_an_error_of_their_own(tmp_path: Path, version: str) -> None:
    with pytest.raises(ConmonOutdated, match=r"cannot use conmon: '.*' is version .*: install 2\.0\.24"):
        await find_conmon([program(tmp_path / "old", stating(version))], "")


async def test_none_at_all_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConmonNotFound, match="cannot find conmon"):
        await find_conmon([str(tmp_path / "conmon")], f"{tmp_path}::/no/such")


@pytest.mark.parametrize(
    "body", ["echo conmon version", "echo version 2.1.6", "exit 0", f"{stating('2.1.6')}; exit 1", "kill $$"]
)
async def test_a_version_that_cannot_be_read_is_not_good_enough(tmp_path: Path, body: str) -> None:
    with pytest.raises(ConmonNotFound, match="does not state its version"):
        await find_conmon([program(tmp_path / "odd", body)], "")


async def test_a_file_that_the_kernel_cannot_execute_is_not_usable(tmp_path: Path) -> None:
    path = tmp_path / "conmon"
    path.write_bytes(b"\x7fELFnonsense")
    path.chmod(0o755)
    with pytest.raises(ConmonNotFound):
        await find_conmon([str(path)], "")
