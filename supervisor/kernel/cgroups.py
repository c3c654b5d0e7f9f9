"""cgroups, by paths below the mount points of the hierarchies ("/pyman/conmon-ID").

A process that is to outlive its service needs a cgroup of its own where somebody else acts on cgroups: the
hierarchy by which a service manager finds processes to end (the v2 tree, on v1 and hybrid also
`name=systemd`), and those whose limits would be the service's: `pids` (TasksMax) and `memory` (MemoryMax).
The other v1 hierarchies are left alone; each costs a directory.

Moving a process waits for a grace period of the kernel if there was no move shortly before, up to about
15 ms; then it takes 0.1 ms a hierarchy. Everything else waits for those who move. `expect_move` has the kernel
begin to wait while there is something else to do. All of it blocks and is best called in a thread. Nothing here
ends a process.
"""

from __future__ import annotations

import errno
import functools
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "controllers",
    "controllers_below",
    "counts_swap",
    "expect_move",
    "give",
    "hierarchy_of",
    "join",
    "manager_of",
    "may_make",
    "mode",
    "own_path",
    "pids",
    "pids_in",
    "place",
    "places_of",
    "remove",
    "unified",
]

_ROOT = "/sys/fs/cgroup"
_NO_CONTROLLERS = {"rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "favordynmods"}
_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks")
"""What systemd gives along with a cgroup."""
_V1_THAT_MATTER = ("name=systemd", "pids", "memory")


class _Hierarchy(NamedTuple):
    """`controllers` is empty for the v2 tree."""

    mount_point: str
    controllers: frozenset[str]


@functools.cache
def _hierarchies() -> tuple[_Hierarchy, ...]:
    """What is mounted below /sys/fs/cgroup, each hierarchy once. Does not change while a supervisor runs."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return _parse(file)


def _parse(mountinfo: Iterable[str]) -> tuple[_Hierarchy, ...]:
    found: dict[frozenset[str], _Hierarchy] = {}
    for line in mountinfo:
        fields = line.split()
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind in ("cgroup", "cgroup2") and (fields[4] + "/").startswith(f"{_ROOT}/"):
            names = frozenset(() if kind == "cgroup2" else set(options) - _NO_CONTROLLERS)
            found.setdefault(names, _Hierarchy(fields[4], names))
    return tuple(found.values())


def mode() -> Literal["v1", "hybrid", "v2"]:
    """hybrid: v1 controllers, and a v2 tree beside them."""
    v2 = any(not hierarchy.controllers for hierarchy in _hierarchies())
    v1 = any(hierarchy.controllers for hierarchy in _hierarchies())
    if v2:
        return "hybrid" if v1 else "v2"
    return "v1"


def _that_matter() -> list[str]:
    return [
        hierarchy.mount_point
        for hierarchy in _hierarchies()
        if not hierarchy.controllers or any(name in hierarchy.controllers for name in _V1_THAT_MATTER)
    ]


def place(pid: int, path: str) -> bool:
    """Make a cgroup and move a process into it, in every hierarchy that matters.

    False: the process is gone, or some hierarchy does not permit it (as without delegation to a user).
    """
    placed = True
    for mount_point in _that_matter():
        directory = mount_point + path
        try:
            _make(directory)
            _write(f"{directory}/cgroup.procs", b"%d" % pid)
        except OSError:
            placed = False
    return placed


def join(pid: int, text: str) -> bool:
    """Move a process to where another one is, of which `text` is the /proc/PID/cgroup, in every hierarchy that matters.

    False: as `place`. No cgroup is made.
    """
    lines = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    there = {frozenset(names.split(",")) - {""}: path.rstrip("/") for _, names, path in lines}
    joined = True
    for hierarchy in _hierarchies():
        path = there.get(hierarchy.controllers)
        if path is None or hierarchy.mount_point not in _that_matter():
            continue
        try:
            if ".." in path.split("/"):
                raise PermissionError
            _write(f"{hierarchy.mount_point}{path}/cgroup.procs", b"%d" % pid)
        except OSError:
            joined = False
    return joined


def give(pid: int, uid: int, gid: int) -> bool:
    """Let somebody make cgroups below that of a process, and move processes there: in the v2 tree and in systemd's
    hierarchy, where no controllers are. Limits stay whoever's they are. False: not everywhere. OSError: it has ended."""
    given = True
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    for hierarchy in _hierarchies():
        names = ",".join(hierarchy.controllers)
        if names not in ("", "name=systemd") or names not in own:
            continue
        directory = hierarchy.mount_point + own[names]
        try:
            for name in (".", *_DELEGATED):
                with suppress(FileNotFoundError):
                    os.chown(f"{directory}/{name}", uid, gid, follow_symlinks=False)
        except OSError:
            given = False
    return given


def expect_move() -> None:
    """Take the grace period that a `place` in the next 10 ms would have to wait for.

    A move of this process to where it is: the kernel locks before it looks.
    """
    with suppress(OSError):
        procs = _own_procs()
        if procs:
            _write(procs, b"0")


def _own_procs() -> str:
    """This process's own cgroup.procs in any hierarchy; empty: none is mounted here. Asked anew every time: a
    service manager may have moved it, and it must stay where it is."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    for names, path in own.items():
        for hierarchy in _hierarchies():
            directory = hierarchy.mount_point + path
            if frozenset(names.split(",")) - {""} == hierarchy.controllers and os.path.isdir(directory):
                return os.path.join(directory, "cgroup.procs")
    return ""


def _make(directory: str) -> None:
    try:
        os.mkdir(directory)
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)


def remove(path: str) -> bool:
    """Remove a cgroup and those in it from every hierarchy. False: processes are still in it.

    One that is not there is not an error.
    """
    gone = True
    for hierarchy in _hierarchies():
        gone &= _remove(hierarchy.mount_point + path)
    return gone


def _remove(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            return False
        inside = list(_inside(directory))
        if not inside:
            return False
        for child in reversed(inside):
            with suppress(OSError):
                os.rmdir(child)
        with suppress(OSError):
            os.rmdir(directory)
        return not os.path.isdir(directory)
    return True


def _inside(directory: str) -> Iterator[str]:
    """The cgroups below one, parents first."""
    with suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                yield entry.path
                yield from _inside(entry.path)


def pids(path: str) -> list[int]:
    """The processes in a cgroup and those below it; none if there is no such cgroup."""
    found: dict[int, None] = {}
    for mount_point in _that_matter():
        found.update(dict.fromkeys(pids_in(mount_point + path)))
    return list(found)


def pids_in(directory: str) -> list[int]:
    """The same of one hierarchy, by the directory."""
    found: dict[int, None] = {}
    for each in (directory, *_inside(directory)):
        with suppress(FileNotFoundError), open(f"{each}/cgroup.procs", "rb") as file:
            found.update(dict.fromkeys(map(int, file.read().split())))
    return list(found)


def places_of(pid: int, mark: str) -> dict[str, str]:
    """The directories of the cgroup that a process is in, or of the one around it, that has the mark in its name: by
    controller, that of the v2 tree under the empty name. None: there is no such cgroup, or the process is gone."""
    found: dict[str, str] = {}
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":", 2)[1:] for line in file]
    except OSError:
        return found
    mounted = {hierarchy.controllers: hierarchy.mount_point for hierarchy in _hierarchies()}
    for names, path in lines:
        head, marked, rest = path.partition(mark)
        mount_point = mounted.get(frozenset(names.split(",")) - {""})
        if marked and mount_point is not None:
            directory = f"{mount_point}{head}{mark}{rest.partition('/')[0]}"
            found.update(dict.fromkeys(names.split(","), directory))
    return found


def may_make(path: str) -> bool:
    """Whether this process may make the cgroup, or others in it, in every hierarchy that matters."""
    return all(os.access(_existing(mount_point, path), os.W_OK) for mount_point in _that_matter())


def _existing(mount_point: str, path: str) -> str:
    """The directory of a cgroup, or of the nearest one above it that is there."""
    directory = mount_point + path.rstrip("/")
    while directory != mount_point and not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def unified() -> str:
    """Where the v2 tree is; empty: nowhere."""
    return next((found.mount_point for found in _hierarchies() if not found.controllers), "")


def controllers(path: str) -> frozenset[str]:
    """Those that there are in a cgroup of the v2 tree."""
    return _words(f"{unified()}{path}/cgroup.controllers")


def controllers_below(path: str) -> tuple[frozenset[str], str]:
    """Those that cgroups made in one of the v2 tree can have, and the path of the nearest one that exists.

    The OCI runtime passes on what there is, but the kernel permits that only where no process is.
    """
    root = unified()
    directory = _existing(root, path)
    name = directory[len(root) :] or "/"
    passes_on = os.access(f"{directory}/cgroup.subtree_control", os.W_OK)
    if passes_on and (name == "/" or not _words(f"{directory}/cgroup.procs")):
        return _words(f"{directory}/cgroup.controllers"), name
    return _words(f"{directory}/cgroup.subtree_control"), name


def counts_swap(path: str) -> bool:
    """Whether swap can be limited in cgroups in this one. True where it cannot be told."""
    root = unified()
    if not hierarchy_of("memory"):
        directory = _existing(root, path)
        for place_ in (directory, *_inside(directory)):
            if os.path.exists(f"{place_}/memory.max"):
                return os.path.exists(f"{place_}/memory.swap.max")
        return True
    return os.path.exists(f"{hierarchy_of('memory')}/memory.memsw.limit_in_bytes")


def hierarchy_of(controller: str) -> str:
    """Where the v1 hierarchy of a controller is; empty: nowhere."""
    return next((found.mount_point for found in _hierarchies() if controller in found.controllers), "")


def manager_of(uid: int) -> str:
    """The cgroup of the v2 tree that systemd has delegated to a user's service manager. It need not exist."""
    unit = f"user@{uid}.service"
    head, found, _ = own_path().partition(f"/{unit}")
    return f"{head}/{unit}" if found else f"/user.slice/user-{uid}.slice/{unit}"


def own_path(pid: int | str = "self") -> str:
    """Of a process, in the v2 tree; empty where it is not, or the process is gone."""
    with suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].rstrip("\n")
    return ""


def _words(file: str) -> frozenset[str]:
    """None where it cannot be read."""
    try:
        with open(file, encoding="ascii") as opened:
            return frozenset(opened.read().split())
    except OSError:
        return frozenset()


def _write(file: str, word: bytes) -> None:
    with open(file, "wb", buffering=0) as target:
        target.write(word)
