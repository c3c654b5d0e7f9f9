"""Options of a container's namespaces but those of users and networks, and of what its processes see of the kernel; and
what of the create request they are."""

from __future__ import annotations

from pyman.cli.options import LIST, TEXT
from pyman.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["NAMESPACE_OPTIONS", "namespace_settings"]

NAMESPACE_OPTIONS: tuple[Option, ...] = (
    ("cgroupns", "", TEXT, "MODE", "Cgroup namespace: host, private, container:NAME or ns:PATH"),
    (
        "ipc",
        "",
        TEXT,
        "MODE",
        "IPC namespace: host, private, shareable, none, container:NAME or ns:PATH",
    ),
    ("domainname", "", TEXT, "NAME", "The container's NIS domain name"),
    ("hostname", "h", TEXT, "NAME", "The container's host name"),
    ("pid", "", TEXT, "MODE", "Process namespace: host, private, container:NAME or ns:PATH"),
    (
        "personality",
        "",
        TEXT,
        "PERSONALITY",
        "What the kernel seems to be to its processes: LINUX or LINUX32",
    ),
    (
        "rdt-class",
        "",
        TEXT,
        "CLASS",
        "The part of the processor's caches that it has: a directory of /sys/fs/resctrl",
    ),
    ("sysctl", "", LIST, "NAME=VALUE", "Set a kernel parameter of the container's namespaces"),
    ("uts", "", TEXT, "MODE", "Host name namespace: host, private, container:NAME or ns:PATH"),
)

_OWN = {
    "cgroupns": ("cgroupns", ("host", "private")),
    "ipc": ("ipcns", ("host", "private", "shareable", "none")),
    "pid": ("pidns", ("host", "private")),
    "uts": ("utsns", ("host", "private")),
}
"""The field, and the modes that are one word."""
_JOINED = ("container", "ns")


def namespace_settings(args: Parsed) -> dict[str, Any]:
    """Raises InvalidArgument, NotSupported."""
    settings: dict[str, Any] = {}
    for option, (field, modes) in _OWN.items():
        value = getattr(args, option)
        if value:
            settings[field] = _mode(option, value, modes)
    for option in ("domainname", "hostname"):
        if getattr(args, option):
            settings[option] = getattr(args, option)
    if args.sysctl:
        settings["sysctl"] = _sysctls(args.sysctl)
    if args.personality:
        settings["personality"] = {"domain": args.personality}
    if args.rdt_class:
        settings["intelRdt"] = {"closID": args.rdt_class}
    return settings


def _sysctls(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"option --sysctl cannot be '{pair}'", hint="it must be NAME=VALUE")
        found[name] = value
    return found


def _mode(option: str, value: str, modes: tuple[str, ...]) -> dict[str, str]:
    if value in modes:
        return {"nsmode": value}
    word, _, where = value.partition(":")
    if word not in _JOINED:
        raise NotSupported(
            f"option --{option} cannot be '{value}'",
            hint=f"this version knows {', '.join(modes)}, container:NAME, ns:PATH",
        )
    if not where:
        what = "the name of a container" if word == "container" else "the path of a namespace"
        raise InvalidArgument(f"option --{option} cannot be '{value}': {what} is missing")
    if word == "ns" and not where.startswith("/"):
        raise InvalidArgument(f"option --{option} cannot be '{value}': the path is not absolute")
    return {"nsmode": word, "value": where}
