"""The front door: dispatch, aliases, help, exit statuses, failures, and what start-up costs."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli import main as front
from pyman.cli.main import ALIASES, COMMANDS, GLOBAL_OPTIONS, GROUPS, main, resolve
from pyman.errors import CommandNotFound, InvalidArgument
from tests.cli.fake import container

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor

KINDS = {"flag", "true", "text", "list", "csv", "int", "count", "seconds", "refused"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_function_and_a_sound_table_of_options(name: str) -> None:
    module, function, table, _usage, fewest, most, _summary = COMMANDS[name]
    home = importlib.import_module(f"pyman.cli.{module}")
    assert callable(getattr(home, function))
    assert most == -1 or fewest <= most
    longs, shorts = [], []
    for names, short, kind, metavar, text in getattr(home, table):
        longs += names.split("|")
        shorts += [short] if short else []
        assert kind in KINDS
        assert isinstance(metavar, str)
        assert isinstance(text, str)
        assert len(short) < 2
    assert len(longs) == len(set(longs))
    assert len(shorts) == len(set(shorts))


def test_aliases_lead_to_commands_and_groups_have_members() -> None:
    assert set(ALIASES.values()) <= set(COMMANDS)
    assert not set(ALIASES) & (set(COMMANDS) | set(GROUPS))
    for group in GROUPS:
        assert any(path.startswith(f"{group} ") for path in (*COMMANDS, *ALIASES))


@pytest.mark.parametrize(
    "words, name, rest",
    [
        ("ps -a", "ps", ["-a"]),
        ("container ls -a", "ps", ["-a"]),
        ("container rm x", "rm", ["x"]),
        ("container inspect x", "container inspect", ["x"]),
        ("system info", "info", []),
        ("system events prune", "system events prune", []),
        ("container", "container", []),
        ("run container ls", "run", ["container", "ls"]),
    ],
)
def test_words_lead_to_the_longest_command(words: str, name: str, rest: list[str]) -> None:
    assert resolve(words.split()) == (name, rest)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("pss", "unknown command 'pss': did you mean 'ps'?"),
        ("xyzzy", "unknown command 'xyzzy': see 'pyman --help'"),
        ("quadlet", "unknown command 'quadlet': this version does not have it yet"),
        ("kube play", "unknown command 'kube': this version does not have it yet"),
        ("container lst", "unknown command 'container lst': did you mean 'container list'?"),
        ("system xyzzy", "unknown command 'system xyzzy': see 'pyman system --help'"),
        ("--xyzzy ps", "unknown option --xyzzy: see 'pyman --help'"),
        ("ps --xyzzy", "unknown option --xyzzy: see 'pyman ps --help'"),
        ("container ls --al", "unknown option --al: did you mean --all?"),
        ("run", "'pyman run' needs IMAGE|ROOTFS [COMMAND [ARG...]]: see 'pyman run --help'"),
    ],
)
def test_a_mistake_is_one_line_and_125(capsys: pytest.CaptureFixture[str], words: str, sentence: str) -> None:
    assert main(words.split()) == 125
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"Error: {sentence}\n")


@pytest.mark.parametrize("name", [*(name for name in COMMANDS if name != "__complete"), *ALIASES, *GROUPS])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main([*name.split(), "--help"]) == 0
    by_option = capsys.readouterr().out
    assert "Usage:\n  pyman " in by_option
    assert main(["help", *name.split()]) == 0
    assert capsys.readouterr().out == by_option


@pytest.mark.parametrize("words", [[], ["container"], ["system"], ["system", "events"]])
def test_without_a_command_help_is_shown_and_it_is_an_error(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 125
    printed = capsys.readouterr()
    assert "Commands:" in printed.out
    assert printed.err == f"Error: '{' '.join(['pyman', *words])}' needs a command\n"


def test_help_shows_options_with_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    overview = capsys.readouterr().out
    assert "  --root DIR " in overview
    assert "__complete" not in overview
    assert main(["stop", "-h"]) == 0
    assert "  -t, --time SECONDS  " in capsys.readouterr().out


def test_h_belongs_to_the_verb_that_has_it(fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers["Container.Create"] = {"id": "ab", "name": "x"}
    assert main(["create", "-h", "web", "busybox"]) == 0
    assert capsys.readouterr().out == "ab\n"
    assert fake.asked("Container.Create")["spec"]["hostname"] == "web"


def test_the_exit_status_is_that_of_the_error(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Create"] = CommandNotFound("cannot find the command 'x'")
    assert main(["create", "busybox", "x"]) == 127
    assert capsys.readouterr().err == "Error: cannot find the command 'x'\n"


def test_global_options_reach_the_supervisors_check(fake: FakeSupervisor) -> None:
    fake.answers["Container.List"] = {"containers": []}
    assert main(["--root", "/tmp/x", "--tmpdir=/tmp/y", "ps", "-q"]) == 0
    asked = fake.asked("System.Match")
    assert (asked["root"], asked["tmpdir"]) == ("/tmp/x", "/tmp/y")


def _raises(error: BaseException) -> object:
    def verb(*_: object) -> int:
        raise error

    return verb


def test_an_unexpected_failure_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyman.cli.container.rename", _raises(KeyError("x")))
    assert main(["rename", "a", "b"]) == 125
    assert capsys.readouterr().err == (
        "Error: internal error (KeyError: 'x'): run again with --log-level debug to see where it happened\n"
    )
    with pytest.raises(KeyError):
        main(["--log-level", "debug", "rename", "a", "b"])


def test_a_log_level_that_there_is_not_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log-level", "loud", "ps"]) == 125
    assert capsys.readouterr().err.startswith("Error: cannot use the log level 'loud': it is none of trace,")


def test_an_interrupt_is_130_without_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyman.cli.container.rename", _raises(KeyboardInterrupt()))
    assert main(["rename", "a", "b"]) == 130
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


# -- as a program -------------------------------------------------------------------------------


def program(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pyman.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def test_a_reader_that_went_away_ends_the_program_without_a_word() -> None:
    with program("help") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait() in (0, 141)
    assert errors == ""


def ended(words: list[Any], **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(words, check=False, **options)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = ended(
            [sys.executable, "-P", "-m", "pyman.cli", "help"],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
    assert (done.returncode, done.stderr) == (
        125, b"Error: cannot write to standard output: No space left on device\n",
    )  # fmt: skip


def test_closed_descriptors_and_odd_encodings_are_no_trouble(tmp_path: Path) -> None:
    line = f"exec {sys.executable} -P -m pyman.cli help ps"
    done = ended(["sh", "-c", f"{line} <&- >&- 2>&-"], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = ended(["sh", "-c", line], cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert b"restart-policy, \\u2026" in done.stdout


def test_what_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-m", "pyman.cli", "create"]
    done = ended([*words, b"\xff"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        125,
        b"Error: cannot use the argument '\\xff': it is not UTF-8\n",
    )
    done = ended(
        [*words, "-e", "ODD", "busybox"],
        cwd=tmp_path,
        env={**os.environb, b"ODD": b"\xff"},
    )
    assert done.returncode == 125
    assert done.stderr == b"Error: cannot pass the environment variable 'ODD' on: it is not UTF-8\n"


def test_an_interrupt_while_waiting_is_quiet(fake: FakeSupervisor) -> None:
    def wait(_parameters: dict[str, object]) -> dict[str, object]:
        os.kill(process.pid, signal.SIGINT)
        process.wait()
        return {"results": []}

    # The child has the fake's socket by the same way as this process: a path in place of the real one.
    code = (
        "import sys; from pyman import wire; wire.socket_path = lambda *_: sys.argv[1]; "
        "from pyman.cli.main import main; sys.exit(main(['wait', 'x']))"
    )
    fake.answers["Container.Wait"] = wait
    process = subprocess.Popen([sys.executable, "-c", code, fake.path], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 130


ALLOWED = {
    "array", "pyman", "pyman.cli", "pyman.cli.context", "pyman.cli.main", "pyman.cli.options", "pyman.cli.ps",
    "pyman.cli.human", "pyman.cli.table", "pyman.cli.container", "pyman.cli.system", "pyman.errors", "pyman.wire",
    "__future__", "_socket", "_json", "_sha256", "errno", "time", "math", "_struct", "select",
}  # fmt: skip


@pytest.mark.parametrize("words", [["ps"], ["version"]])
def test_a_short_command_imports_next_to_nothing(fake: FakeSupervisor, words: list[str]) -> None:
    fake.answers["Container.List"] = {"containers": [container()]}
    fake.answers["System.Version"] = {
        "Version": "1", "ApiVersion": "1", "PythonVersion": "3", "Os": "linux", "Arch": "amd64", "Kernel": "6",
    }  # fmt: skip
    code = (
        "import sys; before = set(sys.modules); from pyman import wire; "
        "wire.socket_path = lambda *_: sys.argv[1]; from pyman.cli.main import main; "
        f"status = main({words!r}); print(*sorted(set(sys.modules) - before), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, fake.path], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) <= ALLOWED


def test_the_tables_of_the_front_door_are_in_order() -> None:
    assert list(front.CONTAINER_VERBS) == sorted(front.CONTAINER_VERBS)
    assert [row[0] for row in GLOBAL_OPTIONS] == sorted(row[0] for row in GLOBAL_OPTIONS)
    with pytest.raises(InvalidArgument):
        resolve(["--", "x"])
