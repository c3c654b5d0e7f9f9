"""Containers carry a namespace of the state; a client that says one sees no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)


def test_a_client_of_one_namespace_sees_and_changes_only_its_containers(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    for namespace, name in (("red", "one"), ("blue", "two")):
        engine.cli("--namespace", namespace, "create", "--name", name, "--rootfs", f"{rootfs}:O", "true")
    engine.cli("create", "--name", "three", "--rootfs", f"{rootfs}:O", "true")
    assert engine.out("--namespace", "red", "ps", "-a", "--format", "{{.Names}}") == "one"
    assert engine.inspect("one")["Namespace"] == "red"
    assert len(engine.out("ps", "-aq").split()) == 3
    assert engine.cli("--namespace", "red", "inspect", "two", check=False).returncode != 0
    assert engine.cli("--namespace", "red", "rm", "two", check=False).returncode != 0
    engine.cli("--namespace", "blue", "rm", "--all")
    assert engine.out("ps", "-a", "--sort", "names", "--format", "{{.Names}}").split() == ["one", "three"]


def test_a_name_is_taken_in_every_namespace(shared_engine: Engine, rootfs: Path) -> None:
    shared_engine.cli("--namespace", "red", "create", "--name", "x", "--rootfs", f"{rootfs}:O", "true")
    done = shared_engine.cli("create", "--name", "x", "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
