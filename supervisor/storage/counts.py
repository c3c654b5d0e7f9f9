"""Where layers are mounted and how often: `mountpoints.json` in the run root, which ends with the boot.

Another engine that has the layers' lock for writing writes down what it read of the counts when it took that lock: so
they are changed with that lock held, if only for reading, and with their own for writing. A container's count is changed
all the same while somebody unpacks a layer, for containers do not wait for that: what it costs is that a count may be
wrong until the next change.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import StorageFailed
from supervisor.kernel import files
from supervisor.storage.table import clear_temporary, locked, replace_file, temporary_files, write_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.settings.layout import Layout

__all__ = ["Count", "Counts"]

_MOST = 64 << 20


class Count(msgspec.Struct, frozen=True):
    """Of a layer."""

    id: str
    path: str
    count: int


_decoder = msgspec.json.Decoder(list[Count] | None)


class Counts:
    """One for an engine."""

    def __init__(self, layout: Layout) -> None:
        self._directory = f"{layout.run_root}/overlay-layers"
        self._lock_file = f"{self._directory}/mountpoints.lock"
        self._path = f"{self._directory}/mountpoints.json"

    def read(self) -> dict[str, Count]:
        """By layer. StorageFailed."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(_MOST)
            return {count.id: count for count in (_decoder.decode(data) if data else None) or []}
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            raise StorageFailed(f"cannot read '{self._path}': {error}", subject=self._path) from error
        except OSError as error:
            raise files.storage_error(error, "read", self._path) from error

    @contextmanager
    def writing(self) -> Iterator[dict[str, Count]]:
        """What is changed in the dictionary is written down at the end, unless that is an error. StorageFailed,
        DiskFull."""
        try:
            for path in (os.path.dirname(self._directory), self._directory):
                with suppress(FileExistsError):
                    os.makedirs(path, mode=0o700)
        except OSError as error:
            raise files.storage_error(error, "make", self._directory) from error
        with locked(self._lock_file) as lock:
            counts = self.read()
            before = dict(counts)
            yield counts
            if counts != before:
                write_token(lock, self._lock_file)
                replace_file(self._path, msgspec.json.encode(list(counts.values())), durable=False)

    def clear(self) -> None:
        """What a killed writer has left beside the file. StorageFailed."""
        if temporary_files(self._directory):
            with locked(self._lock_file):
                clear_temporary(self._directory)

    def add(self, id: str, path: str) -> int:
        """One mount more of a layer, at `path`; how many there are now. StorageFailed, DiskFull."""
        with self.writing() as counts:
            known = counts.get(id)
            number = known.count + 1 if known is not None and known.path == path else 1
            counts[id] = Count(id, path, number)
        return number

    def set(self, id: str, path: str) -> None:
        """Mounted there, once. StorageFailed, DiskFull."""
        with self.writing() as counts:
            counts[id] = Count(id, path, 1)

    def remove(self, id: str) -> int:
        """One mount less; how many are left. StorageFailed, DiskFull."""
        with self.writing() as counts:
            known = counts.pop(id, None)
            left = known.count - 1 if known is not None else 0
            if known is not None and left > 0:
                counts[id] = Count(id, known.path, left)
        return max(left, 0)

    def forget(self, ids: Iterable[str]) -> list[str]:
        """Layers that will be gone; where they were mounted. StorageFailed, DiskFull."""
        known = self.read()
        if not any(id in known for id in ids):
            return []
        with self.writing() as counts:
            return [counts.pop(id).path for id in ids if id in counts]
