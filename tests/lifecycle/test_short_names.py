"""What a short name means is asked of the person at the terminal, once. As an ordinary user: root's choices are the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.pseudoterminal import PseudoTerminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine
    from tests.support.registry import RealRegistry

pytestmark = pytest.mark.oci_runtime("rootless")

ELSEWHERE = "localhost:1"
QUESTION = b"Which one (1-2)? "


@pytest.fixture
def short(engine: Engine, away: str, registry: RealRegistry) -> str:
    """A short name that registries.conf searches for in two places, of which the second has it."""
    directory = engine.path / ".config/containers"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "registries.conf").write_text(
        f'unqualified-search-registries = ["{ELSEWHERE}", "{registry.host}"]\nshort-name-mode = "enforcing"\n'
        f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n'
    )
    return away.partition("/")[2].partition(":")[0]


def aliases(engine: Engine) -> str:
    found: list[Path] = list(engine.path.rglob("short-name-aliases.conf"))
    return found[0].read_text() if found else ""


def test_a_person_chooses_once_and_is_not_asked_again(
    engine: Engine, short: str, registry: RealRegistry
) -> None:
    refused = engine.cli("pull", short, check=False)
    assert refused.returncode == 125
    assert f"it may be {ELSEWHERE}/{short}:latest, {registry.host}/{short}:latest" in refused.stderr
    with PseudoTerminal() as terminal:
        program = terminal.spawn(engine.spawn, "pull", "--quiet", short)
        shown = terminal.expect(QUESTION)
        assert f"1) {ELSEWHERE}/{short}:latest\r\n  2) {registry.host}/{short}:latest" in shown.decode()
        terminal.type(b"2\n")
        assert program.wait(30) == 0
    assert f'"{short}" = "{registry.host}/{short}"' in aliases(engine)
    assert engine.cli("run", "--rm", "--pull", "always", short).stdout == "pulled\n"
    assert [event["Status"] for event in engine.events(type=["image"])] == ["pull-error", "pull", "pull"]


def test_a_run_asks_before_it_makes_anything(engine: Engine, short: str, registry: RealRegistry) -> None:
    with PseudoTerminal() as terminal:
        program = terminal.spawn(engine.spawn, "run", "--rm", short)
        terminal.expect(QUESTION)
        assert engine.out("ps", "--all", "--quiet") == ""
        terminal.type(b"2\n")
        terminal.expect(b"pulled")
        assert program.wait(30) == 0
    assert f'"{short}" = "{registry.host}/{short}"' in aliases(engine)


@pytest.mark.parametrize("typed, status", [(b"3\n", 125), (b"\n", 125), (b"\x03", 130), (b"\x04", 125)])
def test_who_does_not_choose_gets_nothing(engine: Engine, short: str, typed: bytes, status: int) -> None:
    with PseudoTerminal() as terminal:
        program = terminal.spawn(engine.spawn, "create", short)
        terminal.expect(QUESTION)
        terminal.type(typed)
        code = program.wait(30)
    assert code == status
    assert engine.out("images", "--quiet") == engine.out("ps", "--all", "--quiet") == ""
    assert aliases(engine) == ""


def test_what_cannot_be_had_is_not_remembered(engine: Engine, short: str) -> None:
    with PseudoTerminal() as terminal:
        program = terminal.spawn(engine.spawn, "pull", "--retry", "0", short)
        terminal.expect(QUESTION)
        terminal.type(b"1\n")
        terminal.expect(b"Error: cannot ")
        assert program.wait(30) == 125
    assert aliases(engine) == ""
