"""The verbs against a real supervisor and real containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyman.wire import socket_path

if TYPE_CHECKING:
    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")  # what the command line does depends on no OCI runtime


@pytest.fixture
def fs(rootfs: Path) -> str:
    return f"{rootfs}:O"


def test_a_container_lives_through_every_verb(shared_engine: Engine, fs: str) -> None:
    engine = shared_engine
    identity = engine.out("create", "--name", "web", "--rootfs", fs, "sleep", "1000")
    assert len(identity) == 64
    assert engine.out("ps", "-a", "--format", "{{.Names}} {{.Status}}") == "web Created"
    assert engine.out("init", "web") == "web"
    assert engine.out("ps", "-a", "--format", "{{.Status}}") == "Initialized"
    assert engine.out("start", identity[:12]) == identity[:12]
    assert engine.out("ps", "--format", "{{.State}}").startswith("Up ")
    assert engine.out("pause", "web") == "web"
    assert engine.out("inspect", "-f", "{{.State.Paused}} {{.State.Status}}", "web") == "true paused"
    assert engine.out("unpause", "-a") == identity
    assert engine.out("restart", "-t", "0", "web") == "web"
    assert engine.cli("rename", "web", "www").stdout == ""
    assert engine.cli("exists", "web", check=False).returncode == 1
    assert engine.cli("container", "exists", "www").returncode == 0
    assert engine.out("kill", "www") == "www"
    assert engine.out("wait", "www") == "137"
    assert engine.out("ps", "-a", "--format", "{{.Status}}").startswith("Exited (137) ")
    assert engine.out("rm", "www") == "www"
    assert engine.out("ps", "-aq") == ""


def test_a_start_of_several_does_what_it_can(shared_engine: Engine, fs: str) -> None:
    for name in ("one", "two"):
        shared_engine.cli("create", "--name", name, "--rootfs", fs, "sleep", "1000")
    done = shared_engine.cli("start", "one", "nope", "two", check=False)
    assert (done.returncode, done.stdout.split()) == (125, ["one", "two"])
    assert done.stderr.startswith("Error: ")
    assert "nope" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(shared_engine.out("stop", "-t", "0", "--all").split()) == 2


def test_rm_says_by_its_exit_status_why_it_could_not(shared_engine: Engine, fs: str, tmp_path: Path) -> None:
    cid = tmp_path / "cid"
    shared_engine.cli("create", "--cidfile", cid, "--name", "web", "--rootfs", fs, "sleep", "1000")
    shared_engine.cli("start", "web")
    assert shared_engine.cli("rm", "nope", check=False).returncode == 1
    assert shared_engine.cli("rm", "-i", "nope").stdout == ""
    assert shared_engine.cli("rm", "web", check=False).returncode == 2
    assert shared_engine.out("rm", "-f", "-t", "0", "--cidfile", cid) == cid.read_text()


def test_what_was_asked_for_is_what_inspect_shows(shared_engine: Engine, fs: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("FILE=1\nTAKEN\n")
    shared_engine.cli(
        "create", "--name", "web", "-e", "A=1", "-e", "TAKEN_TOO", "--env-file", tmp_path / "env", "-l", "k=v", "-u",
        "1:2", "-w", "/tmp", "-h", "host", "--annotation", "x=y", "--restart", "on-failure:3", "--restart-delay", "1m",
        "--stop-timeout", "7", "--stop-signal", "INT", "--ulimit", "nofile=10:20", "--log-opt", "max-size=1mb",
        "--log-opt", "max-file=3", "--entrypoint", '["sh","-c"]', "--umask", "0027", "--read-only", "-it", "--rootfs",
        fs, "true",
        env={"TAKEN": "t", "TAKEN_TOO": "tt"},
    )  # fmt: skip
    told = json.loads(shared_engine.out("inspect", "web"))[0]
    config, host = told["Config"], told["HostConfig"]
    assert {"A=1", "FILE=1", "TAKEN=t", "TAKEN_TOO=tt"} <= set(config["Env"])
    assert (config["User"], config["WorkingDir"], config["Hostname"]) == ("1:2", "/tmp", "host")
    assert (config["Tty"], config["OpenStdin"], config["Umask"]) == (True, True, "0027")
    assert (config["Labels"], config["StopSignal"], config["StopTimeout"]) == ({"k": "v"}, 2, 7)
    assert (told["Path"], told["Args"]) == ("sh", ["-c", "true"])
    assert config["CreateCommand"][0] == "pyman"
    assert config["CreateCommand"][-1] == "true"
    policy = host["RestartPolicy"]
    assert (policy["Name"], policy["MaximumRetryCount"], policy["Delay"]) == ("on-failure", 3, 60)
    assert host["ReadonlyRootfs"] is True
    assert (host["LogConfig"]["Type"], host["LogConfig"]["Size"]) == ("k8s-file", "1MB")
    assert (host["Memory"], host["GroupAdd"], told["State"]["Health"]["Status"]) == (0, [], "")
    assert {"soft": 10, "hard": 20} in [
        {key.lower(): limit[key] for key in limit if key.lower() != "name"} for limit in host["Ulimits"]
    ]


def test_a_container_that_runs_again_has_no_exit_code(shared_engine: Engine, fs: str) -> None:
    shared_engine.cli("create", "--name", "web", "-i", "--log-driver", "json-file", "--rootfs", fs, "cat")
    shared_engine.cli("start", "web")
    shared_engine.cli("kill", "web")
    shared_engine.cli("wait", "web")
    form = "{{.State.ExitCode}} {{.HostConfig.LogConfig.Type}}"
    assert shared_engine.out("inspect", "-f", form, "web") == "137 json-file"
    for state in ("exited", "stopped"):
        assert shared_engine.out("ps", "-f", f"status={state}", "--format", "{{.ExitCode}}") == "137"
    shared_engine.cli("start", "web")
    assert shared_engine.out("inspect", "-f", "{{.State.ExitCode}}", "web") == "0"
    assert shared_engine.out("ps", "--format", "{{.ExitCode}}") == "0"


def test_ps_alone_shows_what_runs_and_not_what_is_paused(shared_engine: Engine, fs: str) -> None:
    for name in ("a", "b"):
        shared_engine.cli("create", "--name", name, "--rootfs", fs, "sleep", "1000")
        shared_engine.cli("start", name)
    shared_engine.cli("pause", "b")
    assert shared_engine.out("ps", "--format", "{{.Names}}") == "a"
    assert shared_engine.out("ps", "-f", "status=paused", "--format", "{{.Names}}") == "b"


def test_an_engine_with_another_root_cannot_take_the_directory_for_what_runs(
    shared_engine: Engine, fs: str, tmp_path: Path
) -> None:
    shared_engine.cli("create", "--name", "web", "--rootfs", fs, "sleep", "1000")
    shared_engine.cli("start", "web")
    other = str(tmp_path / "other")
    try:
        done = shared_engine.cli("--root", other, "ps", check=False)
    finally:
        log = socket_path(root=other, config="", environ={}, uid=0).removesuffix(".sock") + ".log"
        Path(log).unlink(missing_ok=True)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"Error: cannot use the directory '{shared_engine.tmpdir}': the engine with its state in "
        f"'{shared_engine.root}/pyman' does: give another --tmpdir\n"
    )
    assert shared_engine.out("exec", "web", "echo", "unharmed") == "unharmed"


def test_waiting_for_a_name_that_does_not_exist_is_refused_at_once(shared_engine: Engine, fs: str) -> None:
    shared_engine.cli("create", "--name", "web", "--rootfs", fs, "sleep", "1000")
    shared_engine.cli("start", "web")
    done = shared_engine.cli("wait", "web", "nope", check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "Error: cannot find container 'nope'\n"
    assert shared_engine.cli("wait", "--ignore", "nope").stdout == "-1\n"


def test_filters_sorting_and_forms_of_ps(shared_engine: Engine, fs: str) -> None:
    shared_engine.cli("create", "--name", "b", "-l", "tier=1", "--rootfs", fs, "true")
    shared_engine.cli("create", "--name", "a", "-l", "tier=2", "--rootfs", fs, "sleep", "1000")
    shared_engine.cli("start", "a")
    assert shared_engine.out("ps", "-a", "--format", "{{.Names}}").split() == ["b", "a"]
    assert shared_engine.out("ps", "-a", "--sort", "names", "--format", "{{.Names}}").split() == ["a", "b"]
    assert shared_engine.out("ps", "-a", "-f", "label=tier=1", "--format", "{{.Names}}") == "b"
    assert shared_engine.out("ps", "-f", "status=created", "--format", "{{.Names}}") == "b"
    assert shared_engine.out("ps", "-l", "--format", "{{.Names}}") == "a"
    told = json.loads(shared_engine.out("ps", "--format", "json"))
    assert [(one["Names"], one["State"], one["Labels"]) for one in told] == [
        (["a"], "running", {"tier": "2"})
    ]
    lines = shared_engine.cli("ps", "--ns").stdout.splitlines()
    assert lines[1].split()[2] == str(told[0]["Pid"])
    assert lines[1].split()[5] == os.readlink(f"/proc/{told[0]['Pid']}/ns/mnt")[5:-1]
    assert shared_engine.cli("ps", "-f", "nope=1", check=False).returncode == 125


def test_why_tells_what_became_of_a_restart(shared_engine: Engine, fs: str) -> None:
    shared_engine.cli(
        "create",
        "--name",
        "crash",
        "--restart",
        "on-failure:2",
        "--restart-delay",
        "0",
        "--rootfs",
        fs,
        "false",
    )
    shared_engine.cli("start", "crash")
    shared_engine.await_event(lambda event: event["Status"] == "restart-declined")
    assert shared_engine.out("wait", "--condition", "exited", "crash") == "1"
    told = json.loads(shared_engine.out("why", "--format", "json", "crash"))
    assert "2 times" in told["summary"]
    assert [step["status"] for step in told["steps"]].count("died") == 3
    assert shared_engine.out("why", "crash").splitlines()[0] == f"crash: {told['summary']}"


def test_update_changes_the_policy_of_a_container_that_exists(shared_engine: Engine, fs: str) -> None:
    identity = shared_engine.out("create", "--name", "web", "--rootfs", fs, "true")
    assert shared_engine.out("update", "--restart", "unless-stopped", "web") == identity
    assert shared_engine.out("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "web") == "unless-stopped"


def test_a_replaced_container_keeps_the_name(shared_engine: Engine, fs: str) -> None:
    old = shared_engine.out("create", "--name", "web", "--rootfs", fs, "sleep", "1000")
    shared_engine.cli("start", "web")
    refused = shared_engine.cli("create", "--name", "web", "--rootfs", fs, "true", check=False)
    assert refused.returncode == 125
    assert "web" in refused.stderr
    new = shared_engine.out("create", "--replace", "--name", "web", "--rootfs", fs, "true")
    assert shared_engine.out("ps", "-aq", "--no-trunc") == new != old


def test_prune_removes_what_does_not_run(shared_engine: Engine, fs: str) -> None:
    kept = shared_engine.out("create", "--name", "kept", "--rootfs", fs, "sleep", "1000")
    shared_engine.cli("start", "kept")
    gone = shared_engine.out("create", "--name", "gone", "--rootfs", fs, "true")
    asked = shared_engine.cli("container", "prune", input="n\n")
    assert "Are you sure" in asked.stdout
    assert shared_engine.out("container", "prune", "--force") == gone
    assert shared_engine.out("ps", "-aq", "--no-trunc") == kept


def test_the_engine_tells_about_itself(shared_engine: Engine, fs: str) -> None:
    told = json.loads(shared_engine.out("version", "--format", "json"))
    assert told["Client"]["Version"] == told["Server"]["Version"]
    assert told["Client"]["APIVersion"] == told["Server"]["APIVersion"]
    assert shared_engine.out("info", "-f", "{{.Supervisor.Pid}}") == str(shared_engine.pid)
    form = (
        "{{.Host.IDMappings.UIDMap}} {{len .Host.CgroupControllers}} {{.Host.CPUUtilization.IdlePercent}} "
        "{{.Host.Security.SECCOMPEnabled}} {{.Host.ServiceIsRemote}} {{.Store.ImageStore.Number}} {{.Version.Os}}"
    )
    mapping, controllers, idle, *rest = shared_engine.out("info", "-f", form).split()
    assert (mapping, rest) == ("<nil>", ["true", "false", "0", "linux"])
    assert int(controllers) > 2
    assert 0 <= float(idle) <= 100
    form = "{{.Host.Pasta.Executable}} {{.Host.Slirp4netns.Executable}}"
    wanted = [shutil.which("pasta"), shutil.which("slirp4netns")]
    assert shared_engine.out("info", "-f", form).split() == wanted
    form = (
        "{{.Host.NetworkBackend}} {{.Host.NetworkBackendInfo.Backend}} {{.Host.NetworkBackendInfo.DNS.Path}}"
    )
    assert shared_engine.out("info", "-f", form) == "pyman pyman /usr/lib/podman/aardvark-dns"
    assert "\nsupervisor:\n  pid: " in shared_engine.cli("info").stdout
    shared_engine.cli("create", "--name", "web", "--rootfs", fs, "true")
    assert shared_engine.cli("system", "locks").stdout.splitlines()[1].endswith("web")
    assert shared_engine.cli("system", "check").stdout == "No problems found\n"
    assert shared_engine.cli("system", "reload").returncode == 0


def test_it_does_so_where_somebody_has_taken_its_storage_away(shared_engine: Engine) -> None:
    storage = shared_engine.root / "pyman"
    aside = storage.rename(shared_engine.root / "aside")
    try:
        told = json.loads(shared_engine.out("info", "--format", "json"))
    finally:
        aside.rename(storage)
    assert (told["supervisor"]["databaseBytes"], told["store"]["graphRootUsed"]) == (None, None)
    told = json.loads(shared_engine.out("info", "--format", "json"))
    assert told["supervisor"]["databaseBytes"] > 0
    assert told["store"]["graphRootUsed"] > 0


def test_another_option_than_the_supervisors_is_refused_by_name(shared_engine: Engine) -> None:
    words = [word for word in shared_engine.command("ps") if not word.startswith("--tmpdir")]
    words.insert(1, "--tmpdir=/tmp/elsewhere")
    refused = subprocess.run(
        words, env=shared_engine.environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 125
    assert refused.stderr.startswith("Error: cannot use --tmpdir")


def test_completion_offers_the_containers_that_there_are(shared_engine: Engine, fs: str) -> None:
    shared_engine.cli("create", "--name", "web", "--rootfs", fs, "sleep", "1000")
    words = shared_engine.selection
    assert shared_engine.out("__complete", "--no-desc", "--", *words, "start", "") == "web"
    assert shared_engine.out("__complete", "--no-desc", "--", *words, "stop", "") == ""
