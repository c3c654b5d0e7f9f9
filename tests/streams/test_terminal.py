"""The caller's terminal in a session: raw while it lasts, its size told, and as it was found afterwards."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from pyman.errors import InternalError
from tests.streams.conftest import CONTAINER
from tests.support.pseudoterminal import PseudoTerminal
from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tests.streams.conftest import Play
    from tests.support.scripted import Talk

RUN = ("run", "-it", "--rootfs", "/nowhere", "sh")


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with PseudoTerminal(rows=33, columns=77) as made:
        yield made


def script(play: Play, then: Callable[[Talk], None]) -> None:
    def whole(talk: Talk) -> None:
        play.begin(talk, terminal=True)
        play.write(b"ready")
        then(talk)

    play.server.script["Container.Run"] = whole
    play.server.script["Container.Attach"] = whole
    play.server.script["Container.Resize"] = lambda talk: talk.send({})


def until_the_end(talk: Talk) -> None:
    talk.wait_for_end()


def typed(play: Play, count: int) -> bytes:
    found = b""
    while len(found) < count:
        packet = play.container.recv(4096)
        assert packet, found
        found += packet
    return found


def test_every_key_goes_to_the_container_and_the_terminal_is_given_back(
    play: Play, terminal: PseudoTerminal
) -> None:
    keys = b"ls\x03\x1a\x1c\x04\x13\r\n\x7f\xc3\xa4"

    def then(talk: Talk) -> None:
        assert (talk.parameters["rows"], talk.parameters["columns"]) == (33, 77)
        assert typed(play, len(keys)) == keys
        play.write(b"\nbye\n")
        play.end(talk, 4)

    script(play, then)
    client = terminal.spawn(play.spawn, *RUN)
    terminal.expect(b"ready")
    assert terminal.is_raw
    terminal.type(keys)
    shown = terminal.expect(b"bye\n")
    assert shown == b"\nbye\n", "neither echoed nor translated: the container's terminal does that"
    assert client.wait(20) == 4
    assert terminal.is_as_found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_the_terminal_is_given_back_when_a_signal_ends_the_command(
    play: Play, terminal: PseudoTerminal, number: signal.Signals
) -> None:
    script(play, until_the_end)
    client = terminal.spawn(play.spawn, *RUN)
    terminal.expect(b"ready")
    client.send_signal(number)
    assert client.wait(20) == -number
    assert terminal.is_as_found


def test_the_terminal_is_given_back_after_an_error(play: Play, terminal: PseudoTerminal) -> None:
    script(play, lambda talk: talk.fail(InternalError("cannot go on")))
    client = terminal.spawn(play.spawn, *RUN)
    terminal.expect(b"Error: cannot go on\r\n")
    assert client.wait(20) == 125
    assert terminal.is_as_found


def test_a_new_size_is_told(play: Play, terminal: PseudoTerminal) -> None:
    script(play, until_the_end)
    terminal.spawn(play.spawn, *RUN)
    terminal.expect(b"ready")
    terminal.resize(50, 100)
    sizes = play.server.wait_for("Container.Resize")
    assert sizes == [{"name": CONTAINER, "rows": 50, "columns": 100}], "the first one came with the request"


def test_a_size_that_changed_during_the_start_is_told_after_it(play: Play, terminal: PseudoTerminal) -> None:
    def whole(talk: Talk) -> None:
        terminal.resize(50, 100)
        play.begin(talk)
        talk.wait_for_end()

    play.server.script["Container.Run"] = whole
    play.server.script["Container.Resize"] = lambda talk: talk.send({})
    terminal.spawn(play.spawn, *RUN)
    assert play.server.wait_for("Container.Resize") == [{"name": CONTAINER, "rows": 50, "columns": 100}]


def _wait_stopped(client: subprocess.Popen[bytes]) -> None:
    assert os.WIFSTOPPED(os.waitpid(client.pid, os.WUNTRACED)[1])


def test_a_stopped_command_gives_the_terminal_back_and_takes_it_again(
    play: Play, terminal: PseudoTerminal
) -> None:
    script(play, until_the_end)
    client = terminal.spawn(play.spawn, *RUN)
    terminal.expect(b"ready")
    client.send_signal(signal.SIGTSTP)
    _wait_stopped(client)
    assert terminal.is_as_found
    terminal.resize(50, 100)
    client.send_signal(signal.SIGCONT)
    play.server.wait_for("Container.Resize")
    assert terminal.is_raw
    client.terminate()
    assert client.wait(20) == -signal.SIGTERM
    assert terminal.is_as_found


@pytest.mark.parametrize(
    "verb", [RUN, ("start", "-a", "-i", "web"), ("attach", "web")], ids=["run", "start", "attach"]
)
def test_the_detach_keys_leave_the_container_alone(
    play: Play, terminal: PseudoTerminal, verb: tuple[str, ...]
) -> None:
    received = []

    def then(talk: Talk) -> None:
        received.append(play.read_input())
        talk.wait_for_end()

    script(play, then)
    config = {"Config": {"Tty": True, "OpenStdin": True}}
    play.server.script["Container.Inspect"] = lambda talk: talk.send({"containers": [config]})
    client = terminal.spawn(play.spawn, *verb)
    terminal.expect(b"ready")
    terminal.type(b"a\x10b\x10\x10")
    terminal.type(b"\x11c")
    assert client.wait(20) == 0
    until(lambda: received, "the container's end has not been read")
    assert received == [b"a\x10b\x10"]
    assert terminal.is_as_found
    assert not play.server.asked("Container.Kill")


def test_other_detach_keys_can_be_chosen(play: Play, terminal: PseudoTerminal) -> None:
    received = []

    def then(talk: Talk) -> None:
        received.append(play.read_input())
        talk.wait_for_end()

    script(play, then)
    client = terminal.spawn(play.spawn, *RUN[:2], "--detach-keys", "ctrl-a,x", *RUN[2:])
    terminal.expect(b"ready")
    terminal.type(b"\x10\x11\x01y\x01x")
    assert client.wait(20) == 0
    until(lambda: received, "the container's end has not been read")
    assert received == [b"\x10\x11\x01y"]


def test_without_interactive_the_terminal_stays_as_it_is_and_ctrl_c_reaches_the_container(
    play: Play, terminal: PseudoTerminal
) -> None:
    def then(talk: Talk) -> None:
        play.server.wait_for("Container.Kill")
        play.end(talk, 130)

    script(play, then)
    play.server.script["Container.Kill"] = lambda talk: talk.send({"results": []})
    client = terminal.spawn(play.spawn, "run", "-t", "--rootfs", "/nowhere", "sleep", "9")
    terminal.expect(b"ready")
    assert terminal.is_as_found
    terminal.type(b"\x03")
    assert client.wait(20) == 130
    assert play.server.asked("Container.Kill")[0]["signal"] == "2"


def test_a_terminal_that_is_none_is_warned_about(play: Play) -> None:
    def then(talk: Talk) -> None:
        play.read_input()
        play.end(talk, 0)

    script(play, then)
    code, out, err = play.run(*RUN, input=b"")
    assert (code, out) == (0, b"ready")
    assert b"Warning: the input is not a terminal" in err
