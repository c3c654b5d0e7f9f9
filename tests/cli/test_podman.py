"""The same template and the same env file give what the installed Podman makes of them.

Podman runs with roots of its own and only creates a container, which needs no
OCI runtime; its JSON is then the data of our templates.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.template import Template
from pyman.cli.values import environment, labels, read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not shutil.which("podman") or os.geteuid() != 0, reason="needs Podman, and root for its storage"
)

ENV_FILE = """\
# a comment
  # another
PLAIN=value
EMPTY=
SPACES=  kept  
QUOTED="stays"
HASH=a # b
EQUALS=a=b=c
   INDENTED=x
PYMAN_COMPARED
PYMAN_MISSING
PYMAN_STAR_*
"""  # noqa: W291 - what becomes of blanks at the end is the question
CALLER = {"PYMAN_COMPARED": "here", "PYMAN_STAR_1": "one", "PYMAN_STAR_2": "two"}
LABEL_FILE = "# a comment\nfile=1\nbare\n  indented=y z\nboth=file\n"


class Podman:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "fs").mkdir()
        self.options = [
            "--root", str(directory / "root"), "--runroot", str(directory / "run"), "--tmpdir", str(directory / "tmp"),
            "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--log-level", "error",
        ]  # fmt: skip

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["podman", *self.options, *words],
            capture_output=True,
            text=True,
            env={**os.environ, **CALLER},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses(self, *words: str) -> bool:
        """A Podman that fails leaves its storage mounted; the next one that does not clears that up."""
        try:
            self(*words)
        except AssertionError:
            self("ps", "-q")
            return True
        return False


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    directory = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))  # Podman refuses a long runroot
    podman = Podman(directory)
    (directory / "env").write_text(ENV_FILE)
    (directory / "labels").write_text(LABEL_FILE)
    podman(
        "create", "--name", "compared", "--network", "none", "--restart", "on-failure:3", "--stop-timeout", "7",
        "--env-file", str(directory / "env"), "--label-file", str(directory / "labels"),
        "-l", "both=line", "-l", "quote=a\"b<c>&ä", "--rootfs", str(directory / "fs"), "sh", "-c", "echo \"x\" 'y'",
    )  # fmt: skip
    yield podman
    podman("rm", "compared")
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def data(podman: Podman) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("inspect", "compared"))[0]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "{{.Id}} {{.ID}} {{.Name}} {{.Path}} {{.Args}}",
        "{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.OOMKilled}}",
        "{{.Config.Cmd}} {{.Config.Labels}} {{.Config.StopTimeout}} {{.Config.Tty}}",
        "{{.HostConfig.RestartPolicy}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}",
        "{{json .Config.Cmd}} {{json .State.Running}} {{json .HostConfig.RestartPolicy}} {{json .Config.Labels}}",
        "{{index .Config.Labels `both`}}|{{index .Config.Labels `file`}}|{{index .Config.Labels `nope`}}|",
        "{{.Config.Labels.nope}} {{.Config.Labels.file}}",
        "{{range .Args}}<{{.}}>{{end}}",
        "x{{range $i, $a := .Args}}{{$i}}:{{$a}};{{end}}",
        "x{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
        "x{{range .Mounts}}never{{else}}none{{end}}",
        "{{if .State.Running}}yes{{else if eq .Name `compared`}}named{{else}}no{{end}}",
        "{{if and (not .State.Running) (or .Pod .Name)}}a{{end}}{{with .Pod}}b{{else}}c{{end}}",
        "{{with .State}}{{.Status}}{{end}}",
        '{{$n := .Name}}{{$n | upper | printf `%s-%q-%5d|%-4v|%x` `a` `b"` 7 true}}',
        "{{join .Args `,`}} {{upper .Name}} {{lower `ABC`}} {{title `a bc`}} {{split `a,b` `,`}} {{len .Args}}",
        "{{.Name | printf `%-12s|`}} {{printf `%v %v` .Args .State.Running}} {{println .Name 1 2}}",
        "{{eq 1 1}} {{ne .Name `x`}} {{lt 1 2}} {{ge 1 2}} {{eq .Name `a` `compared`}} {{slice .Name 1 3}}",
        "a  {{- .Name -}}  b {{/* comment */}}c",
        "{{print 1 2 .Name 3}} {{printf `%d%%` 5}} {{printf `%t` true}} {{printf `%s` 5}} {{printf `%d`}}",
        "\\t{{.Name}}\\n{{.Name}}",
        "{{.HostConfig.Ulimits | len | eq 0}}",
        "{{index .Args 0}}{{(index .Args 1) | len}}",
    ],
)
def test_a_template_prints_what_podman_prints(podman: Podman, data: dict[str, Any], text: str) -> None:
    made = Template(text).render(data)
    assert made.rstrip("\n") == podman("inspect", "--format", text, "compared").rstrip("\n")


@pytest.mark.parametrize(
    "text", ["{{.Foo}}", "{{.State.Foo}}", "{{.Id.X}}", "{{foo}}", "{{.Id", "{{end}}", "{{if .Id}}"]
)
def test_what_podman_refuses_is_refused(podman: Podman, data: dict[str, Any], text: str) -> None:
    assert podman.refuses("inspect", "--format", text, "compared")
    with pytest.raises(Exception, match="cannot use the template"):
        Template(text).render(data)


def test_an_env_file_means_what_it_means_to_podman(podman: Podman, data: dict[str, Any]) -> None:
    ours = environment(read_pairs(str(podman.directory / "env"), "--env-file"), CALLER, "the file")
    theirs = dict(pair.split("=", 1) for pair in data["Config"]["Env"])
    assert {name: theirs.get(name) for name in ours} == ours
    assert set(theirs) - set(ours) == {"PATH", "TERM", "HOSTNAME", "container", "HOME"} & set(theirs)


def test_a_label_file_means_what_it_means_to_podman(podman: Podman, data: dict[str, Any]) -> None:
    ours = labels(read_pairs(str(podman.directory / "labels"), "--label-file"), "the file")
    # Podman gives a bare label the value of the caller's variable of that name, or drops it; we keep it, empty.
    assert ours.pop("bare") == ""
    assert {**ours, "both": "line", "quote": 'a"b<c>&ä'} == data["Config"]["Labels"]
