"""Options of create and run become the spec of the request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli import create
from pyman.cli.context import Context
from pyman.cli.main import GLOBAL_OPTIONS, main
from pyman.cli.options import parse
from pyman.cli.values import duration, environment, labels, read_pairs, rlimits, size
from pyman.errors import InvalidArgument, NameInUse, NotSupported

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.fake import FakeSupervisor


def spec_of(*words: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    args = parse(words, create.RUN_OPTIONS, command="run", stop=True)
    ctx = Context(parse(options, GLOBAL_OPTIONS), ["pyman", "run", *words])
    spec, _caller = create.spec_from(args, ctx)
    assert spec.pop("create_command") == ["pyman", "run", *words]
    return spec


@pytest.mark.parametrize(
    "line, expected",
    [
        ("busybox", {"image": "busybox"}),
        ("busybox sh -c true", {"image": "busybox", "command": ["sh", "-c", "true"]}),
        ("--rootfs /x -it", {"rootfs": "/x", "command": ["-it"]}),
        ("--rootfs -it /x:O sh",
         {"rootfs": "/x", "rootfs_overlay": True, "terminal": True, "stdin": True, "command": ["sh"]}),
        ("--rootfs /:O", {"rootfs": "/", "rootfs_overlay": True}),
        ("--name web --hostname h -u 1:2 -w /srv i",
         {"name": "web", "hostname": "h", "user": "1:2", "work_dir": "/srv", "image": "i"}),
        ("-h host i", {"hostname": "host", "image": "i"}),
        ("--rm --init --privileged --read-only i",
         {"remove": True, "init": True, "privileged": True, "read_only_filesystem": True, "image": "i"}),
        ("--init-path /x/init i", {"init": True, "init_path": "/x/init", "image": "i"}),
        ("--read-only-tmpfs=false i", {"read_write_tmpfs": False, "image": "i"}),
        ("--entrypoint /bin/sh i", {"entrypoint": ["/bin/sh"], "image": "i"}),
        ('--entrypoint ["sh","-c"] i', {"entrypoint": ["sh", "-c"], "image": "i"}),
        ("--entrypoint [x i", {"entrypoint": ["[x"], "image": "i"}),
        ("--entrypoint= i", {"entrypoint": [""], "image": "i"}),
        ("-e A=1 -e A=2 -e B= i", {"env": {"A": "2", "B": ""}, "image": "i"}),
        ("--unsetenv TERM --unsetenv-all i", {"unsetenv": ["TERM"], "unsetenv_all": True, "image": "i"}),
        ("-l a -l b=c=d --label e=1,2 i", {"labels": {"a": "", "b": "c=d", "e": "1,2"}, "image": "i"}),
        ("--annotation a=b i", {"annotations": {"a": "b"}, "image": "i"}),
        ("--stop-timeout 0 --stop-signal INT --timeout 7 i",
         {"stop_timeout": 0.0, "stop_signal": "INT", "timeout": 7, "image": "i"}),
        ("--umask 0077 --group-add a,b --group-add 5 i",
         {"umask": "0077", "groups": ["a", "b", "5"], "image": "i"}),
        ("--network none --pid host --ipc none --uts host --cgroupns private i",
         {"netns": {"nsmode": "none"}, "pidns": {"nsmode": "host"}, "ipcns": {"nsmode": "none"},
          "utsns": {"nsmode": "host"}, "cgroupns": {"nsmode": "private"}, "image": "i"}),
        ("--net=host i", {"netns": {"nsmode": "host"}, "image": "i"}),
        ("--net container:a:b --pid ns:/x:y --uts container:c --ipc container:d --cgroupns ns:/z i",
         {"netns": {"nsmode": "container", "value": "a:b"}, "pidns": {"nsmode": "ns", "value": "/x:y"},
          "utsns": {"nsmode": "container", "value": "c"}, "ipcns": {"nsmode": "container", "value": "d"},
          "cgroupns": {"nsmode": "ns", "value": "/z"}, "image": "i"}),
        ("--restart always i", {"restart_policy": "always", "image": "i"}),
        ("--restart on-failure:3 i", {"restart_policy": "on-failure", "restart_tries": 3, "image": "i"}),
        ("--restart=no --rm i", {"restart_policy": "no", "remove": True, "image": "i"}),
        (("--restart-delay 0 --restart-factor 1.5 --restart-maximum 1m --restart-reset 500ms --restart-give-up 5/30s "
          "--restart-stop-codes 0,64 i"),
         {"restart_backoff": {"delay": 0.0, "factor": 1.5, "maximum": 60.0, "reset": 0.5, "give_up_after": 5,
                              "window": 30.0, "stop_codes": [0, 64]}, "image": "i"}),
        ("--restart-give-up 5 i", {"restart_backoff": {"give_up_after": 5}, "image": "i"}),
        ("--log-driver k8s-file --log-opt path=/l,max-size=10mb --log-opt max-file=3 --log-opt tag=t i",
         {"log_configuration": {"driver": "k8s-file", "path": "/l", "size": 10_000_000, "max_files": 3, "tag": "t"},
          "image": "i"}),
        ("--ulimit nofile=10:20,nproc=5 --ulimit core=-1 i",
         {"r_limits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
                       {"type": "RLIMIT_NPROC", "soft": 5, "hard": 5},
                       {"type": "RLIMIT_CORE", "soft": -1, "hard": -1}], "image": "i"}),
        ("--pidfile /p --conmon-pidfile /c --cidfile /i i",
         {"pid_file": "/p", "conmon_pid_file": "/c", "cid_file": "/i", "image": "i"}),
        ("--runtime crun i", {"oci_runtime": "crun", "image": "i"}),
        ("--detach-keys= i", {"detach_keys": "", "image": "i"}),
        ("-d --sig-proxy=false -a stdin,stdout i", {"image": "i"}),
    ],
)  # fmt: skip
def test_options_become_fields(line: str, expected: dict[str, Any]) -> None:
    assert spec_of(*line.split()) == expected


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("--rm --restart always i", "cannot use --rm together with --restart: a removed container cannot restart"),
        ("--replace i", "cannot use --replace without --name"),
        ("--restart sometimes i",
         "option --restart cannot be 'sometimes': it must be no, on-failure[:N], always or unless-stopped"),
        ("--restart always:3 i",
         "option --restart cannot be 'always:3': it must be no, on-failure[:N], always or unless-stopped"),
        ("--restart on-failure:x i",
         "option --restart cannot be 'x': it must be on-failure:N, N a whole number from 0 on"),
        ("--restart-factor 0.5 i", "option --restart-factor cannot be '0.5': it must be a number from 1 on"),
        ("--restart-give-up 5/0 i", "option --restart-give-up cannot be '5/0': it must be N or N/SECONDS"),
        ("--restart-stop-codes 256 i",
         "option --restart-stop-codes cannot be '256': it must be exit codes from 0 to 255, separated by commas"),
        ("--pid none i",
         "option --pid cannot be 'none': this version knows host, private, container:NAME, ns:PATH"),
        ("--pid container: i", "option --pid cannot be 'container:': the name of a container is missing"),
        ("--uts ns:x i", "option --uts cannot be 'ns:x': the path is not absolute"),
        ("--log-opt colour=red i",
         "option --log-opt cannot be 'colour=red': it must be path=, max-size=, max-file= or tag="),
        ("--log-opt max-size=big i",
         "option --log-opt cannot be 'max-size=big': it must be a size such as 10mb"),
        ("--log-opt max-file=0 i",
         "option --log-opt cannot be 'max-file=0': it must be a number of files from 1 on"),
        ("--ulimit nofile=20:10 i",
         "option --ulimit cannot be 'nofile=20:10': the soft limit is above the hard limit"),
        ("--ulimit nofile=-1:10 i",
         "option --ulimit cannot be 'nofile=-1:10': the soft limit is above the hard limit"),
        ("--annotation a i", "option --annotation cannot be 'a': it must be KEY=VALUE"),
        ("--label =b i", "cannot use the label '=b' of option --label: it must be KEY=VALUE or KEY"),
        ("-e =b i", "cannot use the environment variable '=b' of option --env: it must be NAME=VALUE or NAME"),
        ("-a stdfoo i", "option --attach cannot be 'stdfoo': it must be stdin, stdout or stderr"),
        ("--rootfs /x:idmap=uids=0-1-10 sh", "cannot use the root filesystem '/x:idmap=uids=0-1-10': idmap takes no maps of its own"),
        ("--userns auto --gidmap 0:1:10 --rootfs / sh", "cannot use --userns together with --gidmap"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(line: str, sentence: str) -> None:
    with pytest.raises((InvalidArgument, NotSupported)) as caught:
        spec_of(*line.split())
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "option, sentence",
    [
        ("--hardware=/dev/null", "unknown option --hardware: see 'pyman create --help'"),
        ("--link-local-ip=::1", "cannot use --link-local-ip: no network has it, with Podman either; see --ip and --ip6"),
        ("--pod=p", "cannot use --pod: there are no pods yet"),
    ],
)  # fmt: skip
def test_an_option_that_is_not_there_yet_is_refused_by_name(
    option: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", option, "busybox"]) == 125
    assert capsys.readouterr().err == f"Error: {sentence}\n"


def test_paths_are_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = spec_of("--pidfile", "p", "--log-opt", "path=l", "--rootfs", "root:O")
    assert spec["pid_file"] == str(tmp_path / "p")
    assert spec["log_configuration"]["path"] == str(tmp_path / "l")
    assert spec["rootfs"] == str(tmp_path / "root")


def test_the_caller_says_its_directory_umask_and_only_the_environment_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYMAN_TEST", "here")
    before = os.umask(0o027)
    try:
        ctx = Context(parse([], GLOBAL_OPTIONS), ["pyman"])
        _, caller = create.spec_from(parse(["i"], create.CREATE_OPTIONS, stop=True), ctx)
        _, with_host = create.spec_from(parse(["--env-host", "i"], create.CREATE_OPTIONS, stop=True), ctx)
    finally:
        assert os.umask(before) == 0o027
    assert (caller["cwd"], caller["umask"], "environment" in caller) == (str(tmp_path), 0o027, False)
    assert with_host["environment"]["PYMAN_TEST"] == "here"


def test_variables_without_a_value_and_files_take_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYMAN_A", "a")
    monkeypatch.setenv("PYMAN_B", "b")
    monkeypatch.delenv("PYMAN_NONE", raising=False)
    file = tmp_path / "env"
    file.write_text(
        "# comment\n\n  PYMAN_A\nX=1 # no comment\nY='quoted'\nZ= spaced \n  #x\nPYMAN_NONE\nO=old\r\n"
    )
    spec = spec_of("--env-file", str(file), "-e", "PYMAN_B", "-e", "O=new", "-e", "PYMAN_NONE", "i")
    assert spec["env"] == {
        "PYMAN_A": "a", "X": "1 # no comment", "Y": "'quoted'", "Z": " spaced ", "O": "new", "PYMAN_B": "b",
    }  # fmt: skip
    assert environment(["PYMAN_*"], {"PYMAN_1": "x", "PYMAN_2": "y", "Q": "z"}, "") == {
        "PYMAN_1": "x",
        "PYMAN_2": "y",
    }


def test_labels_come_from_files_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("# comment\na=1\nb\nc=x y\n")
    assert spec_of("--label-file", str(file), "--label", "a=2", "i")["labels"] == {
        "a": "2",
        "b": "",
        "c": "x y",
    }
    assert labels(read_pairs(str(file), "--label-file"), "") == {"a": "1", "b": "", "c": "x y"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidArgument, match=r"cannot read the file .*nope.* of option --env-file: No such file"
    ):
        spec_of("--env-file", str(tmp_path / "nope"), "i")


def test_a_name_with_a_blank_in_an_env_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A B=1\n")
    with pytest.raises(InvalidArgument, match="cannot use the environment variable 'A B=1' of the file"):
        spec_of("--env-file", str(file), "i")


def test_limits_of_the_caller_can_be_taken() -> None:
    found = {limit["type"]: limit for limit in rlimits(["host", "nofile=5"])}
    assert found["RLIMIT_NOFILE"] == {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 5}
    assert {"RLIMIT_NPROC", "RLIMIT_CORE"} <= set(found)


@pytest.mark.parametrize(
    "text, seconds",
    [("0", 0.0), ("1.5", 1.5), ("500ms", 0.5), ("1h30m", 5400.0), ("1m0.5s", 60.5), ("", None), ("x", None),
     ("5x", None), ("-1", None), ("1h x", None), ("inf", None), ("nan", None), ("h", None)],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text, count",
    [("0", 0), ("10", 10), ("10b", 10), ("10k", 10_000), ("10KB", 10_000), ("1.5m", 1_500_000), ("2GiB", 2_000_000_000),
     ("x", None), ("", None), ("5x", None), ("k", None)],
)  # fmt: skip
def test_sizes(text: str, count: int | None) -> None:
    assert size(text, base=1000) == count


def test_the_global_runtime_is_that_of_new_containers_unless_they_say_otherwise() -> None:
    assert spec_of("i", options=("--runtime", "crun"))["oci_runtime"] == "crun"
    assert spec_of("--runtime", "runc", "i", options=("--runtime", "crun"))["oci_runtime"] == "runc"


# -- the verb -----------------------------------------------------------------------------------


def test_create_prints_the_id_and_writes_the_cidfile(
    fake: FakeSupervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Create"] = {"id": "ab12", "name": "web", "warnings": ["a\nwarning"]}
    file = tmp_path / "cid"
    assert (
        main(["create", "--cidfile", str(file), "--name", "web", "--replace", "--rootfs", "/x:O", "true"])
        == 0
    )
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("ab12\n", "Warning: a warning\n")
    assert file.read_text() == "ab12"
    request = fake.asked("Container.Create")
    assert (request["replace"], request["spec"]["name"], request["spec"]["cid_file"]) == (
        True,
        "web",
        str(file),
    )


def test_a_cidfile_that_exists_is_left_alone_and_nothing_is_made(
    fake: FakeSupervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cid"
    file.write_text("other")
    assert main(["create", "--cidfile", str(file), "i"]) == 125
    assert capsys.readouterr().err == (
        f"Error: cannot use the cidfile '{file}': it exists: remove it if no container uses it\n"
    )
    assert fake.calls == []
    assert file.read_text() == "other"


def test_a_cidfile_is_taken_away_when_no_container_was_made(
    fake: FakeSupervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["Container.Create"] = NameInUse("cannot use the name 'web': it is in use", subject="web")
    assert main(["create", "--cidfile", str(tmp_path / "cid"), "--name", "web", "i"]) == 125
    assert capsys.readouterr().err == "Error: cannot use the name 'web': it is in use\n"
    assert not (tmp_path / "cid").exists()


def test_a_relative_path_from_a_directory_that_is_gone_is_refused_in_a_sentence(
    fake: FakeSupervisor, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["create", "--rootfs", "fs", "true"]) == 125
    assert capsys.readouterr().err == "Error: cannot tell where 'fs' is: the working directory is gone\n"
    assert fake.calls == []
