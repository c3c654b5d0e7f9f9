"""The words of runc and crun (1.1.5 and 1.8.1, as they were said), and what they are translated into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyman.errors import CommandNotExecutable, CommandNotFound, NotSupported, RuntimeFailed
from supervisor.oci.errors import complaint, is_absent, is_not_running, translate

if TYPE_CHECKING:
    from pyman.errors import PymanError


def _runc(message: str) -> str:
    return f'time="2026-01-01T11:11:57Z" level=error msg="{message}"'


CASES: list[tuple[str, str, type[PymanError], str]] = [
    (
        "runc",
        _runc(
            r"runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH"
        ),
        CommandNotFound,
        "the command 'nosuch' was not found in it",
    ),
    (
        "runc",
        _runc(
            r"runc create failed: unable to start container process: exec: \"/bin/x\": stat /bin/x: no such file or directory"
        ),
        CommandNotFound,
        "the command '/bin/x' was not found in it",
    ),
    (
        "runc",
        _runc(
            r"runc create failed: unable to start container process: exec: \"/f/x\": stat /f/x: not a directory"
        ),
        CommandNotFound,
        "the command '/f/x' was not found in it",
    ),
    (
        "runc",
        _runc(r"runc create failed: unable to start container process: exec: \"/noexec\": permission denied"),
        CommandNotExecutable,
        "the command '/noexec' cannot be executed: permission denied",
    ),
    (
        "runc",
        _runc(
            r"exec failed: unable to start container process: chdir to cwd (\"/no/dir\") set in config.json failed: no such file or directory"
        ),
        CommandNotFound,
        "the working directory '/no/dir' cannot be used: it does not exist",
    ),
    (
        "crun",
        "chdir `/etc/passwd`: Not a directory",
        CommandNotFound,
        "the working directory '/etc/passwd' cannot be used: it is no directory",
    ),
    (
        "crun",
        "executable file `nosuch` not found in $PATH: No such file or directory",
        CommandNotFound,
        "'nosuch' was",
    ),
    (
        "crun",
        "open executable: Permission denied",
        CommandNotExecutable,
        "its command cannot be executed: permission denied",
    ),
    ("crun", "open executable: Operation not permitted", CommandNotExecutable, "operation not permitted"),
    ("crun", "open executable: Not a directory", CommandNotFound, "its command was not found in it"),
    (
        "crun",
        "cgroups in hybrid mode not supported, drop all controllers from cgroupv2",
        NotSupported,
        "crun does not work with this host's hybrid cgroup hierarchy",
    ),
    (
        "runc",
        _runc(
            r"runc create failed: unable to start container process: error during container init: error mounting"
            r" \"/a\" to rootfs at \"/x\": stat /a: no such file or directory"
        ),
        RuntimeFailed,
        'runc: error mounting "/a" to rootfs at "/x": stat /a: no such file or directory',
    ),
    (
        "crun",
        "setrlimit `RLIMIT_NOFILE`: Operation not permitted",
        RuntimeFailed,
        "crun: setrlimit `RLIMIT_NOFILE`",
    ),
    ("crun", "", RuntimeFailed, "crun: it gave no reason"),
    (
        "runc",
        'time="x" level=warning msg="ignoring unknown capabilities: [CAP_FOO]"\n'
        + _runc("container is broken"),
        RuntimeFailed,
        "runc: container is broken",
    ),
    ("runc", '{"level":"error","msg":"exec failed: no space","time":"x"}', RuntimeFailed, "runc: no space"),
    (
        "runc",
        _runc("open /proc/sys/net/ipv4/conf/x/forwarding: no such file or directory"),
        RuntimeFailed,
        "the kernel parameter 'net.ipv4.conf.x.forwarding' (--sysctl) cannot be set: no such file or directory",
    ),
]


@pytest.mark.parametrize("runtime, text, kind, message", CASES)
def test_a_refusal_becomes_the_error_that_says_whose_fault_it_is(
    runtime: str, text: str, kind: type[PymanError], message: str
) -> None:
    error = translate(runtime, "create", "box", text)
    assert type(error) is kind
    assert str(error).startswith("cannot create container 'box': ")
    assert message in str(error)
    assert error.subject == "box"


def test_exit_statuses_follow_the_shells() -> None:
    assert translate("crun", "start", "b", "executable file `x` not found in $PATH").exit_status == 127
    assert translate("crun", "start", "b", "open executable: Permission denied").exit_status == 126
    assert translate("crun", "start", "b", "anything").exit_status == 126


def test_an_exec_is_called_running_a_command() -> None:
    text = _runc(
        r"exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH"
    )
    message = str(translate("runc", "exec", "box", text))
    assert message == "cannot run a command in container 'box': the command 'nosuch' was not found in it"


@pytest.mark.parametrize(
    "text",
    [
        _runc("container does not exist"),
        "error opening file `/run/crun/tt/status`: No such file or directory",
        "cannot open directory '/run/crun/tt': No such file or directory",
    ],
)
def test_an_absent_container_is_recognised(text: str) -> None:
    assert is_absent(text)
    assert not is_not_running(text)


@pytest.mark.parametrize(
    "text",
    [_runc("container not running"), "kill container: No such process", "the container `tt` is not running"],
)
def test_a_container_that_has_ended_is_recognised(text: str) -> None:
    assert is_not_running(text)
    assert not is_absent(text)


def test_only_the_last_complaint_counts() -> None:
    assert complaint("first\nsecond\n\n") == "second"
    assert complaint('time="x" level=warning msg="only a warning"') == ""
    assert complaint("{not json") == "{not json"
