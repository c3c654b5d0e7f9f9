"""What people write to have something mounted: `-v`, `--mount`, `--tmpfs`, and the same words in containers.conf.

Says what was meant, as fields of the create request; whether it can be is for the supervisor to find out. Standard library
only, as the command line needs it.
"""

from __future__ import annotations

import posixpath

from pyman.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Fields = dict[str, list[dict[str, Any]]]

__all__ = ["PROPAGATIONS", "destination_of", "mount_fields", "tmpfs_fields", "volume_fields"]

PROPAGATIONS = (
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
)  # fmt: skip
_MEMORY = ("tmpfs", "ramfs")
_TYPES = ("bind", "volume", "tmpfs", "image", "devpts", "glob", "ramfs")
_SWITCHES = ("dev", "exec", "nodev", "noexec", "nosuid", "suid")
_OF_BINDS = ("bind", "glob", "volume")
_WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_SWITCHES, ("bind", "glob", "volume", "tmpfs", "ramfs")),
    **dict.fromkeys(PROPAGATIONS, ("bind", "glob", "volume", "tmpfs", "ramfs")),
    "Z": _OF_BINDS,
    "z": _OF_BINDS,
    "no-dereference": ("bind", "glob"),
    "noatime": ("tmpfs",),
    "nocopy": ("volume",),
    "copy": ("volume",),
    "nocreate": ("volume",),
    "noswap": ("tmpfs",),
    "notmpcopyup": ("tmpfs",),
    "tmpcopyup": ("tmpfs",),
    "newinstance": ("devpts",),
}
"""Words without a value, with the types that know them."""
_VALUES: dict[str, tuple[str, ...]] = {
    "gid": ("devpts",),
    "max": ("devpts",),
    "mode": ("devpts",),
    "ptmxmode": ("devpts",),
    "uid": ("devpts",),
    "volume-opt": ("volume",),
}
"""Words that go on with their value."""
_FLAGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "U": ("U", (*_OF_BINDS, *_MEMORY)),
    "bind-nonrecursive": ("bind", ("bind", "glob")),
    "chown": ("U", (*_OF_BINDS, *_MEMORY)),
}
"""Words that may be said to be true or false: what they are among the options, and the types that know them."""
_TOPICS: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(("src", "source"), ("source", (*_OF_BINDS, "image"))),
    **dict.fromkeys(("dst", "dest", "destination", "target"), ("destination", _TYPES)),
    **dict.fromkeys(("subpath", "volume-subpath"), ("subpath", ("volume", "image"))),
    "bind-propagation": ("propagation", ("bind", "glob")),
    "relabel": ("relabel", _OF_BINDS),
}
"""Words that have a value, and may be given once."""
_RENAMED: dict[str, tuple[str, tuple[str, ...]]] = {
    "tmpfs-mode": ("mode", _MEMORY),
    "tmpfs-size": ("size", ("tmpfs",)),
}


def volume_fields(texts: Iterable[str], absolute: Callable[[str], str]) -> Fields:
    """Of `-v [SOURCE:]DESTINATION[:OPTIONS]`. `absolute`: a path as its writer means it. InvalidArgument."""
    fields: Fields = {}
    for text in texts:
        source, destination, options = _split_volume(text)
        where = destination_of(destination, f"--volume '{text}'")
        if not source.startswith(("/", ".")):
            _add(fields, "volumes", name=source, dest=where, options=options)
        elif "O" in options:
            options = [_with_path(option, absolute) for option in options if option != "O"]
            _add(fields, "overlay_volumes", source=absolute(source), destination=where, options=options)
        else:
            _add(fields, "mounts", type="bind", source=absolute(source), destination=where, options=options)
    return fields


def _split_volume(text: str) -> tuple[str, str, list[str]]:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(
            f"option --volume cannot be '{text}'",
            hint="it must be [SOURCE:]DESTINATION[:OPTIONS], with a path or the name of a volume as source",
        )
    if len(parts) == 1:
        return "", parts[0], []
    options = parts[2].split(",") if len(parts) == 3 else []
    return parts[0], parts[1], options


def _with_path(option: str, absolute: Callable[[str], str]) -> str:
    key, _, value = option.partition("=")
    return f"{key}={absolute(value)}" if key in ("upperdir", "workdir") else option


def tmpfs_fields(texts: Iterable[str]) -> Fields:
    """Of `--tmpfs DIR[:OPTIONS]`. InvalidArgument."""
    fields: Fields = {}
    for text in texts:
        path, colon, options = text.partition(":")
        if colon and (":" in options or not options):
            raise InvalidArgument(f"option --tmpfs cannot be '{text}'", hint="it must be DIR[:OPTIONS]")
        where = destination_of(path, f"--tmpfs '{text}'")
        words = options.split(",") if colon else []
        _add(fields, "mounts", type="tmpfs", source="tmpfs", destination=where, options=words)
    return fields


def mount_fields(texts: Iterable[str], absolute: Callable[[str], str]) -> Fields:
    """Of `--mount type=TYPE,…`. Globs are looked up now, with the rights of whoever calls. InvalidArgument, NotSupported."""
    fields: Fields = {}
    for text in texts:
        _Wish(text, absolute).add_to(fields)
    return fields


class _Wish:
    """One `--mount`."""

    def __init__(self, text: str, absolute: Callable[[str], str]) -> None:
        self._what = f"--mount '{text}'"
        self._absolute = absolute
        pairs = [part.partition("=") for part in _split(text)]
        self.type = next((value for key, _, value in pairs if key == "type"), "volume")
        if self.type == "artifact":
            raise NotSupported(f"cannot use {self._what}: there are no artifacts yet")
        if self.type not in _TYPES:
            raise self._refused(f"'{self.type}' is no type of mount", f"known are {', '.join(_TYPES)}")
        self.source = self.destination = self.sub_path = ""
        self.writable = False
        self.options: list[str] = []
        self._seen: set[str] = set()
        for key, equals, value in pairs:
            if key != "type":
                self._take(key, value, given=bool(equals))

    def _refused(self, reason: str, hint: str = "") -> InvalidArgument:
        return InvalidArgument(f"cannot use {self._what}: {reason}", hint=hint)

    def _take(self, key: str, value: str, *, given: bool) -> None:
        if key in _FLAGS:
            option, types = _FLAGS[key]
            self._only(key, *types)
            self._once(option, key)
            if self._truth(key, value, given=given):
                self.options.append(option)
        elif key in _TOPICS:
            topic, types = _TOPICS[key]
            self._only(key, *types)
            self._once(topic, value)
            self._set(topic, value)
        elif key in ("ro", "readonly", "rw", "readwrite"):
            self._access(key, value, given=given)
        elif key == "idmap":
            self._only(key, *_OF_BINDS)
            if value.lower() != "false":
                self.options.append("idmap" if not given or value.lower() == "true" else f"idmap={value}")
        elif key == "volume-label":
            raise NotSupported(f"cannot use {self._what}: volumes get labels by `volume create --label`")
        elif key != "consistency":  # of shares with a Mac: it has no meaning on Linux
            self._word(key, value, given=given)

    def _set(self, topic: str, value: str) -> None:
        match topic:
            case "source":
                self.source = value
            case "destination":
                self.destination = destination_of(value, self._what)
            case "subpath":
                self.sub_path = value
            case "propagation":
                if value not in PROPAGATIONS:
                    raise self._refused(
                        f"'{value}' is no propagation", f"known are {', '.join(PROPAGATIONS)}"
                    )
                self.options.append(value)
            case "relabel":
                if value not in ("private", "shared"):
                    raise self._refused(f"relabel cannot be '{value}'", "it must be private or shared")
                self.options.append("Z" if value == "private" else "z")

    def _word(self, key: str, value: str, *, given: bool) -> None:
        if key in _RENAMED:
            name, types = _RENAMED[key]
        elif key in _VALUES:
            name, types = key, _VALUES[key]
        elif key in _WORDS and not given:
            self._only(key, *_WORDS[key])
            self.options.append(key)
            return
        else:
            raise self._refused(f"'{key}{'=' if given else ''}{value}' is no option of a mount")
        self._only(key, *types)
        if not value:
            raise self._refused(f"{key} needs a value")
        self.options.append(f"{name}={value}")

    def _access(self, key: str, value: str, *, given: bool) -> None:
        self._only(key, *_OF_BINDS, "image", *_MEMORY)
        self._once("access", key)
        wanted = self._truth(key, value, given=given)
        writable = wanted if key in ("rw", "readwrite") else not wanted
        if self.type == "image":
            self.writable = writable
        elif not writable:
            self.options.append("ro")
        elif key in ("rw", "readwrite"):
            self.options.append("rw")

    def _only(self, key: str, *types: str) -> None:
        if self.type not in types:
            raise self._refused(f"{key} is no option of type {self.type}")

    def _once(self, what: str, value: str) -> None:
        if what in self._seen:
            raise self._refused(f"{what} is given twice")
        if not value:
            raise self._refused(f"its {what} is empty")
        self._seen.add(what)

    def _truth(self, key: str, value: str, *, given: bool) -> bool:
        if given and value.lower() not in ("true", "false"):
            raise self._refused(f"{key} cannot be '{value}'", "it must be true or false")
        return value.lower() != "false"

    def add_to(self, fields: Fields) -> None:
        if self.type == "glob":
            for path in self._matches():
                name = posixpath.basename(path)
                where = posixpath.join(self.destination, name) if self.destination else path
                self._add_bind(fields, path, where)
            return
        if not self.destination:
            raise self._refused("it has no destination", "give dst=PATH")
        match self.type:
            case "bind":
                self._add_bind(fields, self._absolute(self.source or self.destination), self.destination)
            case "volume":
                _add(
                    fields,
                    "volumes",
                    name=self.source,
                    dest=self.destination,
                    options=self.options,
                    sub_path=self.sub_path,
                )
            case "image":
                if not self.source:
                    raise self._refused("it names no image", "give src=IMAGE")
                if self.sub_path and not self.sub_path.startswith("/"):
                    raise self._refused("the subpath of an image has to be absolute")
                _add(
                    fields,
                    "image_volumes",
                    source=self.source,
                    destination=self.destination,
                    read_write=self.writable,
                    sub_path=self.sub_path,
                )
            case _:
                _add(
                    fields,
                    "mounts",
                    type=self.type,
                    source=self.type,
                    destination=self.destination,
                    options=self.options,
                )

    def _add_bind(self, fields: Fields, source: str, destination: str) -> None:
        _add(
            fields, "mounts", type="bind", source=source, destination=destination, options=list(self.options)
        )

    def _matches(self) -> list[str]:
        import glob

        if not self.source:
            raise self._refused("it has no source", "give src=PATTERN")
        # As Podman's patterns: a star matches names that begin with a dot, too, and ^ negates a class.
        pattern = self._absolute(self.source).replace("[^", "[!")
        found = sorted(glob.glob(pattern, include_hidden=True))
        if not found:
            raise self._refused(f"no file matches '{self.source}'")
        return found


def _split(text: str) -> list[str]:
    """InvalidArgument."""
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        rows = list(csv.reader([text]))
    except csv.Error as error:
        raise InvalidArgument(f"option --mount cannot be {text!r}: its quotes cannot be read") from error
    return rows[0] if rows else []


def destination_of(path: str, what: str) -> str:
    """A path in the container without `.`, `..` and double slashes. `what` is the wish, as errors name it.
    InvalidArgument."""
    if not path.startswith("/"):
        raise InvalidArgument(
            f"cannot use {what}: the destination '{path}' is not an absolute path", subject=path
        )
    clean = posixpath.normpath(path)
    clean = clean[1:] if clean.startswith("//") else clean
    if clean == "/":
        raise InvalidArgument(
            f"cannot use {what}: nothing can be mounted over the root directory", subject=path
        )
    return clean


def _add(fields: Fields, field: str, **values: Any) -> None:
    """What is empty is left out, as everywhere in a request."""
    wish = {key: value for key, value in values.items() if value or key == "name"}
    fields.setdefault(field, []).append(wish)
