"""Devices of the host in a container: all for a privileged one, otherwise those that are asked for or configured.

A device is looked up at each start. Root's containers get nodes of their own; an ordinary user's, and those in a user
namespace, get the host's mounted. What may be done with a device is up to the rights of its file and to the container's
cgroup. For an ordinary user's the kernel does not ask the cgroup, so that fewer rights than reading and writing are refused.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci.spec import Device, DeviceRule, Mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.oci.request import BuildRequest

__all__ = ["Given", "device_mounts", "given", "host_devices", "nodes", "rules"]

_ACCESS = frozenset("rwm")
_ALL = "rwm"
_MOST = 4096
"""Devices of one directory."""
_CDI = re.compile(r"[A-Za-z][A-Za-z0-9._-]*/[A-Za-z0-9._-]+=.+")
_RULE = re.compile(r"([abc]) ([0-9]{1,9}|\*):([0-9]{1,9}|\*) ([rwm]{1,3})")
_CONSOLE = re.compile(r"/dev/tty[0-9]+")
_TAKEN = frozenset(("/", "/dev", "/proc", "/sys"))

_LEFT_OUT = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"})
"""What a container has of its own, or only links to such."""


def host_devices(directory: str = "/dev") -> list[Device]:
    """Every device node below the directory, sorted. Entries that vanish meanwhile are left out."""
    found: list[Device] = []
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.name in _LEFT_OUT or entry.is_symlink():
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif device := _device(entry):
                        found.append(device)
        except OSError:
            continue
    return sorted(found, key=lambda device: device.path)


class Given(NamedTuple):
    """A device that a container is given."""

    source: str
    """Its path on the host."""
    node: Device
    """What it is in the container."""
    access: str
    """Letters of `rwm`."""


def given(request: BuildRequest) -> list[Given]:
    """The devices that are configured or asked for, by their path in the container, where the last one counts.

    InvalidArgument and NotSupported name the option and the device."""
    found: dict[str, Given] = {}
    for option, texts in (
        ("devices in containers.conf", request.settings.containers.devices),
        ("--device", request.spec.devices),
    ):
        for text in texts:
            for device in _found(option, text):
                if _ACCESS - {"m"} - set(device.access) and not _is_limited(request):
                    raise NotSupported(
                        f"cannot use {option} {text}: this container's cgroup does not limit devices",
                        subject=text,
                        hint="leave the rights away, or give at least rw",
                    )
                found[device.node.path] = device
    return list(found.values())


def nodes(request: BuildRequest) -> list[Device]:
    """For config.json."""
    whole = {device.path: device for device in (host_devices() if request.privileged else ())}
    if request.systemd:  # on each virtual console it would have somebody log in
        whole = {path: device for path, device in whole.items() if not _CONSOLE.fullmatch(path)}
    if not request.restricted:
        whole.update((device.node.path, device.node) for device in given(request))
    return list(whole.values())


def device_mounts(request: BuildRequest) -> list[Mount]:
    """The devices of a container that may have no nodes of its own."""
    if not request.restricted:
        return []
    return [
        Mount(device.node.path, "bind", device.source, ["slave", "nosuid", "noexec", "rw", "rbind"])
        for device in given(request)
    ]


def rules(request: BuildRequest) -> list[DeviceRule]:
    """What the container's cgroup lets it use; the OCI runtime itself adds the harmless ones. NotSupported,
    InvalidArgument."""
    wanted = list(_wanted_rules(request))
    if request.privileged:
        return [DeviceRule(allow=True, access=_ALL)]
    allowed = [
        DeviceRule(True, device.access, device.node.type, device.node.major, device.node.minor)
        for device in ([] if request.settings.rootless else given(request))
    ]
    return [DeviceRule(allow=False, access=_ALL), *allowed, *wanted]


def _wanted_rules(request: BuildRequest) -> Iterator[DeviceRule]:
    for text in request.spec.device_cgroup_rule:
        match = _RULE.fullmatch(text)
        if match is None or len(set(match[4])) < len(match[4]):
            raise InvalidArgument(
                f"cannot use --device-cgroup-rule '{text}'",
                subject=text,
                hint="it must be a type, a number and rights, such as 'c 10:229 rwm' or 'b 8:* r'",
            )
        if not _is_limited(request):
            raise NotSupported(
                f"cannot use --device-cgroup-rule '{text}': this container's cgroup does not limit devices",
                subject=text,
            )
        major, minor = (None if number == "*" else int(number) for number in match.group(2, 3))
        yield DeviceRule(True, match[4], match[1], major, minor)


def _is_limited(request: BuildRequest) -> bool:
    """Only root can have the kernel ask for a cgroup's rights to a device."""
    return not request.settings.rootless and bool(request.placement.path)


def _found(option: str, text: str) -> Iterator[Given]:
    if _CDI.fullmatch(text):
        raise NotSupported(f"cannot use {option} {text}: CDI devices are not supported", subject=text)
    source, inside, access = _parts(option, text)
    try:
        source = os.path.realpath(source, strict=True)
        mode = os.stat(source).st_mode
    except OSError as error:
        raise _refused(option, text, (error.strerror or str(error)).lower()) from error
    if not stat.S_ISDIR(mode):
        node = _node(source, inside or source)
        if node is None:
            raise _refused(option, text, "it is no device")
        yield Given(source, node, access)
        return
    below = host_devices(source)
    if not below:
        raise _refused(option, text, "there are no devices in the directory")
    if len(below) > _MOST:
        raise _refused(option, text, f"there are more than {_MOST} devices in the directory")
    for device in below:
        path = f"{(inside or source).rstrip('/')}{device.path.removeprefix(source)}"
        node = _node(device.path, path)
        if node is not None:  # else it has gone meanwhile
            yield Given(device.path, node, access)


def _parts(option: str, text: str) -> tuple[str, str, str]:
    """HOST[:CONTAINER][:RIGHTS]; what is not there is empty, or all rights."""
    source, *others = text.split(":")
    inside, access = "", _ALL
    if others and (not others[0] or others[0].startswith("/")):
        inside = others.pop(0)
    if others:
        access = others.pop(0)
        if not access or set(access) - _ACCESS or len(set(access)) < len(access):
            raise _refused(option, text, f"'{access}' is no combination of r, w and m")
    if others or not source:
        raise _refused(option, text, "it must be HOST[:CONTAINER][:RIGHTS]")
    if not source.startswith("/"):
        raise _refused(option, text, "the path on the host is not absolute")
    if inside:
        if ".." in inside.split("/") or os.path.normpath(inside).replace("//", "/") in _TAKEN:
            raise _refused(option, text, f"there can be no device at '{inside}'")
        inside = os.path.normpath(inside).replace("//", "/")
    return source, inside, access


def _refused(option: str, text: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use {option} {text}: {reason}", subject=text)


def _node(source: str, path: str) -> Device | None:
    try:
        return _described(os.stat(source, follow_symlinks=False), path)
    except OSError:
        return None


def _device(entry: os.DirEntry[str]) -> Device | None:
    try:
        return _described(entry.stat(follow_symlinks=False), entry.path)
    except OSError:
        return None


def _described(status: os.stat_result, path: str) -> Device | None:
    mode = status.st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        return None
    return Device(
        path=path,
        type="c" if stat.S_ISCHR(mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=stat.S_IMODE(mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )
