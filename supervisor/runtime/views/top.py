"""`top`: the processes of a container, looked at from outside. Nothing has to be in the container for it.

Numbers are those that hold inside: pids of its pid namespace, users of its user namespace, with the names that its own
/etc/passwd and /etc/group give them. Columns that begin with `h` have what holds on the host.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pyman.api.watching import TopReply
from pyman.descriptors import DEFAULT, TITLES, named, split
from pyman.errors import InvalidArgument, PymanError, WrongState
from pyman.spans import go_duration
from supervisor.kernel import idmaps
from supervisor.kernel.idmaps import IdMaps
from supervisor.kernel.process import ref_of
from supervisor.kernel.processes import Process, Processes, space_of
from supervisor.oci.host import CAPABILITIES, this_host
from supervisor.oci.users import fields_of, number_of, text_of
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.views.stats import COUNTED, entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.container import Container

__all__ = ["top"]

LOOK = 5.0
"""Seconds: what a process maps, and its root filesystem, may lie on a server that does not answer."""
_NANO = 1_000_000_000
_UNKNOWN = "?"
_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}
_PSEUDOTERMINALS = range(136, 144)
"""Major numbers, with 256 terminals each."""


async def top(container: Container, descriptors: list[str]) -> TopReply:
    """InvalidArgument: a column that there is not. WrongState: it does not run. DeadlineExceeded."""
    names = [_checked(word) for word in split(descriptors)] or [*DEFAULT]
    init = container.observed.init
    if container.state not in COUNTED or init is None:
        raise WrongState(
            f"cannot show the processes of container '{container.name}': it is {container.state}, not running",
            subject=container.name,
        )
    work = partial(_table, container.id, init, entered(container), names)
    rows = await look_into(container.name, work, LOOK, "the processes of container")
    return TopReply([TITLES[name] for name in names], rows)


def _checked(word: str) -> str:
    if name := named(word):
        return name
    raise InvalidArgument(
        f"cannot show the column '{word}'", subject=word, hint=f"known are {', '.join(TITLES)}"
    )


def _table(id: str, init: ProcessRef, brought: list[int], names: list[str]) -> list[list[str]]:
    try:
        look = _Look(init)
    except OSError:  # it has just ended
        return []
    rows: list[tuple[int, list[str]]] = []
    for pid in Processes().of(init, id, brought):
        with suppress(OSError):  # one that has ended meanwhile
            process = look.process(pid)
            rows.append((look.number(process), [_COLUMNS[name](look, process) for name in names]))
    return [row for _, row in sorted(rows, key=lambda each: each[0])] if ref_of(init.pid) == init else []


class _Look:
    """What has to be known of a container to tell of its processes."""

    def __init__(self, init: ProcessRef) -> None:
        self.init = init.pid
        self._known: dict[int, Process] = {}
        self.level = len(self.process(init.pid).words("NSpid")) - 1
        """How many pid namespaces its own is below this one."""
        self.moment = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.tick = _NANO // os.sysconf("SC_CLK_TCK")

    def process(self, pid: int) -> Process:
        """OSError: it is gone."""
        if pid not in self._known:
            self._known[pid] = Process(pid)
        return self._known[pid]

    def number(self, process: Process) -> int:
        return process.number_within(self.level)

    def parent(self, process: Process) -> int:
        """0: it is outside, as of what was brought into the container."""
        try:
            found = self.process(process.parent)
        except OSError:
            return 0
        if self.level and space_of(found.pid) != space_of(self.init):
            return 0
        return self.number(found)

    def since(self, process: Process) -> int:
        """Nanoseconds since it was started."""
        return max(0, self.moment - process.begun * self.tick)

    @cached_property
    def maps(self) -> IdMaps:
        """Empty: it has the user namespace that this process has."""
        if space_of(self.init, "user") == space_of("self", "user"):
            return IdMaps()
        return idmaps.of_process(self.init)

    @cached_property
    def users(self) -> Mapping[int, str]:
        return self._accounts("/etc/passwd")

    @cached_property
    def groups(self) -> Mapping[int, str]:
        return self._accounts("/etc/group")

    def _accounts(self, path: str) -> dict[int, str]:
        found: dict[int, str] = {}
        with suppress(PymanError, OSError):  # then numbers have to do
            for fields in fields_of(text_of(f"/proc/{self.init}/root", path), 3):
                number = number_of(fields[2])
                if number is not None:
                    found.setdefault(number, fields[0])
        return found

    def user(self, number: str) -> str:
        inside = self.uid(number)
        return self.users.get(inside, str(inside))

    def uid(self, number: str) -> int:
        return idmaps.inside(int(number), self.maps.uids) if self.maps.uids else int(number)

    def group(self, number: str) -> str:
        gid = int(number)
        inside = idmaps.inside(gid, self.maps.gids) if self.maps.gids else gid
        return self.groups.get(inside, str(inside))


def _host_uid(number: str) -> int:
    return idmaps.outside(int(number), this_host().id_maps.uids)


def _host_user(number: str) -> str:
    uid = _host_uid(number)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _host_group(number: str) -> str:
    gid = idmaps.outside(int(number), this_host().id_maps.gids)
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _list(words: Iterable[str]) -> str:
    return ",".join(words)


def _terminal(process: Process) -> str:
    """By its number, as the kernel gives names to terminals."""
    number = process.terminal
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if major in _PSEUDOTERMINALS:
        return f"pts/{(major - _PSEUDOTERMINALS.start) * 256 + minor}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    if (major, minor) in ((5, 0), (5, 1)):
        return ("tty", "console")[minor]
    return _UNKNOWN


def _capabilities(process: Process, key: str) -> str:
    mask = int(next(iter(process.words(key)), "0"), 16)
    found = [name.removeprefix("CAP_") for number, name in enumerate(CAPABILITIES) if mask >> number & 1]
    if len(found) == len(CAPABILITIES):
        return "full"
    return _list(sorted(found)) or "none"


def _arguments(process: Process) -> str:
    return " ".join(process.arguments) or f"[{process.command}]"


def _share(look: _Look, process: Process) -> str:
    since = look.since(process)
    return f"{process.ticks * look.tick * 100 / since if since else 0:.3f}"


def _begun(look: _Look, process: Process) -> str:
    seconds = (time.time_ns() - look.since(process)) // _NANO
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


_COLUMNS: dict[str, Callable[[_Look, Process], str]] = {
    "args": lambda _look, process: _arguments(process),
    "capamb": lambda _look, process: _capabilities(process, "CapAmb"),
    "capbnd": lambda _look, process: _capabilities(process, "CapBnd"),
    "capeff": lambda _look, process: _capabilities(process, "CapEff"),
    "capinh": lambda _look, process: _capabilities(process, "CapInh"),
    "capprm": lambda _look, process: _capabilities(process, "CapPrm"),
    "comm": lambda _look, process: process.command,
    "etime": lambda look, process: go_duration(look.since(process)),
    "group": lambda look, process: look.group(process.words("Gid")[1]),
    "groups": lambda look, process: _list(map(look.group, process.words("Groups"))),
    "hgroup": lambda _look, process: _host_group(process.words("Gid")[1]),
    "hgroups": lambda _look, process: _list(map(_host_group, process.words("Groups"))),
    "hpid": lambda _look, process: str(process.pid),
    "huid": lambda _look, process: str(_host_uid(process.words("Uid")[1])),
    "huser": lambda _look, process: _host_user(process.words("Uid")[1]),
    "label": lambda _look, process: process.label or _UNKNOWN,
    "nice": lambda _look, process: process.nice,
    "pcpu": _share,
    "pgid": lambda look, process: str(process.number_within(look.level, "NSpgid")),
    "pid": lambda look, process: str(look.number(process)),
    "ppid": lambda look, process: str(look.parent(process)),
    "rgroup": lambda look, process: look.group(process.words("Gid")[0]),
    "rss": lambda _look, process: next(iter(process.words("VmRSS")), "0"),
    "ruser": lambda look, process: look.user(process.words("Uid")[0]),
    "seccomp": lambda _look, process: _SECCOMP.get("".join(process.words("Seccomp")), _UNKNOWN),
    "state": lambda _look, process: process.state,
    "stime": _begun,
    "time": lambda look, process: go_duration(process.ticks * look.tick // _NANO * _NANO),
    "tty": lambda _look, process: _terminal(process),
    "uid": lambda look, process: str(look.uid(process.words("Uid")[1])),
    "user": lambda look, process: look.user(process.words("Uid")[1]),
    "vsz": lambda _look, process: str(process.virtual_memory // 1024),
}
