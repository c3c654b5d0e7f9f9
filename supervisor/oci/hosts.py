"""The text of a container's /etc/hosts.

What was asked for comes first, then what the base file has, then what is missing: localhost, the host, the container
itself. A name that is there already gets no further address.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.kernel import files
from supervisor.kernel.addresses import first_address
from supervisor.oci.users import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.oci.request import BuildRequest

__all__ = [
    "GATEWAY",
    "HOSTS",
    "add_name",
    "base_file",
    "host_address",
    "hosts",
    "split_entry",
    "text_of_host",
]

HOSTS = "/etc/hosts"
GATEWAY = "host-gateway"
"""Stands for the host's address in an entry."""
_OF_HOST = ("host.containers.internal", "host.docker.internal")
_LOCAL = (("127.0.0.1", ("localhost",)), ("::1", ("localhost",)))
_LONGEST = 1 << 20
"""Bytes of a base file."""

Entry = tuple[str, "Iterable[str]"]


def hosts(request: BuildRequest, network: str) -> str:
    """`network`: the mode of the network namespace. InvalidArgument, StorageFailed, CommandNotExecutable."""
    address = host_address(request, network)
    lines: list[str] = []
    known: set[str] = set()
    for ip, names in _given(request, address):
        lines.append(f"{ip}\t{' '.join(names)}\n")
        known.update(names)
    # Both addresses of localhost belong there: what is known is what others have written.
    for ip, names in _own(request, network, address):
        if free := [name for name in names if name not in known]:
            lines.append(f"{ip}\t{' '.join(free)}\n")
    return "".join(lines)


def add_name(path: str, name: str) -> None:
    """To the file of the container whose network that one joins. It belongs to that container: where it has made it too
    large, it stays as it is. StorageFailed, DiskFull."""
    try:
        text = files.read_small(path, 2 * _LONGEST).decode(errors="replace")
        if any(name in line.split()[1:] for line in text.split("\n")):
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            newline = "\n" if text and not text.endswith("\n") else ""
            os.write(descriptor, f"{newline}127.0.0.1\t{name}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise files.storage_error(error, "write", path) from error


def split_entry(text: str) -> tuple[str, list[str]]:
    """Address and names of `NAME[;NAME…]:IP`."""
    names, _, ip = text.partition(":")
    return ip, names.split(";")


def host_address(request: BuildRequest, network: str) -> str:
    """By which the container finds the host; empty: that is not known, or not to be told."""
    configured = request.settings.containers.host_containers_internal_ip
    if configured:
        return "" if configured == "none" else configured
    if network == "host":
        return "127.0.0.1"
    told = request.networking
    if told is not None and told.host is None:
        return ""
    return (told.host if told is not None else "") or first_address()


def base_file(request: BuildRequest) -> str:
    """A path on the host, `image` or `none`."""
    return request.spec.base_hosts_file or request.settings.containers.base_hosts_file or HOSTS


def _given(request: BuildRequest, address: str) -> Iterator[Entry]:
    """What users, administrators and images say."""
    for entry in request.spec.hostadd:
        ip, names = split_entry(entry)
        if ip == GATEWAY and not address:
            raise InvalidArgument(
                f"cannot use --add-host '{entry}': the address of the host is not known",
                subject=entry,
                hint="set host_containers_internal_ip in containers.conf",
            )
        yield (address if ip == GATEWAY else ip), names
    for line in _base(request).split("\n"):
        ip, *names = line.partition("#")[0].split() or [""]
        if names:
            yield ip, names


def _own(request: BuildRequest, network: str, address: str) -> Iterator[Entry]:
    yield from _LOCAL
    if address:
        yield address, _OF_HOST
    if network != "host":
        own = request.networking.addresses if request.networking is not None else []
        for mine in own or ("127.0.0.1",):
            yield mine, dict.fromkeys((request.hostname, request.name))


def _base(request: BuildRequest) -> str:
    where = base_file(request)
    if where == "none":
        return ""
    if where == "image":
        return text_of(request.rootfs, HOSTS)
    return text_of_host(where, missing=where == HOSTS)


def text_of_host(path: str, *, missing: bool) -> str:
    """The text of a small file of the host. `missing`: it need not be there. StorageFailed."""
    try:
        return files.read_small(path, _LONGEST).decode(errors="replace")
    except FileNotFoundError as error:
        if missing:
            return ""
        raise files.storage_error(error, "read", path) from error
    except OSError as error:
        raise files.storage_error(error, "read", path) from error
