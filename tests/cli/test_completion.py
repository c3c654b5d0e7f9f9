"""Completion: what fits at the end of a line, and the real bash asking for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pyman.cli.main import COMMANDS, main
from pyman.errors import EngineStopped
from tests.cli.fake import container, image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor


def candidates(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["__complete", "--no-desc", "--", *words]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    "words, expected",
    [
        (["p"], ["pause", "port", "ps", "pull", "push"]),
        (["image", "un"], ["unmount", "untag"]),
        (["manifest", "re"], ["remove"]),
        (["network", "c"], ["connect", "create"]),
        (["network", "ls", "--filter", "d"], ["dangling=", "driver="]),
        (["volume", "e"], ["exists", "export"]),
        (["volume", "ls", "--filter", "d"], ["dangling=", "driver="]),
        (["volume", "import", "x", ""], [":files"]),
        (["images", "--sort", "c"], ["created"]),
        (["images", "-f", "re"], ["readonly=", "reference="]),
        (["image", "prune", "--filter="], ["--filter=label=", "--filter=until="]),
        (["system", "prune", "--filter="], ["--filter=label=", "--filter=until="]),
        (["top", "web", "hp"], ["hpid"]),
        (["top", "-l", "pid", "hu"], ["huid", "huser"]),
        (["save", "--format", "oci"], ["oci-archive", "oci-dir"]),
        (["push", "--format="], ["--format=oci", "--format=v2s2"]),
        (["pull", "--policy", "n"], ["newer", "never"]),
        (["pull", "--sig"], []),
        (["push", "--sign-by", ""], []),
        (["load", "-i", ""], [":files"]),
        (["import", ""], [":files"]),
        (["import", "x", ""], []),
        (["build", "-t", "x", ""], [":files"]),
        (["build", "--ta"], ["--tag"]),
        (["login", ""], []),
        (["search", ""], []),
        (["container", "l"], ["list", "logs", "ls"]),
        (["system", "events", ""], ["prune"]),
        (["system", "re"], ["reload", "renumber", "reset"]),
        (["--log-level", "w"], ["warn", "warning"]),
        (["--log-level=d"], ["--log-level=debug"]),
        (["--root", ""], [":directories"]),
        (["--root", "/x", "ren"], ["rename"]),
        (["ps", "--no"], ["--no-trunc", "--noheading"]),
        (["ps", "--sort", "c"], ["command", "created"]),
        (["ps", "--filter", "n"], ["name=", "network="]),
        (["ps", "-a", "--sort=na"], ["--sort=names"]),
        (["kill", "-s", "HU"], ["HUP"]),
        (["run", "--restart", "on"], ["on-failure"]),
        (["create", "--env-file", ""], [":files"]),
        (["create", "--rootfs", ""], [":directories"]),
        (["create", "--rootfs", "/x", "--na"], [":files"]),
        (["create", "busybox", "sh", "-"], [":files"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["help", "contai"], ["container"]),
        (["xyzzy", ""], []),
        (["ps", ""], []),
        (["--xyzzy", "ps", "--no"], ["--no-trunc", "--noheading"]),
    ],
)
def test_candidates(capsys: pytest.CaptureFixture[str], words: list[str], expected: list[str]) -> None:
    assert candidates(capsys, *words) == expected


def test_the_first_word_may_be_any_command_that_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    found = candidates(capsys, "")
    assert set(found) == {name for name in COMMANDS if " " not in name and name[0] != "_"} | {
        "container",
        "healthcheck",
        "image",
        "manifest",
        "network",
        "secret",
        "system",
        "volume",
    }


def test_options_come_with_their_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "--", "ps", "--al"]) == 0
    assert capsys.readouterr().out == "--all\tAlso containers that do not run\n"


def test_containers_that_fit_the_verb_are_named_once(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.List"] = {"containers": [container(), container(Names=["db"], Id="0a26f50e30b7")]}
    assert candidates(capsys, "stop", "") == ["web", "db"]
    assert fake.calls[-1][1]["filters"] == {"status": ["running", "paused", "stopping"]}
    assert candidates(capsys, "rm", "-f", "web", "") == ["db"]
    assert fake.calls[-1][1]["filters"] == {}
    assert candidates(capsys, "rename", "web", "") == []
    assert candidates(capsys, "exec", "-it", "web", "") == [":files"]
    assert candidates(capsys, "inspect", "0a2") == ["0a26f50e30b7"]


def test_a_network_comes_before_a_container(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Container.List"] = {"containers": [container()]}
    fake.answers["Network.List"] = {"networks": [{"name": "podman", "driver": "bridge"}]}
    for verb in ("connect", "disconnect"):
        assert candidates(capsys, "network", verb, "") == ["podman"]
        assert candidates(capsys, "network", verb, "podman", "") == ["web"]
        assert candidates(capsys, "network", verb, "podman", "web", "") == []
    assert candidates(capsys, "network", "reload", "") == ["web"]


def test_images_are_named_in_full_and_by_the_end_of_their_names(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.List"] = {"images": [image(), image(id="77af4d6b9913" + 52 * "0", names=[])]}
    fake.answers["Container.List"] = {"containers": [container()]}
    assert candidates(capsys, "rmi", "") == [
        "registry.example/a/one:1",
        "localhost/two:latest",
        "77af4d6b9913",
    ]
    assert candidates(capsys, "rmi", "localhost/two:latest", "lo") == []
    assert candidates(capsys, "run", "-it", "on") == ["one:1"]
    assert candidates(capsys, "run", "-it", "one:1", "") == [":files"]
    assert candidates(capsys, "push", "one:1", "l") == ["localhost/two:latest"]
    assert candidates(capsys, "history", "77a") == ["77af4d6b9913"]
    assert candidates(capsys, "inspect", "") == [
        "web",
        "registry.example/a/one:1",
        "localhost/two:latest",
        "77af4d6b9913",
    ]
    assert candidates(capsys, "image", "diff", "two", "t") == ["two:latest"]
    assert candidates(capsys, "image", "tree", "two", "") == []


def test_networks_are_offered_and_containers_whose_network_is_joined(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Network.List"] = {"networks": [{"name": "podman", "driver": "bridge"}]}
    fake.answers["Container.List"] = {"containers": [container()]}
    assert candidates(capsys, "run", "--network", "p") == ["pasta", "private", "podman"]
    assert candidates(capsys, "create", "--network=po") == ["--network=podman"]
    assert candidates(capsys, "run", "-itd", "--rm", "--network=h") == ["--network=host"]
    assert candidates(capsys, "run", "--network", "container:") == ["container:", "container:web"]


def test_lists_are_offered_where_a_list_is_meant(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Image.List"] = {"images": []}
    assert candidates(capsys, "manifest", "add", "") == []
    assert fake.calls[-1][1] == {"filters": {"manifest": ["true"]}}
    assert candidates(capsys, "manifest", "add", "list", "") == []
    assert fake.calls[-1][1] == {"filters": {}}


def test_an_engine_in_trouble_offers_no_names(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.List"] = EngineStopped("cannot list containers: the supervisor is ending")
    assert candidates(capsys, "stop", "") == []


def test_completing_starts_no_supervisor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyman.wire.socket_path", lambda *_: str(tmp_path / "none"))
    assert candidates(capsys, "stop", "") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script_that_it_can_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "__complete" in script
    path = tmp_path / "script"
    assert main(["completion", "-f", str(path), shell]) == 0
    assert path.read_text() == script
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(path)], check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 125
    assert capsys.readouterr().err == (
        "Error: cannot complete for the shell 'tcsh': known are bash, zsh, fish\n"
    )


@pytest.fixture
def bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A script that completes its first argument as the real bash does."""
    main(["completion", "bash"])
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pyman"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m pyman.cli "$@"\n')
    program.chmod(0o755)
    asker = tmp_path / "ask"
    asker.write_text(
        f"""PATH={tmp_path}/bin:$PATH
cd {tmp_path}
source {tmp_path}/completion
COMP_LINE=$1 COMP_POINT=${{#1}} COMP_CWORD=1 COMP_WORDS=()
_pyman
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    )
    (tmp_path / "env.txt").touch()
    return asker


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
@pytest.mark.parametrize(
    "line, expected",
    [
        ("pyman renam", ["rename"]),
        ("pyman container in", ["init", "inspect"]),
        ("pyman ps --sort ru", ["runningfor"]),
        ("pyman run --restart=un", ["unless-stopped"]),
        ("pyman run --env-file env", ["env.txt"]),
        ("pyman create --rootfs bi", ["bin"]),
        ("pyman completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes(bash: Path, line: str, expected: list[str]) -> None:
    done = subprocess.run(["bash", str(bash), line], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
