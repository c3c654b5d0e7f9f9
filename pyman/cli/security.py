"""Options of what a container may do, and what of the create request they are.

A seccomp profile is read here, with the caller's rights and from the caller's files; the request carries its text.
"""

from __future__ import annotations

import os

from pyman.cli.options import CSV, LIST, REFUSED, TEXT, TRUE
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["SECURITY_OPTIONS", "security_settings"]

SECURITY_OPTIONS: tuple[Option, ...] = (
    ("cap-add", "", CSV, "CAPABILITY", "Give it a capability more, or ALL"),
    (
        "cap-drop",
        "",
        CSV,
        "CAPABILITY",
        "Give it a capability less, or with ALL none but those that are added",
    ),
    (
        "device",
        "",
        CSV,
        "HOST[:CONTAINER][:RIGHTS]",
        "Give it a device of the host, or a directory of devices",
    ),
    ("device-cgroup-rule", "", CSV, "RULE", "Let it use devices by their numbers, such as 'c 10:229 rwm'"),
    (
        "group-entry",
        "",
        TEXT,
        "LINE",
        "The line of its group in /etc/group, with $GROUPNAME, $GID and $USERLIST",
    ),
    ("hostuser", "", CSV, "USER", "Add a line for a user of the host to its /etc/passwd"),
    (
        "passwd",
        "",
        TRUE,
        "",
        "Add lines for its user and group to /etc/passwd and /etc/group where they are missing",
    ),
    (
        "passwd-entry",
        "",
        TEXT,
        "LINE",
        "The line of its user in /etc/passwd, with $USERNAME, $UID, $GID, $NAME and $HOME",
    ),
    ("gpus", "", REFUSED, "GPU", "devices of CDI are not there; --device gives a device by its path"),
    (
        "seccomp-policy",
        "",
        REFUSED,
        "POLICY",
        "no image says which system calls its containers may make; see --security-opt seccomp=FILE",
    ),
    (
        "security-opt",
        "",
        LIST,
        "OPTION",
        "no-new-privileges, seccomp=FILE, apparmor=PROFILE, label=…, mask=PATHS, unmask=PATHS, proc-opts=OPTIONS",
    ),
)

_COPIED = {
    "cap_add": "cap_add",
    "cap_drop": "cap_drop",
    "device": "devices",
    "device_cgroup_rule": "device_cgroup_rule",
    "group_entry": "group_entry",
    "hostuser": "hostusers",
    "passwd_entry": "passwd_entry",
}
_UNCONFINED = "unconfined"
_LIMIT = 512 * 1024
"""Bytes of a seccomp profile."""
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_KNOWN = "apparmor, label, mask, no-new-privileges, proc-opts, seccomp, systempaths and unmask"


def security_settings(args: Parsed) -> dict[str, Any]:
    """The spec's fields that the options of `SECURITY_OPTIONS` set. Raises InvalidArgument."""
    spec: dict[str, Any] = {}
    for option, field in _COPIED.items():
        if getattr(args, option):
            spec[field] = getattr(args, option)
    if not args.passwd:
        spec["manage_password"] = False
    for text in args.security_opt:
        separator = "=" if "=" in text else ":"  # Docker's, of old
        key, given, value = text.partition(separator)
        if key != "no-new-privileges" and not (given and value):
            raise _refused(text, f"known are {_KNOWN}")
        _take(spec, key, value if given else "true", text)
    return spec


def _take(spec: dict[str, Any], key: str, value: str, text: str) -> None:
    match key:
        case "apparmor":
            spec["apparmor_profile"] = value
        case "label":
            if value == "nested":
                spec["label_nested"] = True
            else:
                spec.setdefault("selinux_opts", []).append(value)
        case "mask" | "unmask":
            spec.setdefault(key, []).extend(value.split(":"))
        case "systempaths":
            if value != _UNCONFINED:
                raise _refused(text, "it must be systempaths=unconfined")
            spec.setdefault("unmask", []).append("ALL")
        case "proc-opts":
            spec["procfs_opts"] = value.split(",")
        case "no-new-privileges":
            if value not in _TRUE | _FALSE:
                raise _refused(text, "it must be no-new-privileges, or that with =true or =false")
            spec["no_new_privileges"] = value in _TRUE
        case "seccomp":
            _take_profile(spec, value)
        case _:
            raise _refused(text, f"known are {_KNOWN}")


def _take_profile(spec: dict[str, Any], path: str) -> None:
    spec["seccomp_profile_path"] = path
    spec.pop("seccomp_profile", None)
    if path == _UNCONFINED:
        return
    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read(_LIMIT + 1)
        text = data.decode()
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise _unreadable(path, reason) from problem
    except UnicodeDecodeError:
        raise _unreadable(path, "it is not UTF-8") from None
    if len(data) > _LIMIT:
        raise _unreadable(path, f"it is larger than {_LIMIT >> 10} KiB")
    if not text.strip():
        raise _unreadable(path, "it is empty")
    spec["seccomp_profile"] = text


def _unreadable(path: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use --security-opt seccomp={path}: {reason}", subject=path)


def _refused(text: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"option --security-opt cannot be '{text}'", subject=text, hint=hint)
