"""What is shown of a transfer: lines, bars on a terminal, or nothing; and what it ends with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from pyman.cli.transfer import Lines, Silence, display, show
from tests.support.pseudoterminal import PseudoTerminal
from tests.support.scripted import Scripted

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.scripted import Talk

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def step(digest: str, action: str, count: int = 0, total: int = -1, detail: str = "") -> dict[str, Any]:
    blob = {"digest": digest, "action": action, "bytes": count, "total": total, "detail": detail}
    return {"progress": blob, "text": "", "ids": [], "names": [], "digest": ""}


def say(text: str) -> dict[str, Any]:
    return {"progress": None, "text": text, "ids": [], "names": [], "digest": ""}


STEPS = [
    say("Trying to pull registry.example/a:latest..."),
    step(A, "waiting"),
    step(A, "downloading", 10, 1000),
    step(B, "exists"),
    step(A, "retrying", 10, 1000, "the connection was lost"),
    step(A, "downloading", 900, 1000),
    step(A, "unpacking", 1000, 1000),
    step(A, "done", 1000, 1000),
    step(A, "done", 1000, 1000),
    say("Writing manifest to image destination"),
]


def test_without_a_terminal_each_thing_that_happens_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Lines()
    for one in STEPS:
        show(shown, one)
    shown.close()
    assert capsys.readouterr() == (
        "",
        (
            "Trying to pull registry.example/a:latest...\n"
            f"Copying blob {A}\n"
            f"Copying blob {B} skipped: already exists\n"
            f"Copying blob {A} is tried again: the connection was lost\n"
            f"Copying blob {A} done\n"
            "Writing manifest to image destination\n"
        ),
    )


def test_a_line_of_others_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(Lines(), say("evil \x1b[2J name\nError: no"))
    assert capsys.readouterr().err == "evil \\x1b[2J name Error: no\n"


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display(quiet=True)
    assert isinstance(shown, Silence)
    for one in STEPS:
        show(shown, one)
    assert capsys.readouterr() == ("", "")


PULLER = """
import sys
from pyman import wire
path = sys.argv.pop(1)
wire.socket_path = lambda *_: path
from pyman.cli.context import Context, flush
from pyman.cli.options import parse
from pyman.cli.main import GLOBAL_OPTIONS
from pyman.cli.transfer import follow
ctx = Context(parse([], GLOBAL_OPTIONS, stop=True), [])
try:
    ctx.out(follow(ctx, "Image.Pull", {}, quiet=False)["ids"][0])
    flush()
except KeyboardInterrupt:
    sys.exit(130)
finally:
    ctx.close()
"""


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    return subprocess.Popen([sys.executable, "-c", PULLER, *arguments], env=environ, **options)


def test_a_terminal_shows_bars_and_what_is_done_stays(tmp_path: Path) -> None:
    def pull(talk: Talk) -> None:
        for one in STEPS:
            talk.send(one, continues=True)
        talk.send({**say(""), "ids": ["0123"]})

    with Scripted(str(tmp_path / "s")) as server, PseudoTerminal() as terminal:
        server.script["Image.Pull"] = pull
        program = terminal.spawn(start, server.path)
        terminal.expect(b"Trying to pull registry.example/a:latest...")
        terminal.expect(b"Copying blob aaaaaaaaaaaa")
        assert "━".encode() in terminal.expect(b"downloading")
        terminal.expect(b"Copying blob bbbbbbbbbbbb skipped: already exists")
        terminal.expect(b"Copying blob aaaaaaaaaaaa done | 1kB")
        terminal.expect(b"Writing manifest to image destination")
        terminal.expect(b"0123\r\n")
        assert program.wait(20) == 0


def test_an_interrupt_ends_the_connection_and_gives_the_terminal_back(tmp_path: Path) -> None:
    ended: list[bool] = []

    def pull(talk: Talk) -> None:
        talk.send(step(A, "downloading", 10, 1000), continues=True)
        talk.wait_for_end()
        ended.append(True)

    with Scripted(str(tmp_path / "s")) as server, PseudoTerminal() as terminal:
        server.script["Image.Pull"] = pull
        program = terminal.spawn(start, server.path)
        terminal.expect(b"downloading")
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 130
        terminal.expect(b"\x1b[?25h")  # the cursor
    assert ended == [True]


def test_a_supervisor_that_goes_away_is_told_in_the_words_of_a_transfer(tmp_path: Path) -> None:
    with Scripted(str(tmp_path / "s")) as server:
        server.script["Image.Pull"] = lambda talk: talk.hang_up()
        program = start(server.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, err = program.communicate(timeout=20)
    assert b"cannot finish Image.Pull: the supervisor went away: run the command again" in err


def test_bars_are_not_imported_without_a_terminal() -> None:
    code = "import sys; from pyman.cli.transfer import display; display(); print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
