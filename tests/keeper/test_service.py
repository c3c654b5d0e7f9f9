"""The systemd units: what is written where, and that systemd accepts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PYMAN = Path(sys.executable).with_name("pyman")
UNITS = ["pyman.service", "pyman.socket"]


def _service(*words: str, home: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYMAN, "system", "service", *words],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
        capture_output=True,
        text=True,
        check=check,
    )


@pytest.mark.parametrize("kind", ["system", "user"])
def test_systemd_accepts_the_units(tmp_path: Path, kind: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    user = ["--user"] if kind == "user" else []
    _service("install", *user, f"--unit-dir={tmp_path}", home=tmp_path)
    done = subprocess.run(
        ["systemd-analyze", *user, "verify", *(tmp_path / unit for unit in UNITS)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.parametrize("kind", ["system", "user"])
def test_the_units_agree_with_the_program(tmp_path: Path, kind: str) -> None:
    user = ["--user"] if kind == "user" else []
    _service("install", *user, f"--unit-dir={tmp_path}", home=tmp_path)
    service = (tmp_path / "pyman.service").read_text().splitlines()
    program = next(line.partition("=")[2] for line in service if line.startswith("ExecStart="))
    assert os.access(program, os.X_OK)
    for line in ("Type=notify", "NotifyAccess=all", "KillMode=process", "Delegate=yes", "Restart=on-failure"):
        assert line in service
    assert "RestartPreventExitStatus=125" in service
    sockets = (tmp_path / "pyman.socket").read_text().splitlines()
    assert "ListenStream=%t/pyman/pyman.sock" in sockets
    assert "SocketMode=0600" in sockets
    assert "DirectoryMode=0700" in sockets


def test_a_users_units_go_where_the_user_has_them(tmp_path: Path) -> None:
    done = _service("install", "--user", home=tmp_path)
    directory = tmp_path / ".config/systemd/user"
    assert sorted(os.listdir(directory)) == UNITS
    if not os.path.isdir("/run/systemd/system"):
        assert "No systemd runs here" in done.stdout
    assert "systemctl --user enable --now pyman.socket" in done.stdout


def test_status_says_what_is_installed_and_that_nobody_answers(tmp_path: Path) -> None:
    where = f"--unit-dir={tmp_path}/units"
    root = [f"--root={tmp_path}/root"]
    before = subprocess.run(
        [PYMAN, *root, "system", "service", "status", where], capture_output=True, text=True, check=False
    )
    assert before.returncode == 3
    assert before.stdout.count(": not installed") == 2
    assert "cannot reach a supervisor" in before.stdout
    _service("install", where, home=tmp_path)
    (tmp_path / "units/pyman.socket").write_text("[Socket]\n")
    after = _service("status", where, home=tmp_path, check=False).stdout.splitlines()
    assert f"{tmp_path}/units/pyman.service: installed" in after
    assert f"{tmp_path}/units/pyman.socket: installed, not as this version writes it" in after


def test_uninstall_removes_what_install_wrote(tmp_path: Path) -> None:
    where = f"--unit-dir={tmp_path}/units"
    _service("install", where, home=tmp_path)
    _service("uninstall", where, home=tmp_path)
    assert os.listdir(tmp_path / "units") == []
    assert "nothing is installed" in _service("uninstall", where, home=tmp_path).stdout


def test_a_unit_for_another_supervisor_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [PYMAN, f"--root={tmp_path}", "system", "service", "install", f"--unit-dir={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert done.stderr.startswith("Error: cannot install the service with --root")
    assert os.listdir(tmp_path) == []


def test_an_unknown_word_is_an_error(tmp_path: Path) -> None:
    done = _service("restart", home=tmp_path, check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("Error: unknown action 'restart' of the service")
