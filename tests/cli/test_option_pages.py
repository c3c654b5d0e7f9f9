"""No option of Podman's image verbs, nor of run and create, is unknown here, and what is said of them in docs is what the tables say."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from pyman.cli.main import COMMANDS
from tests.cli.option_pages import DOCS, PAGES, VERBS, page, rows_of

ALL = (*VERBS, "run", "create")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_options_says_what_the_tables_say(name: str) -> None:
    assert (DOCS / name).read_text() == page(name), "make it again: python -m tests.cli.option_pages"


@pytest.mark.parametrize("name", ALL)
def test_every_option_has_a_reason_or_a_meaning(name: str) -> None:
    for names, _short, kind, _metavar, text in rows_of(name):
        assert text or names in ("disable-content-trust", "insecure", "purge", "verbose")
        assert kind != "refused" or text[0].islower()


@pytest.mark.skipif(not shutil.which("podman"), reason="needs Podman's help")
@pytest.mark.parametrize("name", [name for name in ALL if name in COMMANDS and name != "build"])
def test_podmans_options_are_known(name: str) -> None:
    done = subprocess.run(["podman", *name.split(), "--help"], capture_output=True, text=True, check=True)
    theirs = re.findall(r"^ +(?:-(\w), )?--([a-z0-9-]+)(?: (\S+))?  ", done.stdout, re.MULTILINE)
    ours = {alias: row for row in rows_of(name) for alias in row[0].split("|")}
    theirs = [option for option in theirs if option[1] != "help"]
    assert {long for _, long, _ in theirs} <= set(ours)
    for short, long, value in theirs:
        if ours[long][2] != "refused":
            assert ours[long][1] == short
            assert (ours[long][2] not in ("flag", "true")) == bool(value)
