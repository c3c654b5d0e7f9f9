"""The keeper brings the daemon back, keeps what must not be lost meanwhile, and knows when to give up."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.keeper import Backoff
from tests.keeper.support import ctxt_switches, error_line, events
from tests.support import processes
from tests.support.varlink import Wire, call
from tests.support.waiting import quickly, until

if TYPE_CHECKING:
    from tests.keeper.support import Supervisor


def test_a_killed_daemon_is_replaced_at_once(supervisor: Supervisor) -> None:
    supervisor.start()

    def back() -> float:
        pid = supervisor.daemon
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        # The listening socket never goes away; at worst the dead daemon took the connection with it.
        for _ in range(2):
            try:
                next_pid = supervisor.daemon
                break
            except (EOFError, ConnectionResetError):
                continue
        assert next_pid != pid
        return time.monotonic() - begun

    quickly(back, 2.0)


def test_a_client_waits_in_the_backlog_while_there_is_no_daemon(
    supervisor: Supervisor, short_path: Path
) -> None:
    gate = short_path / "gate"
    os.mkfifo(gate)
    supervisor.begin(environment={"STANDIN_SLOW": str(gate)})
    supervisor_socket = supervisor.socket
    descriptor = os.open(gate, os.O_WRONLY)  # waits until the daemon has come that far: the socket is there
    with Wire(supervisor_socket) as wire:
        wire.send("io.pyman.System.Version")
        os.close(descriptor)
        assert wire.receive()["parameters"]["Version"] == "0"


def test_the_daemon_dies_with_its_keeper(supervisor: Supervisor) -> None:
    supervisor.start()
    daemon = supervisor.daemon
    assert supervisor.end(signal.SIGKILL) == -signal.SIGKILL
    assert not processes.wait_gone([daemon], 10)


def test_the_next_supervisor_takes_over_what_a_killed_keeper_left(supervisor: Supervisor) -> None:
    supervisor.start()
    supervisor.end(signal.SIGKILL)
    supervisor.start()
    assert supervisor.info()["keeper_pid"] == supervisor.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(supervisor: Supervisor, number: int) -> None:
    supervisor.start()
    daemon = supervisor.daemon
    assert supervisor.end(number) == 0
    assert not os.path.exists(f"/proc/{daemon}")
    assert (supervisor.static / "shutdown").read_text() == "leave"
    assert not [name for name in os.listdir("/run/pyman") if name.startswith(supervisor.stem)]


def test_on_stop_says_what_becomes_of_containers(supervisor: Supervisor) -> None:
    supervisor.start("--on-stop=stop")
    assert supervisor.end() == 0
    assert (supervisor.static / "shutdown").read_text() == "stop"


def test_a_clean_end_of_the_daemon_is_the_end(supervisor: Supervisor) -> None:
    supervisor.start()
    assert supervisor.call("Shutdown", {"containers": "stop"}) == {}
    assert supervisor.wait() == 0
    assert (supervisor.static / "shutdown").read_text() == "stop"


def test_a_signal_during_the_start_ends_it_too(supervisor: Supervisor, short_path: Path) -> None:
    gate = short_path / "gate"
    os.mkfifo(gate)
    supervisor.begin(environment={"STANDIN_SLOW": str(gate)})
    descriptor = os.open(gate, os.O_WRONLY)
    try:
        assert supervisor.end() == 0
    finally:
        os.close(descriptor)


def test_what_prevents_the_start_is_one_line_and_no_second_try(supervisor: Supervisor) -> None:
    supervisor.begin(environment={"STANDIN_FAIL": "ConmonNotFound"})
    assert supervisor.wait() == 125
    line = error_line(supervisor.log)
    assert line == "Error: cannot start: the test wants ConmonNotFound: nothing can be done"
    assert not os.path.exists(supervisor.path / "run/pyman" / f"{supervisor.stem}.sock")


def test_a_typo_in_a_configuration_file_is_such_a_line(supervisor: Supervisor, short_path: Path) -> None:
    config = short_path / "containers.conf"
    config.write_text('[pyman]\nrestart_delay = "soon"\n')
    supervisor.begin(environment={"CONTAINERS_CONF": str(config)})
    assert supervisor.wait() == 125
    line = error_line(supervisor.log)
    assert line.startswith("Error: cannot ")
    assert all(word in line for word in (str(config), "restart_delay", "soon"))


def test_an_unknown_option_is_such_a_line(supervisor: Supervisor) -> None:
    supervisor.begin("--rot=/srv")
    assert supervisor.wait() == 125
    assert "'--rot=/srv'" in error_line(supervisor.log)


def test_a_daemon_that_never_comes_up_is_given_up(supervisor: Supervisor) -> None:
    supervisor.begin(environment={"STANDIN_CRASH": "3"})
    assert supervisor.wait() == 125
    assert "exit status 3" in error_line(supervisor.log)
    assert len(events(supervisor.log)) == 4


def test_a_daemon_that_ends_before_it_is_spoken_to_is_such_a_one(supervisor: Supervisor) -> None:
    supervisor.begin(environment={"STANDIN_EARLY": "3"})
    assert supervisor.wait() == 125
    assert "exit status 3" in error_line(supervisor.log)


def test_a_daemon_that_ends_before_its_keeper_listens_to_signals_is_noticed(supervisor: Supervisor) -> None:
    """No signal comes any more that would tell of it."""
    script = """
import os, sys
from supervisor import child
from supervisor.keeper import Keeper
from supervisor.report import Report
orders = child.Orders(["/bin/false"], {"root": sys.argv[1]}, os.environ)
started = child.spawn(orders)
os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
sys.exit(Keeper(orders, os.environ, Report(), started).run())
"""
    argv = [sys.executable, "-P", "-c", script, str(supervisor.root)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 125
    assert len(events(done.stderr)) == 4


def test_a_keeper_that_cannot_go_on_leaves_no_daemon(supervisor: Supervisor) -> None:
    """It has begun one before it could know."""
    supervisor.start()
    ours = {supervisor.pid, supervisor.daemon}
    argv = supervisor.command("--report-fd=1")
    done = subprocess.run(
        argv, env=supervisor.environment, check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 125
    assert json.loads(done.stdout)["code"] == "AlreadyRunning"
    until(lambda: processes.mentions([str(supervisor.root)]) - {os.getpid()} == ours, "a daemon stays")


def test_a_bug_is_logged_in_full_on_one_line(supervisor: Supervisor) -> None:
    supervisor.begin(environment={"STANDIN_BUG": "nobody expects"})
    record = json.loads(supervisor.await_log('"crashed"'))
    assert "RuntimeError: nobody expects" in record["exception"]
    assert supervisor.wait() == 125


def test_a_reload_during_the_start_is_done_after_it(supervisor: Supervisor, short_path: Path) -> None:
    gate, config = short_path / "gate", short_path / "containers.conf"
    os.mkfifo(gate)
    config.write_text("[pyman]\nrestart_reset = 11\n")
    supervisor.begin(environment={"STANDIN_SLOW": str(gate), "CONTAINERS_CONF": str(config)})
    descriptor = os.open(gate, os.O_WRONLY)
    config.write_text("[pyman]\nrestart_reset = 12\n")
    os.kill(supervisor.pid, signal.SIGHUP)
    os.close(descriptor)
    supervisor.await_log("configuration read")
    assert supervisor.info()["restart_reset"] == 12


def test_a_second_ctrl_c_ends_a_daemon_that_does_not_end(supervisor: Supervisor) -> None:
    supervisor.start()
    daemon = supervisor.daemon
    os.kill(daemon, signal.SIGSTOP)
    os.kill(supervisor.pid, signal.SIGINT)
    supervisor.await_notice(lambda lines: "STOPPING=1" in lines)
    assert supervisor.end(signal.SIGINT) == 1
    assert not processes.wait_gone([daemon], 20)


def test_a_failure_of_the_host_after_a_good_start_is_tried_again(
    supervisor: Supervisor, short_path: Path
) -> None:
    """A full disk may have room again; a configuration that was broken meanwhile does not mend itself."""
    config = short_path / "containers.conf"
    config.write_text("")
    supervisor.start(environment={"CONTAINERS_CONF": str(config)})
    supervisor.kill()
    root, aside = supervisor.root, short_path / "aside"
    daemon = supervisor.daemon
    root.rename(aside)
    root.write_text("in the way")
    os.kill(daemon, signal.SIGKILL)
    supervisor.await_log("cannot make the directory")
    root.unlink()
    aside.rename(root)
    supervisor.await_notice(lambda lines: "READY=1" in lines)
    config.write_text("[pyman]\nrestart_delay = -1\n")
    os.kill(supervisor.daemon, signal.SIGKILL)
    assert supervisor.wait() == 125
    assert "restart_delay" in error_line(supervisor.log)


def test_a_second_one_names_the_first(supervisor: Supervisor) -> None:
    supervisor.start()
    done = subprocess.run(
        supervisor.command(), env=supervisor.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert f"(pid {supervisor.pid})" in error_line(done.stderr)
    assert supervisor.info()["keeper_pid"] == supervisor.pid


def test_a_second_one_for_the_same_state_by_another_name_names_the_first(
    supervisor: Supervisor, short_path: Path
) -> None:
    """Another socket, the same state directory: only the lock in it tells."""
    supervisor.start()
    storage, config = short_path / "storage.conf", short_path / "containers.conf"
    storage.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{supervisor.root}"\nrunroot = "{short_path}/r"\n'
    )
    config.write_text("")
    done = subprocess.run(
        [*supervisor.command()[:2], f"--config={config}", f"--tmpdir={short_path}/other"],
        env={**supervisor.environment, "CONTAINERS_STORAGE_CONF": str(storage)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    line = error_line(done.stderr)
    assert f"(pid {supervisor.pid})" in line
    assert str(supervisor.static) in line


def test_the_lock_is_never_free_while_daemons_come_and_go(supervisor: Supervisor) -> None:
    supervisor.start()
    lock = os.open(supervisor.static / "supervisor.lock", os.O_RDWR)
    got_in, stop = [], threading.Event()

    def try_to_get_in() -> None:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            got_in.append(True)
            return

    intruder = threading.Thread(target=try_to_get_in)
    intruder.start()
    try:
        for _ in range(2):
            supervisor.kill()
    finally:
        stop.set()
        intruder.join()
        os.close(lock)
    assert not got_in


def test_a_supervisor_that_is_about_to_end_is_waited_for(supervisor: Supervisor) -> None:
    supervisor.start()
    first = supervisor.keeper
    assert first is not None
    assert first.stderr is not None
    supervisor.call("Shutdown")
    supervisor.start()
    try:
        assert first.wait(20) == 0
        assert supervisor.info()["keeper_pid"] == supervisor.pid != first.pid
    finally:
        first.stderr.close()


def test_how_an_orphan_of_an_earlier_daemon_ended_is_written_down_and_told(
    supervisor: Supervisor, short_path: Path
) -> None:
    fifo = short_path / "fifo"
    os.mkfifo(fifo)
    supervisor.start(environment={"STANDIN_CHILD": str(fifo)})
    orphan = int((short_path / "fifo.pid").read_text())
    start = int(Path(f"/proc/{orphan}/stat").read_text().rpartition(")")[2].split()[19])
    supervisor.kill()
    assert processes.parent(orphan) == supervisor.pid
    fifo.write_text("go\n")
    assert not processes.wait_gone([orphan], 10)
    while not supervisor.info()["reaped"]:
        assert processes.parent(supervisor.daemon) == supervisor.pid
    assert supervisor.info()["reaped"] == [[orphan, 7 << 8, start]]
    assert (supervisor.tmpdir / "reaped").read_text() == f"{orphan} {start} {7 << 8}\n"


def test_sighup_reads_the_configuration_again(supervisor: Supervisor, short_path: Path) -> None:
    config = short_path / "containers.conf"
    config.write_text("[pyman]\nrestart_reset = 11\n")
    supervisor.start(environment={"CONTAINERS_CONF": str(config)})
    assert supervisor.info()["restart_reset"] == 11
    config.write_text("[pyman]\nrestart_reset = 12\nevents_max_entries = 50000\n")
    os.kill(supervisor.pid, signal.SIGHUP)
    supervisor.await_notice(lambda lines: "RELOADING=1" in lines)
    supervisor.await_notice(lambda lines: "READY=1" in lines)
    assert supervisor.info()["restart_reset"] == 12
    config.write_text("[pyman]\nrestart_reset = 13\nevents_max_entries = 50000\n")
    assert supervisor.call("Reload") == {
        "changed": ["pyman.restart_reset"],
        "after_restart": ["pyman.events_max_entries"],
    }


def test_a_broken_configuration_is_not_taken_over(supervisor: Supervisor, short_path: Path) -> None:
    config = short_path / "containers.conf"
    config.write_text("[pyman]\nrestart_reset = 11\n")
    supervisor.start(environment={"CONTAINERS_CONF": str(config)})
    config.write_text("[pyman]\nrestart_reset = never\n")
    os.kill(supervisor.pid, signal.SIGHUP)
    supervisor.await_log("configuration not read")
    assert supervisor.info()["restart_reset"] == 11


def test_a_relative_configuration_file_means_the_directory_of_the_start(
    supervisor: Supervisor, short_path: Path
) -> None:
    (short_path / "my.conf").write_text("[pyman]\nrestart_reset = 17\n")
    supervisor.start(environment={"CONTAINERS_CONF": "my.conf"}, cwd=short_path)
    assert supervisor.info()["restart_reset"] == 17
    assert os.readlink(f"/proc/{supervisor.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{supervisor.daemon}/cwd") == "/"


def test_the_daemon_has_no_descriptor_that_a_child_could_inherit(supervisor: Supervisor) -> None:
    """A descriptor that is closed while it is looked at could be inherited by nobody any more."""
    supervisor.start()
    looked_at = 0
    for pid in (supervisor.pid, supervisor.daemon):
        for number in processes.descriptors(pid):
            if number > 2:
                try:
                    info = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                except FileNotFoundError:
                    continue
                looked_at += 1
                flags = int(
                    next(line.split()[1] for line in info.splitlines() if line.startswith("flags")), 8
                )
                assert flags & os.O_CLOEXEC, f"{number} of {pid}"
    assert looked_at > 2


def test_the_keeper_of_root_imports_nothing_that_only_an_ordinary_users_needs() -> None:
    script = "import sys, supervisor.entry, supervisor.keeper; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert not {"subprocess", "shutil", "tempfile", "supervisor.rootless.entering"} & set(done.stdout.split())


def test_a_ctrl_c_reaches_the_keeper_alone(supervisor: Supervisor) -> None:
    supervisor.start()
    assert os.getpgid(supervisor.daemon) != os.getpgid(supervisor.pid)


@pytest.mark.slow
def test_nobody_wakes_up_when_nothing_happens(secluded: Supervisor) -> None:
    """In a /run of its own: other supervisors' sockets come and go in the same directory."""
    secluded.start()
    pids = (secluded.pid, secluded.daemon)
    # A thread that has worked lives on for ten seconds.
    time.sleep(20)
    before = [ctxt_switches(pid) for pid in pids]
    time.sleep(10)
    assert [ctxt_switches(pid) for pid in pids] == before


def test_the_events_socket_admits_to_less(supervisor: Supervisor) -> None:
    supervisor.start()
    stem = supervisor.socket.removesuffix(".sock")
    assert call(f"{stem}-read.sock", "io.pyman.System.Version")["Version"] == "0"
    with Wire(f"{stem}-events.sock") as wire:
        wire.send("io.pyman.System.Version")
        assert wire.receive()["error"] == "io.pyman.PermissionDenied"
    with Wire(f"{stem}-read.sock") as wire:
        wire.send("io.pyman.System.Shutdown")
        assert wire.receive()["error"] == "io.pyman.PermissionDenied"


def test_the_wait_before_a_restart_doubles_and_begins_anew_after_a_long_run() -> None:
    backoff = Backoff()
    waits = [backoff.after(0.0) for _ in range(9)]
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0])
    assert backoff.after(9.9) == 10.0
    assert backoff.after(10.0) == 0.0
    assert backoff.after(0.0) == pytest.approx(0.1)
