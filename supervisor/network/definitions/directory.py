"""The directory with a file for each network, which all engines of a host share.

Podman writes into its files in place, so whoever reads them holds the locks, too (`runtime/networks/book.py`). A file is
read again when it is another one, or has changed; one that has changed just now is not trusted to keep its time. A file
that cannot be used is named and passed over. Ours come into being as a whole. All of it blocks and is called in a thread.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pyman.api.network import Network, Subnet
from pyman.errors import AmbiguousId, InvalidArgument, NoSuchNetwork, PymanError, StorageFailed
from supervisor.kernel import files
from supervisor.logging import log
from supervisor.network.definitions.document import checked, decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.settings.model import NetworkSettings

__all__ = ["DEFAULT_ID", "Directory", "Networks", "default_network"]

_DEFAULT_BRIDGE = "podman0"
DEFAULT_ID = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9"
"""The same with every engine."""
MOST_BYTES = 1 << 20
"""Of a file."""
MOST_FILES = 8192
_SUFFIX = ".json"
_TEMPORARY = re.compile(r".+\.json\.[0-9a-f]{16}\.new")
_MODE = 0o644
_JUST_NOW = 1_000_000_000
"""Nanoseconds within which a second change may have the time of the first."""

_Stamp = tuple[int, int, int, int]


class Networks(NamedTuple):
    """At one instant. Not to be changed."""

    by_name: Mapping[str, Network]
    damaged: Mapping[str, StorageFailed]
    """By the names that the files have."""

    def find(self, wanted: str) -> Network:
        """By its name, its id, or the beginning of its id. NoSuchNetwork, AmbiguousId, StorageFailed: it is damaged."""
        if wanted in self.by_name:
            return self.by_name[wanted]
        if wanted in self.damaged:
            raise self.damaged[wanted]
        found = [each for each in self.by_name.values() if each.id.startswith(wanted)] if wanted else []
        if len(found) > 1:
            raise AmbiguousId(
                f"cannot tell which network '{wanted}' is: {len(found)} ids begin with it",
                subject=wanted,
                hint="give more of it",
            )
        if not found:
            raise NoSuchNetwork(f"cannot find network '{wanted}'", subject=wanted)
        return found[0]

    def name_of(self, wanted: str) -> str:
        """Of the one that is meant; itself, where there is none, or more than one."""
        try:
            return self.find(wanted).name
        except PymanError:
            return wanted


def default_network(settings: NetworkSettings, created: str) -> Network:
    """The one that is there without a file."""
    return checked(
        Network(
            name=settings.default_network,
            id=DEFAULT_ID,
            network_interface=_DEFAULT_BRIDGE,
            created=created,
            subnets=[Subnet(settings.default_subnet)],
            ipam_options={"driver": "host-local"},
        )
    )


class Directory:
    """One; what was read of its files, for as long as they stay the same."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._read: dict[str, tuple[_Stamp, Network | StorageFailed]] = {}
        """By the names of files."""

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def read(self, default: Network) -> Networks:
        """`default`: unless there is a file for it. StorageFailed."""
        by_name: dict[str, Network] = {}
        damaged: dict[str, StorageFailed] = {}
        known, now = self._read, time.time_ns()
        fresh: dict[str, tuple[_Stamp, Network | StorageFailed]] = {}
        for name in self._names():
            stamp = _stamp(f"{self.path}/{name}")
            if stamp is None:
                continue
            entry = known.get(name)
            found = entry[1] if entry is not None and entry[0] == stamp else self._load(name)
            if found is None:
                continue
            if now - max(stamp[1:3]) > _JUST_NOW:
                fresh[name] = stamp, found
            stem = name.removesuffix(_SUFFIX)
            if isinstance(found, Network):
                by_name[stem] = found
            else:
                damaged[stem] = found
        self._read = fresh
        if default.name not in by_name:
            by_name[default.name] = default
        return Networks(by_name, damaged)

    def _names(self) -> list[str]:
        try:
            names = [name for name in os.listdir(self.path) if name.endswith(_SUFFIX)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise files.storage_error(error, "list", self.path) from error
        if len(names) > MOST_FILES:
            raise StorageFailed(
                f"cannot read the networks in '{self.path}': there are more than {MOST_FILES} files",
                subject=self.path,
            )
        return sorted(names)

    def _load(self, name: str) -> Network | StorageFailed | None:
        """None: it is gone again, or not a file."""
        path = f"{self.path}/{name}"
        try:
            content = _content(path)
            if content is None:
                return None
            network = decoded(content)
            if f"{network.name}{_SUFFIX}" != name:
                raise InvalidArgument(f"it is about a network '{network.name}'")
            return network
        except PymanError as error:
            log.warning("cannot use the file of a network", path=path, error=error.message)
            return StorageFailed(
                f"cannot use the file of a network '{path}': {error.message}",
                subject=path,
                hint="mend or remove it",
            )

    # ------------------------------------------------------------------ changing

    def check_size(self, network: Network) -> None:
        """InvalidArgument: nobody would read it."""
        if len(encoded(network)) > MOST_BYTES:
            raise InvalidArgument(
                f"cannot write network '{network.name}': its file would have more than {MOST_BYTES} bytes",
                subject=network.name,
            )

    def write(self, network: Network) -> None:
        """StorageFailed, DiskFull: what was there before is there still."""
        path = f"{self.path}/{network.name}{_SUFFIX}"
        former = _content(path) if os.path.lexists(path) else None
        _clear(self.path)
        if former is not None and os.path.islink(path):
            path = os.path.realpath(path)
            _clear(os.path.dirname(path), os.path.basename(path))
        files.write_atomic(path, encoded(network, former or b""), _MODE, durable=True)

    def remove(self, name: str) -> None:
        """StorageFailed. Can be repeated."""
        path = f"{self.path}/{name}{_SUFFIX}"
        try:
            os.unlink(path)
            files.sync_directory(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise files.storage_error(error, "remove", path) from error


def _clear(directory: str, begin: str = "") -> None:
    """What killed writers have left there of a file, or of all: while the locks are held there is no other."""
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(directory)
    for name in names:
        if name.startswith(begin) and _TEMPORARY.fullmatch(name):
            with suppress(OSError):
                os.unlink(f"{directory}/{name}")


def _stamp(path: str) -> _Stamp | None:
    """Links are followed: some systems keep their configuration elsewhere."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _content(path: str) -> bytes | None:
    """None: there is no such file. StorageFailed."""
    try:
        return files.read_small(path, MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFailed(f"cannot read it: {error.strerror}", subject=path) from error
