"""Offline maintenance becomes the supervisor's own program."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyman.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    line: list[str] = []

    def execv(path: str, words: list[str]) -> None:
        assert path == words[0]
        line.extend(words)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    return line


@pytest.mark.parametrize(
    "words, expected",
    [
        (["renumber"], ["renumber"]),
        (["migrate"], ["migrate"]),
        (["migrate", "--new-runtime", "crun"], ["migrate", "--new-runtime", "crun"]),
        (["reset", "-f"], ["reset"]),
    ],
)
def test_the_program_is_given_the_selection_and_the_action(
    became: list[str], words: list[str], expected: list[str]
) -> None:
    main(["--root", "/tmp/x", "system", *words])
    assert became[became.index("maintain") + 1 :] == expected
    assert became[became.index("maintain") - 1] == "--root=/tmp/x"


def test_reset_asks_first(
    became: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["no\n", "y\n"])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(answers), raising=False)
    assert main(["system", "reset"]) == 0
    assert "Are you sure" in capsys.readouterr().out
    assert became == []
    main(["system", "reset"])
    assert became[-1] == "reset"


def test_a_program_that_cannot_be_run_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pyman.cli.launch.sys.executable", str(tmp_path / "none"))
    assert main(["system", "renumber"]) == 125
    assert capsys.readouterr().err == f"Error: cannot run '{tmp_path}/none': No such file or directory\n"
