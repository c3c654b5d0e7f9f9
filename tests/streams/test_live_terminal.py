"""A shell in a real container, on a pseudo-terminal: it feels like a local one."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.pseudoterminal import PseudoTerminal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with PseudoTerminal(rows=33, columns=77) as made:
        yield made


def shell(engine: Engine, terminal: PseudoTerminal, rootfs: Path, *options: str) -> subprocess.Popen[bytes]:
    client = terminal.spawn(
        engine.spawn, "run", "-it", "--network", "none", *options, "--rootfs", f"{rootfs}:O", "sh"
    )
    terminal.expect(b"# ")
    return client


def run_sleep(terminal: PseudoTerminal) -> None:
    """Returns when a process of its own has the terminal: keys typed before that would be the shell's."""
    terminal.type(b"sh -c 'echo is\"\"there; exec sleep 1000'\r")
    terminal.expect(b"isthere\r\n")


def test_a_shell_has_the_caller_s_size_from_the_start_and_every_new_one(
    shared_engine: Engine, terminal: PseudoTerminal, rootfs: Path
) -> None:
    client = shell(shared_engine, terminal, rootfs, "--rm")
    terminal.type(b"stty size\r")
    terminal.expect(b"33 77\r\n")
    terminal.type(b"trap 'stty size; echo changed' WINCH; echo set\r")
    terminal.expect(b"\nset\r\n")
    terminal.resize(50, 100)
    # busybox runs the trap after the next command.
    shown = b""
    for _ in range(200):
        terminal.type(b"stty size\r")
        shown = terminal.expect(b"# ")
        if b"50 100" in shown:
            break
    assert b"50 100" in shown
    terminal.type(b"exit 3\r")
    assert client.wait(20) == 3
    assert terminal.is_as_found


def test_ctrl_c_and_ctrl_z_act_inside_the_container(
    shared_engine: Engine, terminal: PseudoTerminal, rootfs: Path
) -> None:
    client = shell(shared_engine, terminal, rootfs, "--rm")
    run_sleep(terminal)
    terminal.type(b"\x03")
    terminal.expect(b"# ")
    terminal.type(b"echo $?\r")
    terminal.expect(b"130\r\n")
    terminal.expect(b"# ")
    run_sleep(terminal)
    terminal.type(b"\x1a")
    terminal.expect(b"Stopped")
    terminal.expect(b"# ")
    terminal.type(b"exit\r")
    terminal.expect(b"stopped jobs.\r\n")
    terminal.expect(b"# ")
    terminal.type(b"exit\r")
    client.wait(20)
    assert terminal.is_as_found


def test_detaching_leaves_the_shell_running_and_attach_joins_it_again(
    shared_engine: Engine, terminal: PseudoTerminal, rootfs: Path
) -> None:
    client = shell(shared_engine, terminal, rootfs, "--name", "shell")
    terminal.type(b"x=remembered\r")
    terminal.expect(b"# ")
    terminal.type(b"\x10\x11")
    assert client.wait(20) == 0
    assert terminal.is_as_found
    assert shared_engine.inspect("shell")["State"]["Status"] == "running"
    client = terminal.spawn(shared_engine.spawn, "attach", "shell")
    terminal.type(b"echo it is $x\r")
    terminal.expect(b"it is remembered\r\n")
    terminal.type(b"exit 5\r")
    assert client.wait(20) == 5
    client = terminal.spawn(shared_engine.spawn, "start", "-a", "-i", "shell")
    terminal.expect(b"# ")
    terminal.type(b"stty size; exit 6\r")
    terminal.expect(b"33 77\r\n")
    assert client.wait(20) == 6
    assert terminal.is_as_found


def test_an_exec_session_has_a_terminal_of_its_own(
    shared_engine: Engine, terminal: PseudoTerminal, rootfs: Path
) -> None:
    shared_engine.cli(
        "run", "-d", "--name", "c", "--network", "none", "--rootfs", f"{rootfs}:O", "sleep", "1000"
    )
    client = terminal.spawn(shared_engine.spawn, "exec", "-it", "c", "sh")
    terminal.expect(b"# ")
    terminal.type(b"stty size; tty\r")
    terminal.expect(b"33 77\r\n/dev/pts/")
    terminal.resize(10, 20)
    shown = b""
    for _ in range(200):
        terminal.type(b"stty size\r")
        shown = terminal.expect(b"# ")
        if b"10 20" in shown:
            break
    assert b"10 20" in shown
    terminal.type(b"exit 8\r")
    assert client.wait(20) == 8
    terminal.forget()
    client = terminal.spawn(shared_engine.spawn, "exec", "-it", "c", "sh")
    terminal.expect(b"# ")
    terminal.type(b"\x10\x11")
    assert client.wait(20) == 0
    assert terminal.is_as_found


def test_a_killed_client_gives_the_terminal_back_and_the_shell_goes_on(
    shared_engine: Engine, terminal: PseudoTerminal, rootfs: Path
) -> None:
    client = shell(shared_engine, terminal, rootfs, "--name", "shell")
    assert terminal.is_raw
    client.send_signal(signal.SIGTERM)
    assert client.wait(20) == -signal.SIGTERM
    assert terminal.is_as_found
    assert shared_engine.inspect("shell")["State"]["Status"] == "running"
