"""The records that containers/storage keeps of layers, images and containers.

Each is one element of a JSON array in a file that all engines rewrite. What a newer version puts into one and this
module does not know survives: a record is rewritten from the bytes that it was read from, changed only where pyman
changes it, and one that is not changed is written byte for byte as it was.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

import msgspec

from pyman.errors import StorageFailed

__all__ = [
    "COMPRESSIONS",
    "INCOMPLETE",
    "Container",
    "Entry",
    "IdLine",
    "Image",
    "Layer",
    "Record",
    "changed",
    "created_seconds",
    "is_id",
    "new_entry",
    "new_id",
    "now",
    "parse",
]

COMPRESSIONS = ("none", "bzip2", "gzip", "xz", "zstd")
"""By the number that a layer's record has."""
INCOMPLETE = "incomplete"
"""The flag of a layer that is being made or removed; a flagged one may be removed by whoever has the lock."""
_NEVER = "0001-01-01T00:00:00Z"
_HERE = ("store", "read_only", "volatile")
"""Fields that are not in the files."""


class IdLine(msgspec.Struct, frozen=True):
    """Ids of a container's user namespace and of the engine's."""

    container_id: int
    host_id: int
    size: int


class Record(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the three kinds have in common."""

    id: str
    """64 hexadecimal digits."""
    names: tuple[str, ...] = ()
    metadata: str = ""
    created: str = _NEVER
    """RFC 3339, with nanoseconds; see `created_seconds`."""
    flags: dict[str, Any] = {}
    big_data_names: tuple[str, ...] = msgspec.field(default=(), name="big-data-names")
    store: str = msgspec.field(default="", name="-store")
    """The graph root that it is in. Not in the file."""
    read_only: bool = msgspec.field(default=False, name="-read-only")
    """It is in an additional store. Not in the file."""
    volatile: bool = msgspec.field(default=False, name="-volatile")
    """It is in the file that ends with a crash of the machine. Not in the file."""


class Layer(Record, frozen=True, omit_defaults=True, kw_only=True):
    parent: str = ""
    mount_label: str = msgspec.field(default="", name="mountlabel")
    compressed_digest: str = msgspec.field(default="", name="compressed-diff-digest")
    """Of the layer as it was brought in, which may have been uncompressed."""
    compressed_size: int = msgspec.field(default=0, name="compressed-size")
    diff_id: str = msgspec.field(default="", name="diff-digest")
    """Digest of the uncompressed tar stream; empty: nobody has read that, as with a container's own layer."""
    toc_digest: str = msgspec.field(default="", name="toc-digest")
    diff_size: int = msgspec.field(default=0, name="diff-size")
    """Bytes of the uncompressed tar stream; counts only with a `diff_id` or `toc_digest`; -1: unknown."""
    compression: int = 0
    """A place in COMPRESSIONS."""
    uids: tuple[int, ...] = msgspec.field(default=(), name="uidset")
    gids: tuple[int, ...] = msgspec.field(default=(), name="gidset")
    uidmap: tuple[IdLine, ...] = ()
    gidmap: tuple[IdLine, ...] = ()

    @property
    def compressed_with(self) -> str:
        """A word of COMPRESSIONS; empty: a number that another engine has written and that is not known here."""
        return COMPRESSIONS[self.compression] if 0 <= self.compression < len(COMPRESSIONS) else ""

    @property
    def incomplete(self) -> bool:
        return self.flags.get(INCOMPLETE) is True


class Image(Record, frozen=True, omit_defaults=True, kw_only=True):
    digest: str = ""
    """Of the manifest; empty: see `digests`."""
    names_history: tuple[str, ...] = msgspec.field(default=(), name="names-history")
    """The newest first; the present ones are among them."""
    top_layer: str = msgspec.field(default="", name="layer")
    """Empty: an image without layers, as a manifest list."""
    mapped_layers: tuple[str, ...] = msgspec.field(default=(), name="mapped-layers")
    """Copies of the top layer for user namespaces."""
    big_data_sizes: dict[str, int] = msgspec.field(default={}, name="big-data-sizes")
    big_data_digests: dict[str, str] = msgspec.field(default={}, name="big-data-digests")

    @property
    def digests(self) -> tuple[str, ...]:
        """Of everything that is a manifest of it, the image's own first."""
        found = [self.digest] if self.digest else []
        found += [
            self.big_data_digests[key] for key in sorted(self.big_data_digests) if key.startswith("manifest")
        ]
        return tuple(dict.fromkeys(found))


class Container(Record, frozen=True, omit_defaults=True, kw_only=True):
    image: str
    """Id; empty: made of no image."""
    layer: str
    """What it writes into."""
    big_data_sizes: dict[str, int] = msgspec.field(default={}, name="big-data-sizes")
    big_data_digests: dict[str, str] = msgspec.field(default={}, name="big-data-digests")
    uidmap: tuple[IdLine, ...] = ()
    gidmap: tuple[IdLine, ...] = ()


R = TypeVar("R", bound=Record)


class Entry(msgspec.Struct, Generic[R], frozen=True):
    """A record and the JSON that it is read from or written as."""

    record: R
    raw: bytes


_raw_list = msgspec.json.Decoder(list[msgspec.Raw] | None)
_decoders: dict[type[Record], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Layer, Image, Container)
}
_lists: dict[type[Record], msgspec.json.Decoder[Any]] = {
    Layer: msgspec.json.Decoder(list[Layer] | None),
    Image: msgspec.json.Decoder(list[Image] | None),
    Container: msgspec.json.Decoder(list[Container] | None),
}


def parse(kind: type[R], data: bytes, path: str) -> list[Entry[R]]:
    """The records of a file; an empty one has none. StorageFailed: it is not what it should be."""
    if not data.strip():
        return []
    try:
        raws = _raw_list.decode(data) or []
        try:
            records = _lists[kind].decode(data) or []
        except msgspec.ValidationError:
            records = [_lenient(kind, bytes(raw)) for raw in raws]
    except msgspec.DecodeError as error:
        raise StorageFailed(f"cannot read '{path}': {error}", subject=path) from error
    return [Entry(record, bytes(raw)) for record, raw in zip(records, raws, strict=True)]


def _lenient(kind: type[R], raw: bytes) -> R:
    """Go takes null for whatever is empty."""
    try:
        return cast("R", _decoders[kind].decode(raw))
    except msgspec.ValidationError:
        fields = msgspec.json.decode(raw)
        if not isinstance(fields, dict):
            raise
        return msgspec.convert({key: value for key, value in fields.items() if value is not None}, kind)


def new_entry(record: R) -> Entry[R]:
    fields = msgspec.to_builtins(record)
    for name in _HERE:
        fields.pop(f"-{name.replace('_', '-')}", None)
    return Entry(record, msgspec.json.encode(fields))


def changed(entry: Entry[R], **fields: object) -> Entry[R]:
    """The same record with some fields changed, by their names here. What is empty is left out."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(entry.record)}
    known = msgspec.json.decode(entry.raw)
    for name, value in fields.items():
        if value or isinstance(value, bool):
            known[names[name]] = msgspec.to_builtins(value)
        else:
            known.pop(names[name], None)
    raw = msgspec.json.encode(known)
    record = entry.record
    here = {name: getattr(record, name) for name in _HERE}
    return Entry(msgspec.structs.replace(_lenient(type(record), raw), **here), raw)


def is_id(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


def new_id() -> str:
    return secrets.token_hex(32)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def created_seconds(created: str) -> float:
    """Seconds since the epoch of a record's `created`; 0: it says nothing that can be used."""
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return 0.0
