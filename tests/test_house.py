"""Rules of the house that no linter knows: what modules are called, how long they are, what they may not do."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyman

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(pyman.__file__).parent.parent
MODULES = sorted(path for room in ("pyman", "supervisor") for path in (HOUSE / room).rglob("*.py"))
EVERYTHING = sorted([*MODULES, *(HOUSE / "tests").rglob("*.py")])
LIGHT = ["pyman", "pyman.cli.main", "pyman.wire", "supervisor.entry", "supervisor.keeper"]
HEAVY = {"anyio", "argparse", "asyncio", "dataclasses", "inspect", "msgspec", "trio"}

BOUNDARIES = {"pyman/cli/main.py", "supervisor/rpc/connection.py", "supervisor/runtime/life/worker.py"}


def _name(path: Path) -> str:
    name = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def _id(path: Path) -> str:
    return str(path.relative_to(HOUSE))


def _nodes(*words: str) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of the modules in which one of the words is."""
    for path in MODULES:
        text = path.read_text()
        if any(word in text for word in words):
            for node in ast.walk(ast.parse(text)):
                yield path, node


# One test for all modules, which names those that break the rule: one for each would take longer than the rule.


def test_modules_say_what_they_are_for_and_stay_short() -> None:
    texts = {_id(path): path.read_text() for path in EVERYTHING}
    assert [path for path, text in texts.items() if not re.match(r'(#!.*\n)?"""\S', text)] == []
    assert [path for path, text in texts.items() if text.count("\n") > 600] == []
    assert {path.stem for path in EVERYTHING}.isdisjoint(
        ("utils", "util", "helpers", "helper", "common", "misc")
    )


def test_all_names_what_there_is() -> None:
    # Importing __main__ would run it.
    modules = [importlib.import_module(_name(path)) for path in MODULES if path.name != "__main__.py"]
    named = [(module, name) for module in modules for name in getattr(module, "__all__", ())]
    assert [f"{module.__name__}: {name}" for module, name in named if not hasattr(module, name)] == []


def test_nobody_waits_for_just_any_child() -> None:
    """It would steal the exit status from whoever started the process."""
    found = [
        f"{_id(path)}:{node.lineno}"
        for path, node in _nodes("P_ALL", "wait3", "os.wait")
        if isinstance(node, ast.Attribute)
        and (
            node.attr in {"P_ALL", "wait3"}
            or (node.attr == "wait" and isinstance(node.value, ast.Name) and node.value.id == "os")
        )
    ]
    assert found == []


def test_broad_excepts_stand_at_the_boundaries_alone() -> None:
    """Per connection, per container, and around a command line; elsewhere an unknown exception must show."""
    found = {
        _id(path)
        for path, node in _nodes("Exception", "except:")
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    }
    assert found <= BOUNDARIES


@pytest.mark.parametrize("module", LIGHT)
def test_what_must_start_fast_imports_little(module: str) -> None:
    if not (HOUSE / (module.replace(".", "/") + ".py")).exists() and module != "pyman":
        pytest.skip("not there yet")
    program = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not HEAVY & set(done.stdout.split())


def test_a_daemon_comes_up_without_what_few_calls_need() -> None:
    """A first command waits for its imports."""
    program = "import sys, supervisor.daemon_start, supervisor.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    there = set(done.stdout.split())
    assert "supervisor.images.library" in there
    assert not there & {"httpx", "isal", "tarfile", "zstandard"}
    assert not there & {f"supervisor.images.{name}" for name in ("opening", "importing", "pushing", "lists")}


def test_the_console_scripts_exist() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    for target in project["scripts"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_every_package_has_a_room_in_the_contract_of_layers() -> None:
    tool = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]
    layers = " ".join(tool["importlinter"]["contracts"][0]["layers"])
    named = set(re.findall(r"supervisor\.\w+", layers))
    there = {f"supervisor.{path.stem}" for path in (HOUSE / "supervisor").iterdir() if path.suffix == ".py"}
    there |= {f"supervisor.{path.parent.name}" for path in (HOUSE / "supervisor").glob("*/__init__.py")}
    assert there - {"supervisor.__init__"} <= named
