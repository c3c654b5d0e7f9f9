"""The files of a container's /etc that the engine writes: hosts, resolv.conf, hostname, localtime.

They lie in the container's run directory, are made anew for each run, and are mounted over what the root filesystem has.
Who joins another container's network has the hosts and resolv.conf of that one.
Where a user has mounted something in the place of one, or wants the image's, there is none.
"""

from __future__ import annotations

import os
import posixpath
import re
import socket
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.oci.hosts import GATEWAY, HOSTS, add_name, hosts, split_entry
from supervisor.oci.mounted import BINDS
from supervisor.oci.mountpoints import empty_files, missing_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyman.api.spec import ContainerSpec
    from supervisor.oci.request import BuildRequest
    from supervisor.settings.model import ContainersSettings

__all__ = [
    "HOSTNAME",
    "HOSTS",
    "RESOLV_CONF",
    "check",
    "contents",
    "destinations",
    "has_zone",
    "made",
    "prepare",
    "traces",
]

HOSTNAME, RESOLV_CONF = "/etc/hostname", "/etc/resolv.conf"
_LOCALTIME = "/etc/localtime"
_MOST = 1024
"""Entries of one option."""
_LONGEST = 1024
"""Characters of one."""
_DOMAIN = re.compile(r"(?=.{1,254}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")  # fmt: skip


def made(request: BuildRequest, network: str) -> list[str]:
    """Where in the container they are, but for other root directories in it. `network`: the mode of its namespace."""
    spec, configured = request.spec, request.settings.containers
    found = []
    if not _keeps_hosts(spec, configured):
        found.append(HOSTS)
    if not _keeps_resolver(spec, configured) and (_has_network(network) or _asks(spec)):
        found.append(RESOLV_CONF)
    if not spec.use_image_hostname:
        found.append(HOSTNAME)
    if has_zone(request):
        from supervisor.oci import time_zone  # few have one

        if time_zone.is_mounted(request):
            found.append(time_zone.LOCALTIME)
    if request.network_files is not None:
        found = [path for path in found if path not in (HOSTS, RESOLV_CONF) or path in request.network_files]
    if request.mounted:
        return [path for path in found if not _is_taken(request, path)]
    return found


def _is_taken(request: BuildRequest, path: str) -> bool:
    """A user has mounted something in its place; or around it, what cannot be written and has no such file."""
    around = [
        each
        for each in request.mounted
        if each.kind in BINDS and f"{path}/".startswith(f"{each.destination.rstrip('/')}/")
    ]
    if not around:
        return False
    nearest = max(around, key=lambda each: len(each.destination))
    if nearest.destination == path:
        return True
    if not nearest.has("ro") and (nearest.kind != "image" or nearest.read_write):
        return False
    source = request.volumes.get(nearest.source, "") if nearest.kind == "volume" else nearest.source
    if not source.startswith("/") or nearest.sub_path:
        return True
    try:
        return bool(missing_files(source, [path.removeprefix(nearest.destination)]))
    except OSError:  # it is not there any more: whoever mounts it says so
        return True


def has_zone(request: BuildRequest) -> bool:
    """A time zone was asked for, or is configured, and the user mounts nothing in the place of it."""
    asked = request.spec.timezone or request.settings.containers.tz
    return bool(asked) and all(each.destination != _LOCALTIME for each in request.mounted)


def destinations(request: BuildRequest, network: str) -> list[tuple[str, str]]:
    """Each place in the container where one is mounted, after the one of `made` that it is."""
    found = made(request, network)
    return [
        (path, f"{root}{path}")
        for root in ("", *(posixpath.normpath(root) for root in request.spec.chroot_directories))
        for path in found
        if not root or path != _LOCALTIME
    ]


def contents(request: BuildRequest, network: str) -> dict[str, bytes]:
    """What they say, by those of `made`. InvalidArgument, StorageFailed, CommandNotExecutable."""
    own = (path for path in made(request, network) if path not in (request.network_files or ()))
    return {path: _content(path, request, network) for path in own}


def _content(path: str, request: BuildRequest, network: str) -> bytes:
    if path == HOSTS:
        return hosts(request, network).encode(errors="replace")
    if path == HOSTNAME:
        return f"{request.hostname}\n".encode(errors="replace")
    if path == RESOLV_CONF:
        from supervisor.oci.resolver import resolv_conf  # most containers have none

        return resolv_conf(request, network).encode(errors="replace")
    from supervisor.oci import time_zone

    return time_zone.data(request)


def prepare(request: BuildRequest, network: str, owner: tuple[int, int] | None) -> None:
    """What is needed besides the files of its own and mount points. StorageFailed, DiskFull."""
    shared = (request.network_files or {}).get(HOSTS)
    if shared and HOSTS in made(request, network):
        add_name(shared, request.name)
    if has_zone(request):
        from supervisor.oci import time_zone

        time_zone.make_link(request, owner)


def traces(request: BuildRequest, network: str, upper: str, lowers: Sequence[str]) -> list[str]:
    """What is in the container's layer only for the sake of these files. `lowers`: the layers below it."""
    own = [place for _, place in destinations(request, network)]
    found = empty_files(upper, own)
    shown = {path for lower in lowers for path in empty_files(lower, found)}
    found = [path for path in found if path not in shown]
    if has_zone(request):
        from supervisor.oci import time_zone

        if time_zone.is_link(upper, request):
            found.append(_LOCALTIME)
    return found


def _has_network(network: str) -> bool:
    return network not in ("none", "private")


def _asks(spec: ContainerSpec) -> bool:
    return bool(spec.dns_server or spec.dns_search or spec.dns_option)


def _keeps_hosts(spec: ContainerSpec, configured: ContainersSettings) -> bool:
    """The image's stay."""
    if spec.use_image_hosts is None:
        return configured.no_hosts and not spec.hostadd
    return spec.use_image_hosts


def _keeps_resolver(spec: ContainerSpec, configured: ContainersSettings) -> bool:
    if spec.use_image_resolve_conf is None:
        return "none" in configured.dns_servers and not _asks(spec)
    return spec.use_image_resolve_conf


def check(request: BuildRequest) -> None:
    """InvalidArgument: what cannot stand in these files, or contradicts itself."""
    spec, configured = request.spec, request.settings.containers
    for option, texts in (
        ("--add-host", spec.hostadd),
        ("--dns", spec.dns_server),
        ("--dns-option", spec.dns_option),
        ("--dns-search", spec.dns_search),
        ("--chrootdirs", spec.chroot_directories),
    ):
        _check_sizes(option, texts)
    _check_hosts(spec, configured)
    _check_resolver(spec)
    if has_zone(request):
        from supervisor.oci import time_zone

        time_zone.check(request)
    for directory in spec.chroot_directories:
        if not directory.startswith("/") or posixpath.normpath(directory).strip("/") == "":
            raise _unusable(
                "--chrootdirs", directory, "it is no path of a directory below the root directory"
            )


def _check_sizes(option: str, texts: Sequence[str]) -> None:
    if len(texts) > _MOST:
        raise InvalidArgument(f"cannot use {option} more than {_MOST} times", subject=option)
    for text in texts:
        if not text.isprintable() or len(text) > _LONGEST:
            raise _unusable(option, text, "it is too long, or has characters that cannot be shown")


def _check_hosts(spec: ContainerSpec, configured: ContainersSettings) -> None:
    if spec.hostadd and (configured.no_hosts if spec.use_image_hosts is None else spec.use_image_hosts):
        raise InvalidArgument(
            "cannot use --add-host together with --no-hosts",
            subject="--add-host",
            hint="" if spec.use_image_hosts else "no_hosts is set in containers.conf; give --no-hosts=false",
        )
    for entry in spec.hostadd:
        ip, names = split_entry(entry)
        if ":" not in entry or not all(names) or any(set(name) & set(" #") for name in names):
            raise _unusable("--add-host", entry, "it is not NAME[;NAME…]:IP")
        if ip == GATEWAY:
            if configured.host_containers_internal_ip == "none":
                raise _unusable("--add-host", entry, "host_containers_internal_ip in containers.conf is none")
        elif not _is_address(ip):
            raise _unusable("--add-host", entry, f"'{ip}' is not an IP address")
    _check_base(spec)


def _check_base(spec: ContainerSpec) -> None:
    base = spec.base_hosts_file
    if not base:
        return
    if spec.use_image_hosts:
        raise InvalidArgument("cannot use --hosts-file together with --no-hosts", subject="--hosts-file")
    if base not in ("image", "none") and (not base.startswith("/") or not os.path.isfile(base)):
        raise _unusable("--hosts-file", base, "it is not the absolute path of a file, nor 'image' or 'none'")


def _check_resolver(spec: ContainerSpec) -> None:
    if spec.use_image_resolve_conf and _asks(spec):
        given = "--dns-option" if spec.dns_option else "--dns-search" if spec.dns_search else "--dns"
        raise InvalidArgument(
            f"cannot use --dns none together with {'another --dns' if given == '--dns' else given}",
            subject=given,
        )
    for server in spec.dns_server:
        if not _is_address(server):
            raise _unusable("--dns", server, "it is not an IP address, nor 'none'")
    for option in spec.dns_option:
        if not option or set(option) & set(" #;"):
            raise _unusable("--dns-option", option, "it is not one word")
    for domain in spec.dns_search:
        if domain == "." and len(spec.dns_search) > 1:
            raise InvalidArgument("cannot use --dns-search . together with a domain", subject="--dns-search")
        if domain != "." and not _DOMAIN.fullmatch(domain):
            raise _unusable("--dns-search", domain, "it is not a domain")


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def _unusable(option: str, text: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use {option} '{text[:80]}': {reason}", subject=text)
