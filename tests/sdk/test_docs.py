"""The examples of docs/sdk.md and docs/protocol.md do what they say, with a real supervisor."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.rpc import idl

if TYPE_CHECKING:
    from tests.support.engine import Engine

DOCS = Path(__file__).parents[2] / "docs"
SDK, PROTOCOL = (DOCS / "sdk.md").read_text(), (DOCS / "protocol.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", SDK, re.DOTALL)

pytestmark = pytest.mark.oci_runtime("runc")


def run_program(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tried() -> None:
    assert SDK.count("```python") == len(EXAMPLES) == 6


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(shared_engine: Engine, number: int) -> None:
    program, printed = EXAMPLES[number]
    assert (
        run_program(program.replace("pyman.connect()", f"pyman.connect({shared_engine.socket!r})")) == printed
    )


def test_the_client_in_fifteen_lines_works(shared_engine: Engine) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PROTOCOL, re.DOTALL)
    program = program.replace("/run/pyman/pyman.sock", shared_engine.socket)
    assert run_program(program) == "{'containers': []}\n"


def test_the_table_of_errors_is_that_of_the_code() -> None:
    """Where this fails run scripts/idl."""
    _, _, rest = PROTOCOL.partition(idl.ERRORS_BEGIN)
    table, end, _ = rest.partition(idl.ERRORS_END)
    assert end
    assert table == f"\n{idl.errors_table()}"


def test_the_page_about_the_protocol_names_the_sockets_and_limits_that_there_are() -> None:
    assert "A call may have 1 MiB" in PROTOCOL
    for name in ("pyman.sock", "pyman-read.sock", "pyman-events.sock"):
        assert f"`{name}`" in PROTOCOL
