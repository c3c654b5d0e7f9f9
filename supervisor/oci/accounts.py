"""Lines for users and groups in the container's /etc/passwd and /etc/group, where they do not have them.

A user or group given by its number gets one, as do the caller with `keep-id` and users of the host that were asked for.
The root filesystem is left as it is: the container sees copies, which lie in its run directory.
"""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import InvalidArgument
from supervisor.oci.users import fields_of, group_number, number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyman.api.spec import ContainerSpec
    from supervisor.oci.request import BuildRequest

__all__ = ["account_files", "check"]

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
_COLONS = {"--passwd-entry": 6, "--group-entry": 3}
_LONGEST = 4096
"""Characters of a line."""


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    comment: str = ""


class _Group(NamedTuple):
    name: str
    gid: int
    members: str


def check(spec: ContainerSpec) -> None:
    """InvalidArgument: a line that cannot be one, or a user whom the host does not have."""
    for option, line in (("--passwd-entry", spec.passwd_entry), ("--group-entry", spec.group_entry)):
        if not line:
            continue
        if not spec.manage_password:
            raise InvalidArgument(f"cannot use {option} together with --passwd=false")
        if not line.isprintable() or line.count(":") != _COLONS[option] or len(line) > _LONGEST:
            raise InvalidArgument(
                f"cannot use {option} '{line[:80]}': it is no line with {_COLONS[option] + 1} fields",
                subject=option,
            )
    if spec.hostusers and not spec.manage_password:
        raise InvalidArgument("cannot use --hostuser together with --passwd=false")
    for wanted in spec.hostusers:
        _of_host(wanted)


def account_files(request: BuildRequest) -> dict[str, str]:
    """Path in the container to the text that it is to have. A root filesystem without such a file gets none.

    CommandNotExecutable: a file that cannot be read. InvalidArgument, as `check`.
    """
    spec = request.spec
    wanted = request.account is not None or spec.user or spec.hostusers
    if not wanted or not spec.manage_password or not request.rootfs:
        return {}
    made: dict[str, str] = {}
    groups = text_of(request.rootfs, _GROUP) if _has_numbers(request) else ""
    passwd = text_of(request.rootfs, _PASSWD) if _has_numbers(request) else ""
    for path, text, lines in (
        (_PASSWD, passwd, _lines_of_users(request, passwd, groups)),
        (_GROUP, groups, _lines_of_groups(request, groups)),
    ):
        added = list(lines) if text else []
        if added:
            made[path] = "\n".join([text.rstrip(), *added, ""])
    return made


def _has_numbers(request: BuildRequest) -> bool:
    """Something may be missing: the user is one of the root filesystem's own, most of the time."""
    spec = request.spec
    user, _, group = spec.user.partition(":")
    return (
        request.account is not None
        or bool(spec.hostusers)
        or number_of(user) is not None
        or number_of(group) is not None
        or bool(spec.group_entry)
    )


def _lines_of_users(request: BuildRequest, passwd: str, groups: str) -> Iterator[str]:
    spec = request.spec
    home = spec.work_dir
    if not home or set(home) & set(":\n"):  # which such a line cannot have
        home = "/"
    taken = _Taken(passwd)
    for user in _users(request, groups):
        if taken.has(user.name, user.uid):
            continue
        line = f"{user.name}:*:{user.uid}:{user.gid}:{user.comment}:{home}:/bin/sh"
        if spec.passwd_entry:
            line = _filled(
                spec.passwd_entry,
                {
                    "$USERNAME": user.name,
                    "$UID": str(user.uid),
                    "$GID": str(user.gid),
                    "$NAME": user.comment,
                    "$HOME": home,
                },
            )
        yield line


def _users(request: BuildRequest, groups: str) -> Iterator[_User]:
    for wanted in request.spec.hostusers:
        yield _of_host(wanted)
    if request.account is not None:
        yield _User(request.account.name, request.account.uid, request.account.gid)
    user, _, group = request.spec.user.partition(":")
    uid = number_of(user)
    if uid is not None:
        gid = group_number(groups, group) if group else 0
        yield _User(user, uid, 0 if gid is None else gid, "container user")


def _lines_of_groups(request: BuildRequest, groups: str) -> Iterator[str]:
    taken = _Taken(groups)
    for group in _groups(request):
        if taken.has(group.name, group.gid):
            continue
        if request.spec.group_entry:
            values = {"$GROUPNAME": group.name, "$GID": str(group.gid), "$USERLIST": group.members}
            yield _filled(request.spec.group_entry, values)
        else:
            yield f"{group.name}:x:{group.gid}:{group.members}"


def _groups(request: BuildRequest) -> Iterator[_Group]:
    account = request.account
    if account is not None:
        yield _Group(account.name, account.gid, account.name)
    user, _, group = request.spec.user.partition(":")
    gid = number_of(group or "0")
    if user and gid is not None:
        yield _Group(str(gid), gid, user)


class _Taken:
    """The names and numbers of a file, and of the lines that are added to it."""

    def __init__(self, text: str) -> None:
        self._words = {word for fields in fields_of(text, 3) for word in (fields[0], fields[2])}

    def has(self, name: str, id: int) -> bool:
        """Whether one of them is there; afterwards they are."""
        words = {name, str(id)}
        found = not words.isdisjoint(self._words)
        self._words |= words
        return found


def _filled(template: str, values: dict[str, str]) -> str:
    for word, value in values.items():
        template = template.replace(word, value)
    return template


def _of_host(wanted: str) -> _User:
    try:
        number = number_of(wanted)
        found = pwd.getpwnam(wanted) if number is None else pwd.getpwuid(number)
    except (KeyError, OverflowError, ValueError):
        raise InvalidArgument(
            f"cannot use --hostuser '{wanted}': the host has no such user", subject=wanted
        ) from None
    return _User(found.pw_name, found.pw_uid, found.pw_gid, found.pw_gecos.partition(",")[0])
