"""Names, labels, variables and paths that nobody would want: refused in one clean line, or carried byte for byte."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    from tests.faults.conftest import Faulty

MEGABYTE = 1 << 20


def clean(done: subprocess.CompletedProcess[str]) -> None:
    """One line that cannot do anything to a terminal."""
    assert done.returncode in (125, 1), done
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith("\n")
    line = done.stderr[:-1]
    assert [c for c in line if ord(c) < 32 or 127 <= ord(c) < 160] == [], repr(line)
    assert len(line) < 2000, len(line)


def refused_by_engine(engine: Faulty, method: str, parameters: dict[str, Any]) -> VarlinkError:
    with pytest.raises(VarlinkError) as caught:
        engine.call(f"io.pyman.Container.{method}", parameters)
    assert caught.value.name == "io.pyman.InvalidArgument", caught.value
    return caught.value


NAMES = {
    "300 characters": "n" * 300,
    "newline": "two\nlines",
    "escape": "\x1b]0;title\x07red\x1b[31m",
    "slash": "a/b",
    "empty": "",
    "spaces": "a b",
    "dash": "-rf",
    "dot": "..",
    "c1": "csi\x9b31m",
    "bidi": "abc\u202edef",
    "no ascii": "čaj",
}


@pytest.mark.parametrize("name", [name for key, name in NAMES.items() if key != "empty"], ids=lambda _: "")
@pytest.mark.parametrize("verb", ["create", "rename"])
def test_a_bad_name_is_refused_without_repeating_what_it_would_do(
    faulty: Faulty, rootfs: Path, name: str, verb: str
) -> None:
    if verb == "create":
        clean(faulty.cli("create", f"--name={name}", "--rootfs", rootfs, "true", check=False))
        assert faulty.out("ps", "-aq") == ""
    else:
        faulty.cli("create", "--name", "good", "--rootfs", rootfs, "true")
        clean(faulty.cli("rename", "--", "good", name, check=False))
        assert faulty.out("ps", "-a", "--format", "{{.Names}}") == "good"


@pytest.mark.parametrize("name", list(NAMES.values()), ids=lambda _: "")
@pytest.mark.parametrize("verb", ["inspect", "start", "rm", "logs", "exec", "attach", "wait", "why", "stop"])
def test_a_name_that_cannot_exist_is_no_container(faulty: Faulty, verb: str, name: str) -> None:
    more = ["true"] if verb == "exec" else []
    clean(faulty.cli(verb, "--", name, *more, check=False))


@pytest.mark.parametrize(
    "option",
    [("--label", b"a=\xff\xfe"), ("--env", b"A=\xff"), ("--name", b"\xc3\x28"), ("--hostname", b"\xff")],
)
def test_what_is_no_utf_8_is_refused_on_the_command_line(
    faulty: Faulty, rootfs: Path, option: tuple[str, bytes]
) -> None:
    before, after = faulty.command("create", option[0]), ["--rootfs", str(rootfs), "true"]
    words = [*map(os.fsencode, before), option[1], *map(os.fsencode, after)]
    done = subprocess.run(words, env=faulty.environment, capture_output=True, check=False)
    text = done.stderr.decode()  # an error itself is UTF-8
    clean(subprocess.CompletedProcess(words, done.returncode, "", text))
    assert faulty.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    "field, value",
    [
        ("name", "a\0b"),
        ("hostname", "a\0b"),
        ("work_dir", "/a\0b"),
        ("user", "a\0b"),
        ("rootfs", "/\0"),
        ("command", ["true\0"]),
        ("entrypoint", ["true\0"]),
        ("env", {"A\0B": "c"}),
        ("env", {"A": "b\0c"}),
        ("env", {"": "c"}),
        ("env", {"A=B": "c"}),
        ("pid_file", "/run/\0"),
        ("hostname", "two\nlines"),
        ("log_configuration", {"path": "/tmp/\0"}),
        ("log_configuration", {"tag": "a\0b"}),
        ("groups", ["a\0b"]),
        ("init_path", "/a\0b"),
        ("oci_runtime", "/a\0b"),
    ],
)
def test_a_nul_or_what_else_no_process_can_be_given_is_refused_before_anything_is_made(
    faulty: Faulty, rootfs: Path, field: str, value: object
) -> None:
    spec = {"rootfs": str(rootfs), "command": ["true"], field: value}
    with pytest.raises(VarlinkError) as caught:
        faulty.call("io.pyman.Container.Create", {"spec": spec})
    assert caught.value.name in ("io.pyman.InvalidArgument", "io.pyman.RuntimeNotFound"), caught.value
    assert faulty.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    "field, value", [("command", ["a\0"]), ("env", {"A": "\0"}), ("user", "\0"), ("work_dir", "/\0")]
)
def test_a_nul_in_an_exec_request_is_refused(faulty: Faulty, rootfs: Path, field: str, value: object) -> None:
    faulty.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    with faulty.wire() as wire, pytest.raises(VarlinkError) as caught:
        list(wire.stream("io.pyman.Container.Exec", {"name": "c", "command": ["true"], field: value}))
    assert caught.value.name == "io.pyman.InvalidArgument"
    assert faulty.inspect("c")["ExecIDs"] == []


def test_labels_and_variables_carry_any_text_and_reach_a_terminal_harmlessly(
    faulty: Faulty, rootfs: Path
) -> None:
    odd = "tab\there\nline \x1b[31mred \u202e čaj \U0001f600"
    options = ("--label", f"odd={odd}", "--env", f"ODD={odd}", "--annotation", f"odd={odd}")
    id = faulty.out("create", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", 'echo "$ODD"')
    inspected = faulty.inspect("c")["Config"]
    assert inspected["Labels"]["odd"] == odd
    assert f"ODD={odd}" in inspected["Env"]
    assert faulty.cli("start", "-a", "c").stdout == f"{odd}\n"
    table = faulty.cli("ps", "-a", "--format", "table {{.Names}}\t{{.Labels}}").stdout
    lines = faulty.cli("events", "--stream=false", "--filter", f"container={id}").stdout
    assert "\x1b" not in table + lines
    created = [line for line in lines.splitlines() if " create " in line]
    assert len(created) == 1


def test_a_command_with_control_characters_does_nothing_to_a_terminal_that_lists_it(
    faulty: Faulty, rootfs: Path
) -> None:
    faulty.cli("create", "--name", "c", "--rootfs", rootfs, "echo", "\x1b[2J\nowned")
    table = faulty.cli("ps", "-a", "--no-trunc").stdout
    assert "\x1b" not in table
    assert table.count("\n") == 2


def test_an_environment_above_what_a_process_can_be_given_is_a_clear_error(
    faulty: Faulty, rootfs: Path, tmp_path: Path
) -> None:
    """The kernel's bound for one string is 128 KiB; a file may hold what a command line cannot."""
    env_file = tmp_path / "env"
    for text in ("A=" + "x" * (2 * MEGABYTE), "\n".join(f"V{n}=" + "x" * 1000 for n in range(2000))):
        env_file.write_text(text + "\n")
        options = ("--env-file", str(env_file), "--rootfs", f"{rootfs}:O")
        done = faulty.cli("run", "--rm", *options, "true", check=False)
        assert done.returncode in (125, 126)
        assert done.stderr.startswith("Error: cannot ")
        assert done.stderr.count("\n") == 1
        assert len(done.stderr) < 2000
        assert faulty.out("ps", "-aq") == ""


def test_a_large_environment_that_fits_arrives(faulty: Faulty, rootfs: Path, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"V{n}={'x' * 1000}\n" for n in range(400)))
    options = ("--env-file", str(env_file), "--rootfs", f"{rootfs}:O")
    text = faulty.out("run", "--rm", *options, "sh", "-c", "env | grep -c ^V")
    assert text == "400"


@pytest.mark.parametrize("count", [1000, 100_000])
def test_very_many_labels_are_kept_or_refused_and_the_engine_answers_on(
    faulty: Faulty, rootfs: Path, tmp_path: Path, count: int
) -> None:
    label_file = tmp_path / "labels"
    label_file.write_text("".join(f"label{n}={'v' * 10}\n" for n in range(count)))
    done = faulty.cli("create", "--label-file", label_file, "--rootfs", rootfs, "true", check=False)
    if done.returncode:
        clean(done)
        assert count == 100_000
    assert len(faulty.out("ps", "-aq").split()) == (0 if done.returncode else 1)


def test_a_root_filesystem_with_an_odd_name_is_used_or_refused_as_a_whole(
    faulty: Faulty, rootfs: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(("with space", "comma,comma", "back\\slash", "new\nline", "čaj", "a:b")):
        root = tmp_path / name
        subprocess.run(["cp", "-a", rootfs, root], check=True)
        spec = {"name": f"c{number}", "rootfs": str(root), "rootfs_overlay": True, "command": ["true"]}
        faulty.call("io.pyman.Container.Create", {"spec": spec})
        faulty.cli("start", "-a", f"c{number}")
        faulty.cli("wait", "--condition", "exited", f"c{number}")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
