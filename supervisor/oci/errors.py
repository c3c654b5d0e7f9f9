"""What an OCI runtime says when it refuses, translated into the engine's errors in one place.

runc writes log lines (`time=… level=error msg="…"`, or JSON), crun plain sentences. Both come here from the
runtime's own stderr and from conmon's report. The last complaint counts: what stands before it are warnings.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pyman.errors import CommandNotExecutable, CommandNotFound, NotSupported, RuntimeFailed

if TYPE_CHECKING:
    from pyman.errors import PymanError

__all__ = ["complaint", "is_absent", "is_not_running", "translate"]

_LOGFMT = re.compile(r'\blevel=(?P<level>\w+) msg="(?P<text>(?:[^"\\]|\\.)*)"')

_NOT_FOUND = (
    re.compile(r'exec: "(?P<command>(?:[^"\\]|\\.)*)": executable file not found'),
    re.compile(
        r'exec: "(?P<command>(?:[^"\\]|\\.)*)": stat .*: (?:no such file or directory|not a directory)'
    ),
    re.compile(r"executable file `(?P<command>.*)` not found"),
    re.compile(r"open executable(?P<command>): (?:No such file or directory|Not a directory)"),
)
_NOT_EXECUTABLE = (
    re.compile(
        r'exec: "(?P<command>(?:[^"\\]|\\.)*)": (?P<reason>permission denied|is a directory|operation not permitted)'
    ),
    re.compile(
        r"open executable(?P<command>): (?P<reason>Permission denied|Operation not permitted|Is a directory)"
    ),
    re.compile(r"executable file `(?P<command>.*)` (?P<reason>is not executable)"),
)
_DIRECTORY = re.compile(
    r'chdir (?:to )?(?:cwd \(")?`?(?P<directory>.+?)["`].*: (?P<reason>[Nn]o such file or directory|[Nn]ot a directory)'
)
_SYSCTL = re.compile(r"/proc/sys/(?P<name>[\w/.-]+)[`'\"]?: (?P<reason>[^:]+)$")
_HYBRID = re.compile(r"cgroups in hybrid mode not supported")
_ABSENT = re.compile(
    r"container does not exist|container .*does not exist|error opening file .*/status.*No such file"
    r"|cannot open directory '.*': No such file",
)
_NOT_RUNNING = re.compile(
    r"container not running|container .*is not running|process already finished|No such process|no such process"
    r"|cannot start a container that has stopped",
)


def complaint(text: str) -> str:
    """The one sentence that says what is wrong, without time stamps and the runtime's own preface."""
    sentences = [found for line in text.splitlines() if (found := _sentence(line.strip()))]
    return sentences[-1] if sentences else ""


def _sentence(line: str) -> str:
    found = _LOGFMT.search(line)
    if found:
        message = re.sub(r"\\(.)", r"\1", found["text"])
        return "" if found["level"] in ("warning", "info", "debug") else _bare(message)
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return line
        if isinstance(entry, dict) and "msg" in entry:
            return "" if entry.get("level") in ("warning", "info", "debug") else _bare(str(entry["msg"]))
    return _bare(line)


def _bare(message: str) -> str:
    """runc repeats which command failed and that starting failed; the reader knows both."""
    message = re.sub(r"^(?:runc|crun|OCI runtime)(?: \w+)? failed: ", "", message)
    message = re.sub(r"^(?:exec|create|start) failed: ", "", message)
    message = message.removeprefix("unable to start container process: ")
    return message.removeprefix("error during container init: ")


def is_absent(text: str) -> bool:
    """The runtime does not know the container."""
    return bool(_ABSENT.search(text))


def is_not_running(text: str) -> bool:
    """The container has ended."""
    return bool(_NOT_RUNNING.search(text))


def translate(runtime: str, verb: str, subject: str, text: str) -> PymanError:
    """The error for the words of a runtime that could not do `verb` (create, start, exec …) to `subject`.

    CommandNotFound and CommandNotExecutable where the container's command is to blame, NotSupported where
    the runtime cannot work on this host, RuntimeFailed otherwise.
    """
    said = complaint(text) or "it gave no reason"
    doing = f"cannot {'run a command in' if verb == 'exec' else verb} container '{subject}'"
    for pattern in _NOT_FOUND:
        if found := pattern.search(said):
            which = _quoted(found["command"])
            message = f"{doing}: {which} was not found in it"
            return CommandNotFound(message, subject=subject)
    for pattern in _NOT_EXECUTABLE:
        if found := pattern.search(said):
            which, reason = _quoted(found["command"]), found["reason"].lower()
            reason = reason.removeprefix("is not executable") or "no permission"
            return CommandNotExecutable(f"{doing}: {which} cannot be executed: {reason}", subject=subject)
    if found := _DIRECTORY.search(said):
        directory = re.sub(r"\\(.)", r"\1", found["directory"])
        reason = "it does not exist" if "such" in found["reason"] else "it is no directory"
        message = f"{doing}: the working directory '{directory}' cannot be used: {reason}"
        return CommandNotFound(message, subject=subject)
    if found := _SYSCTL.search(said):
        name, reason = found["name"].replace("/", "."), found["reason"].lower()
        message = f"{doing}: the kernel parameter '{name}' (--sysctl) cannot be set: {reason}"
        return RuntimeFailed(message, subject=subject)
    if _HYBRID.search(said):
        message = f"{doing}: {runtime} does not work with this host's hybrid cgroup hierarchy"
        return NotSupported(message, subject=subject, hint="use --runtime runc")
    return RuntimeFailed(f"{doing}: {runtime}: {said}", subject=subject)


def _quoted(command: str) -> str:
    command = re.sub(r"\\(.)", r"\1", command)
    return f"the command '{command}'" if command else "its command"
