"""The files that Debian 13 has for all engines are read whole: nothing in them is unknown, or wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.trees import trixie

if TYPE_CHECKING:
    from tests.settings.support import Machine

NAMES = ("containers.conf", "storage.conf")
_COMMENTED = re.compile(r'# ?([a-z_-]+) *= *("[^"]*"|\d+|true|false|\[\])')
"""A key with a value on one line, given as the default or as an example."""


def text(name: str) -> str:
    return (trixie() / "usr/share/containers" / name).read_text()


def all_of(text: str) -> str:
    """With every key that is only a comment, once in each section."""
    section, seen, lines = "", set(), []
    for line in text.splitlines():
        section = line if line.startswith("[") else section
        key = _COMMENTED.fullmatch(line)
        if key and (section, key[1]) not in seen:
            seen.add((section, key[1]))
            line = key[0].removeprefix("#")  # noqa: PLW2901 - the same line, without its mark
        lines.append(line)
    return "\n".join(lines)


def test_as_they_are_they_say_what_the_defaults_are(machine: Machine) -> None:
    plain = machine.load()
    for name in NAMES:
        machine.write(f"usr/{name}", text(name))
    settings = machine.load()
    assert settings.warnings == ()
    assert len(settings.files) == 2
    assert settings.storage.graphroot == plain.storage.graphroot
    assert settings.storage.runroot == plain.storage.runroot
    assert settings.storage.options == ("overlay.mountopt=nodev",)
    assert settings.engine == plain.engine


@pytest.mark.parametrize("name", NAMES)
def test_every_key_that_they_explain_is_known(machine: Machine, name: str) -> None:
    whole = all_of(text(name))
    assert len(whole.splitlines()) > 100
    assert whole.count("\n#") < text(name).count("\n#") - 10
    machine.write(f"usr/{name}", whole)
    assert [warning for warning in machine.load().warnings if "unknown" in warning] == []
