"""An attached session as its caller sees it, against a supervisor and a conmon that play a script."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pyman.errors import (
    CommandNotExecutable,
    CommandNotFound,
    EngineStopped,
    NameInUse,
    NoSuchContainer,
    WrongState,
)
from tests.streams.conftest import CONTAINER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyman.errors import PymanError
    from tests.streams.conftest import Play
    from tests.support.scripted import Talk

RUN = ("run", "--rootfs", "/nowhere")


def script(play: Play, then: Callable[[Talk], None], method: str = "Container.Run") -> None:
    def whole(talk: Talk) -> None:
        play.begin(talk)
        then(talk)

    play.server.script[method] = whole


# Output


def test_output_arrives_on_the_stream_it_was_written_to(play: Play) -> None:
    def then(talk: Talk) -> None:
        play.write(b"out\x00\n")
        play.write(b"err\n", 3)
        play.write(b"more")
        play.end(talk, 7)

    script(play, then)
    assert play.run(*RUN, "sh") == (7, b"out\x00\nmore", b"err\n")


def test_megabytes_in_packets_of_any_size_arrive_byte_for_byte(play: Play) -> None:
    chance = random.Random(4711)
    sums = {2: hashlib.sha256(), 3: hashlib.sha256()}

    def then(talk: Talk) -> None:
        noise = chance.randbytes(9000)
        stream = 2
        for _ in range(3000):
            if chance.random() < 0.1:
                stream = 5 - stream
            data = noise[: chance.choice((1, 2, 100, 8191, 8192))]
            sums[stream].update(data)
            play.container.sendall(bytes([stream]) + data)
        play.end(talk, 0)

    script(play, then)
    code, out, err = play.run(*RUN, "sh")
    assert code == 0
    assert hashlib.sha256(out).digest() == sums[2].digest()
    assert hashlib.sha256(err).digest() == sums[3].digest()


@pytest.mark.parametrize(
    "chosen, seen",
    [("stderr", (b"", b"e")), ("stdout", (b"o", b"")), ("stdin", (CONTAINER.encode() + b"\n", b""))],
)
def test_only_the_streams_asked_for_are_shown(play: Play, chosen: str, seen: tuple[bytes, bytes]) -> None:
    """With none of them there is the container's id."""

    def then(talk: Talk) -> None:
        play.write(b"o")
        play.write(b"e", 3)
        play.end(talk, 0)

    script(play, then)
    assert play.run("run", "-a", chosen, "--rootfs", "/nowhere", "sh") == (0, *seen)


def test_a_pipe_that_somebody_left_non_blocking_gets_everything(play: Play) -> None:
    def then(talk: Talk) -> None:
        play.write(b"x" * 1_000_000)
        play.end(talk, 0)

    script(play, then)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK)
    client = play.spawn(*RUN, "sh", stdout=write)
    os.close(write)
    with open(read, "rb") as file:
        assert len(file.read()) == 1_000_000
    assert client.wait(20) == 0


def test_a_reader_that_has_gone_ends_the_command_as_sigpipe_would_and_without_a_word(play: Play) -> None:
    def then(talk: Talk) -> None:
        try:
            while True:
                play.write(b"x" * 8192)
        except (BrokenPipeError, ConnectionResetError):
            pass
        talk.wait_for_end()

    script(play, then)
    client = play.spawn(*RUN, "yes")
    assert client.stdout is not None
    assert client.stderr is not None
    client.stdout.read(10)
    client.stdout.close()
    assert client.wait(20) == 141
    assert client.stderr.read() == b""


def test_a_full_disk_is_told(play: Play) -> None:
    def then(talk: Talk) -> None:
        play.write(b"x" * 100)
        talk.wait_for_end()

    script(play, then)
    with open("/dev/full", "wb") as full:
        client = play.spawn(*RUN, "sh", stdout=full.fileno())
        _, err = client.communicate(timeout=20)
    assert client.returncode == 125
    assert err == b"Error: cannot write to standard output: No space left on device\n"


def test_a_socket_that_outlives_the_exit_code_is_given_up_after_a_silence(play: Play) -> None:
    def then(talk: Talk) -> None:
        talk.send({"phase": "exited", "id": CONTAINER, "exit_code": 3})
        play.write(b"late")

    script(play, then)
    begin = time.monotonic()
    assert play.run(*RUN, "sh") == (3, b"late", b"")
    assert time.monotonic() - begin < 20


# Input


def test_input_is_passed_on_with_its_end(play: Play) -> None:
    received = []

    def then(talk: Talk) -> None:
        assert talk.parameters["attach_stdin"] is True
        received.append(play.read_input())
        play.end(talk, 0)

    script(play, then)
    data = b"\x10\x11 keys are data in a pipe\n" + bytes(range(256)) * 1000
    assert play.run("run", "-i", "--rootfs", "/nowhere", "cat", input=data)[0] == 0
    assert received == [data]


def test_a_container_that_echoes_megabytes_does_not_lock_up_with_its_caller(play: Play) -> None:
    def then(talk: Talk) -> None:
        while packet := play.container.recv(32768):
            play.write(packet)
        play.end(talk, 0)

    script(play, then)
    data = random.Random(1).randbytes(4_000_000)
    code, out, _ = play.run("run", "-i", "--rootfs", "/nowhere", "cat", input=data)
    assert code == 0
    assert out == data


def test_without_interactive_nothing_is_read_from_the_caller(play: Play) -> None:
    def then(talk: Talk) -> None:
        assert talk.parameters["attach_stdin"] is False
        play.write(b"hello")
        play.end(talk, 0)

    script(play, then)
    read, write = os.pipe()
    os.write(write, b"for somebody else")
    os.close(write)
    client = play.spawn("run", "-a", "stdin", "-a", "stdout", "--rootfs", "/nowhere", "cat", stdin=read)
    assert client.communicate(timeout=20) == (b"hello", b"")
    assert os.read(read, 100) == b"for somebody else"
    os.close(read)


def test_a_closed_standard_input_is_an_end_of_input(play: Play) -> None:
    def then(talk: Talk) -> None:
        assert play.read_input() == b""
        play.end(talk, 0)

    script(play, then)
    words = play.command("run", "-i", "--rootfs", "/nowhere", "cat")
    client = subprocess.Popen(["sh", "-c", 'exec "$@" <&-', "sh", *words], stderr=subprocess.PIPE)
    play.clients.append(client)
    assert client.communicate(timeout=20)[1] == b""
    assert client.returncode == 0


# Failures


@pytest.mark.parametrize(
    "error, status",
    [
        (CommandNotFound("cannot start 'x': not found"), 127),
        (CommandNotExecutable("cannot start '/etc': permission denied"), 126),
        (NameInUse("cannot use the name 'web'"), 125),
    ],
)
def test_a_run_that_fails_has_the_status_of_its_error(play: Play, error: PymanError, status: int) -> None:
    def fail(talk: Talk) -> None:
        talk.send({"phase": "created", "id": CONTAINER, "warnings": ["look out"]}, continues=True)
        talk.fail(error)

    play.server.script["Container.Run"] = fail
    code, out, err = play.run(*RUN, "sh")
    assert (code, out) == (status, b"")
    assert err.decode() == f"Warning: look out\nError: {error}\n"


@pytest.mark.parametrize(
    "error, status",
    [
        (CommandNotFound("cannot start 'x': not found"), 127),
        (CommandNotExecutable("cannot start '/etc': permission denied"), 126),
        (WrongState("cannot run a command in 'web': it does not run"), 255),
        (NoSuchContainer("cannot find 'web'"), 125),
        (EngineStopped("cannot answer: the supervisor stops"), 125),
    ],
)
def test_an_exec_that_fails_has_the_status_that_podman_gives_it(
    play: Play, error: PymanError, status: int
) -> None:
    play.server.script["Container.Exec"] = lambda talk: talk.fail(error)
    code, out, err = play.run("exec", "web", "sh")
    assert (code, out, err.decode()) == (status, b"", f"Error: {error}\n")


def test_an_exec_without_a_command_is_refused_as_by_podman(play: Play) -> None:
    code, _, err = play.run("exec", "web")
    assert code == 255
    assert b"cannot run nothing" in err


def test_exec_sends_what_was_asked_for_and_ends_with_the_exit_code(play: Play, tmp_path: Path) -> None:
    def then(talk: Talk) -> None:
        play.end(talk, 9)

    script(play, then, "Container.Exec")
    (tmp_path / "vars").write_text("# comment\nA=1\nB=two words\n")
    options = ["-i", "-u", "me", "-w", "/tmp", "-e", "B=3", "-e", "HERE", "--privileged"]
    client = play.spawn(
        "exec", "--env-file", str(tmp_path / "vars"), *options, "web", "ls", "-l", env={"HERE": "there"}
    )
    assert client.wait(20) == 9
    assert play.server.asked("Container.Exec") == [
        {
            "name": "web",
            "command": ["ls", "-l"],
            "env": {"A": "1", "B": "3", "HERE": "there"},
            "user": "me",
            "work_dir": "/tmp",
            "stdin": True,
            "privileged": True,
        }
    ]


def test_a_detached_exec_prints_the_session(play: Play) -> None:
    play.server.script["Container.Exec"] = lambda talk: talk.send({"phase": "started", "exec_id": "e" * 64})
    assert play.run("exec", "-d", "web", "true") == (0, b"e" * 64 + b"\n", b"")


# The id


def test_a_detached_run_prints_the_id(play: Play) -> None:
    def detached(talk: Talk) -> None:
        assert talk.parameters["detach"] is True
        talk.send({"phase": "created", "id": CONTAINER}, continues=True)
        talk.send({"phase": "started", "id": CONTAINER})

    play.server.script["Container.Run"] = detached
    assert play.run("run", "-d", "--rootfs", "/nowhere", "sh") == (0, CONTAINER.encode() + b"\n", b"")


def test_the_cidfile_is_claimed_before_the_call_and_filled_when_the_container_exists(
    play: Play, tmp_path: Path
) -> None:
    cidfile = tmp_path / "cid"

    def then(talk: Talk) -> None:
        while not cidfile.read_text():
            pass  # the reply is on its way
        play.end(talk, 0)

    def whole(talk: Talk) -> None:
        assert cidfile.read_text() == ""
        play.begin(talk)
        then(talk)

    play.server.script["Container.Run"] = whole
    words = ("run", "--cidfile", str(cidfile), "--rootfs", "/nowhere", "sh")
    assert play.run(*words) == (0, b"", b"")
    assert cidfile.read_text() == CONTAINER
    code, _, err = play.run(*words)
    assert code == 125
    assert b"cannot use the cidfile" in err
    assert len(play.server.asked("Container.Run")) == 1, "no second container was asked for"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_the_cidfile_is_taken_away_when_no_container_was_made(
    play: Play, tmp_path: Path, number: int | None
) -> None:
    cidfile = tmp_path / "cid"

    def refuse(talk: Talk) -> None:
        if number is None:
            talk.fail(NameInUse("cannot use the name"))
        else:
            talk.wait_for_end()

    play.server.script["Container.Run"] = refuse
    client = play.spawn("run", "--cidfile", str(cidfile), "--rootfs", "/nowhere", "sh")
    play.server.wait_for("Container.Run")
    if number is not None:
        client.send_signal(number)
    assert client.wait(20) == (125 if number is None else -number)
    assert not cidfile.exists()


def test_with_the_driver_passthrough_the_caller_s_own_descriptors_go_along(play: Play) -> None:
    def passthrough(talk: Talk) -> None:
        assert talk.parameters.get("attach", False) is False
        talk.send({"phase": "created", "id": CONTAINER}, continues=True)
        talk.send({"phase": "started", "id": CONTAINER}, continues=True)
        stdin, stdout, stderr = talk.descriptors
        os.write(stdout, os.read(stdin, 100).upper())
        os.write(stderr, b"err")
        talk.send({"phase": "exited", "id": CONTAINER, "exit_code": 5})

    play.server.script["Container.Run"] = passthrough
    words = ("run", "--log-driver", "passthrough", "--rootfs", "/nowhere", "sh")
    assert play.run(*words, input=b"hello") == (5, b"HELLO", b"err")
    code, _, err = play.run("run", "-i", *words[1:])
    assert code == 125
    assert b"cannot use --interactive with --log-driver passthrough" in err


# Signals


def _wait_for_kills(play: Play, count: int) -> list[str]:
    return [call["signal"] for call in play.server.wait_for("Container.Kill", count)]


def _answer_kills(play: Play) -> None:
    play.server.script["Container.Kill"] = lambda talk: talk.send(
        {"results": [{"name": CONTAINER, "id": CONTAINER}]}
    )


def test_signals_are_passed_on_in_their_order(play: Play) -> None:
    _answer_kills(play)
    started = threading.Event()

    def then(talk: Talk) -> None:
        play.write(b"ready")
        started.set()
        _wait_for_kills(play, 4)
        play.end(talk, 143)

    script(play, then)
    client = play.spawn(*RUN, "sh")
    assert client.stdout is not None
    assert client.stdout.read(5) == b"ready"
    for count, number in enumerate((signal.SIGUSR1, signal.SIGINT, signal.SIGRTMIN + 3, signal.SIGTERM), 1):
        client.send_signal(number)
        assert _wait_for_kills(play, count)[-1] == str(int(number))
    assert client.wait(20) == 143
    assert play.server.asked("Container.Kill")[0] == {"selection": {"names": [CONTAINER]}, "signal": "10"}


def test_a_signal_between_creation_and_start_waits_for_the_start(play: Play) -> None:
    _answer_kills(play)
    created = threading.Event()
    sent = threading.Event()

    def slow(talk: Talk) -> None:
        talk.send({"phase": "created", "id": CONTAINER, "warnings": ["created"]}, continues=True)
        created.set()
        assert sent.wait(20)
        assert not play.server.asked("Container.Kill")
        talk.send({"phase": "started", "id": CONTAINER}, play.handed_over(), continues=True)
        assert _wait_for_kills(play, 1) == ["15"]
        play.end(talk, 143)

    play.server.script["Container.Run"] = slow
    client = play.spawn(*RUN, "sh")
    assert client.stderr is not None
    assert client.stderr.readline() == b"Warning: created\n"
    client.terminate()
    sent.set()
    assert client.wait(20) == 143


def test_who_insists_need_not_wait_for_a_start_that_hangs(play: Play) -> None:
    def hang(talk: Talk) -> None:
        talk.send({"phase": "created", "id": CONTAINER, "warnings": ["created"]}, continues=True)
        talk.wait_for_end()

    play.server.script["Container.Run"] = hang
    client = play.spawn(*RUN, "sh")
    assert client.stderr is not None
    assert client.stderr.readline() == b"Warning: created\n"
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        assert client.poll() is None
        client.send_signal(number)
        _wait_pending(client)
    assert client.wait(20) == -signal.SIGTERM


def test_who_insists_need_not_wait_for_a_supervisor_that_does_not_answer(play: Play) -> None:
    play.server.script["Container.Kill"] = lambda talk: talk.wait_for_end()

    def then(talk: Talk) -> None:
        play.write(b"ready")
        talk.wait_for_end()

    script(play, then)
    client = play.spawn(*RUN, "sh")
    assert client.stdout is not None
    assert client.stderr is not None
    assert client.stdout.read(5) == b"ready"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        assert client.poll() is None
        client.send_signal(number)
        _wait_pending(client)
    # Two that are pending at once are taken in the order of their numbers.
    assert client.wait(20) in (-signal.SIGINT, -signal.SIGTERM)
    assert (
        client.stderr.read() == b"Warning: the supervisor does not answer: the container is left as it is\n"
    )
    assert play.server.asked("Container.Kill") == [{"selection": {"names": [CONTAINER]}, "signal": "2"}]


def _wait_pending(client: subprocess.Popen[bytes]) -> None:
    """Until the process has taken its signals: two of the same would become one."""
    while client.poll() is None:
        with open(f"/proc/{client.pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        if int(fields["ShdPnd"], 16) == int(fields["SigPnd"], 16) == 0:
            return


def test_a_signal_reaches_the_container_while_nobody_reads_its_output(play: Play) -> None:
    _answer_kills(play)

    def then(talk: Talk) -> None:
        play.container.setblocking(False)
        full = time.monotonic()
        while time.monotonic() < full + 0.5:  # until nothing fits any more
            try:
                play.write(b"x" * 8192)
                full = time.monotonic()
            except BlockingIOError:
                pass
        play.container.setblocking(True)
        talk.send({"phase": "stalled"}, continues=True)
        stalled.set()
        _wait_for_kills(play, 2)
        play.end(talk, 130)

    stalled = threading.Event()
    script(play, then)
    client = play.spawn(*RUN, "yes")
    assert stalled.wait(20)
    client.send_signal(signal.SIGINT)
    _wait_for_kills(play, 1)
    client.send_signal(signal.SIGTERM)
    _wait_for_kills(play, 2)
    out, _ = client.communicate(timeout=20)
    assert client.returncode == 130
    assert set(out) == {ord("x")}


def test_without_sig_proxy_a_signal_ends_the_command_alone(play: Play) -> None:
    def then(talk: Talk) -> None:
        play.write(b"ready")
        talk.wait_for_end()

    script(play, then)
    client = play.spawn("run", "--sig-proxy=false", "--rootfs", "/nowhere", "sh")
    assert client.stdout is not None
    assert client.stdout.read(5) == b"ready"
    client.terminate()
    assert client.wait(20) == -signal.SIGTERM
    assert not play.server.asked("Container.Kill")


def test_a_signal_that_was_ignored_from_the_start_stays_ignored(play: Play) -> None:
    _answer_kills(play)

    def then(talk: Talk) -> None:
        play.write(b"ready")
        assert _wait_for_kills(play, 1) == ["10"]
        play.end(talk, 0)

    script(play, then)
    words = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *play.command(*RUN, "sh")]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    play.clients.append(client)
    assert client.stdout is not None
    assert client.stdout.read(5) == b"ready"
    client.send_signal(signal.SIGHUP)
    client.send_signal(signal.SIGUSR1)
    assert client.wait(20) == 0


# The supervisor goes away


def _died(code: int) -> dict[str, object]:
    return {
        "ID": CONTAINER,
        "Image": "",
        "Name": "web",
        "Status": "died",
        "Time": "2026-11-22T11:08:30.681110505Z",
        "TimeNano": 1795345710681110505,
        "Type": "container",
        "Attributes": {"containerExitCode": str(code)},
        "Seq": 9,
    }


def test_output_goes_on_without_the_supervisor_and_the_journal_tells_the_exit_code(play: Play) -> None:
    subscribed = threading.Event()

    def lost(talk: Talk) -> None:
        play.begin(talk)
        play.write(b"before ")
        talk.hang_up()

    def journal(talk: Talk) -> None:
        assert talk.parameters["filters"] == {"container": [CONTAINER], "event": ["died", "remove"]}
        talk.send({"journal": "j", "seq": 8}, continues=True)
        subscribed.set()
        play.write(b"after")
        play.container.close()
        talk.send({"event": _died(42)}, continues=True)
        talk.send({"event": {**_died(0), "Status": "remove", "Attributes": {}}}, continues=True)  # of --rm
        talk.wait_for_end()

    play.server.script["Container.Run"] = lost
    play.server.script["Event.Subscribe"] = journal
    assert play.run(*RUN, "sh") == (42, b"before after", b"")


def test_the_exit_code_of_an_exec_session_is_found_in_the_journal_too(play: Play) -> None:
    def lost(talk: Talk) -> None:
        play.begin(talk)
        talk.hang_up()

    def journal(talk: Talk) -> None:
        talk.send({"journal": "j", "seq": 8}, continues=True)
        for session, code in (("f" * 64, 1), ("e" * 64, 23)):
            attributes = {"containerExitCode": str(code), "execID": session}
            talk.send(
                {"event": {**_died(0), "Status": "exec_died", "Attributes": attributes}}, continues=True
            )
        play.container.close()
        talk.wait_for_end()

    play.server.script["Container.Exec"] = lost
    play.server.script["Event.Subscribe"] = journal
    assert play.run("exec", "web", "sh") == (23, b"", b"")
