"""secrets.json: what is known of all secrets of a graph root, in the form that Podman has given it.

Whoever reads or writes it holds `secrets.lock`. It is replaced as a whole; what others have put into it and is not known
here stays as it is. All of it blocks and is called in a thread.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from pyman.errors import AmbiguousId, NoSuchSecret, StorageFailed
from supervisor.kernel import files
from supervisor.runtime.secrets.records import ID_LENGTH, Secret
from supervisor.storage.table import clear_temporary, replace_file

__all__ = ["Table", "damaged", "read", "read_bounded", "replace"]

_MOST = 64 << 20
_NEVER = "0001-"
"""How a time begins that has not been."""


class _Entry(msgspec.Struct, rename="camel"):
    name: str
    id: str
    driver: str
    created_at: str = ""
    updated_at: str = ""
    labels: dict[str, str] | None = None
    driver_options: dict[str, str] | None = None


class Table:
    """The secrets at one instant. Not changed: others are made of it."""

    def __init__(self, document: dict[str, msgspec.Raw], raw: dict[str, msgspec.Raw]) -> None:
        self._document = document
        self._raw = raw
        self.by_id = {id: _secret(msgspec.json.decode(each, type=_Entry)) for id, each in raw.items()}
        self.by_name = {secret.name: secret for secret in self.by_id.values()}

    def find(self, wanted: str) -> Secret:
        """By its id, its name, or the beginning of an id. NoSuchSecret, AmbiguousId."""
        exact = self.by_id.get(wanted) or self.by_name.get(wanted)
        if exact is not None:
            return exact
        found = [secret for id, secret in self.by_id.items() if id.startswith(wanted)] if wanted else []
        if len(found) > 1:
            raise AmbiguousId(
                f"cannot tell which secret '{wanted}' is: {len(found)} ids begin with it",
                subject=wanted,
                hint="give more of it",
            )
        if not found or len(wanted) > ID_LENGTH:
            raise NoSuchSecret(f"cannot find secret '{wanted}'", subject=wanted)
        return found[0]

    def named(self, name: str) -> Secret:
        """By its name alone. NoSuchSecret."""
        found = self.by_name.get(name)
        if found is None:
            raise NoSuchSecret(f"cannot find secret '{name}'", subject=name)
        return found

    def changed(self, *, added: Secret | None = None, gone: Secret | None = None) -> Table:
        raw = dict(self._raw)
        if gone is not None:
            raw.pop(gone.id, None)
        if added is not None:
            raw[added.id] = msgspec.Raw(msgspec.json.encode(_entry(added)))
        return Table(self._document, raw)

    def encoded(self) -> bytes:
        names = {secret.name: id for id, secret in self.by_id.items()}
        document: dict[str, Any] = {
            **self._document,
            "secrets": self._raw,
            "nameToID": names,
            "idToName": {id: name for name, id in names.items()},
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _secret(entry: _Entry) -> Secret:
    changed = entry.updated_at
    return Secret(
        id=entry.id,
        name=entry.name,
        driver=entry.driver,
        options=entry.driver_options or {},
        labels=entry.labels or {},
        created=entry.created_at,
        updated=entry.created_at if not changed or changed.startswith(_NEVER) else changed,
    )


def _entry(secret: Secret) -> _Entry:
    return _Entry(
        name=secret.name,
        id=secret.id,
        driver=secret.driver,
        created_at=secret.created,
        updated_at=secret.updated,
        labels=secret.labels,
        driver_options=secret.options,
    )


def read(path: str) -> Table:
    """None there: there are no secrets. StorageFailed: it cannot be read, or is none."""
    content = read_bounded(path, _MOST)
    if not content:
        return Table({}, {})
    try:
        document = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        raw = msgspec.json.decode(
            document.get("secrets", msgspec.Raw(b"{}")), type=dict[str, msgspec.Raw] | None
        )
        return Table(document, raw or {})
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(path) from error


def damaged(path: str) -> StorageFailed:
    """Without what is wrong: that could be a part of a secret."""
    return StorageFailed(
        f"cannot use the secrets: '{path}' is damaged", subject=path, hint="bring it back from a backup"
    )


def read_bounded(path: str, most: int) -> bytes:
    """Empty: there is no such file. StorageFailed."""
    try:
        return files.read_small(path, most, follow=False)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise files.storage_error(error, "read", path) from error


def replace(path: str, content: bytes) -> None:
    """Replace a file whose lock is held; what a killed writer has left beside it goes. StorageFailed, DiskFull: the
    former one is there still."""
    directory = os.path.dirname(path)
    clear_temporary(directory)
    replace_file(path, content, durable=True)
    try:
        files.sync_directory(directory)
    except OSError as error:
        raise files.storage_error(error, "write", path) from error
