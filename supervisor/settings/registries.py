"""registries.conf(5), version 2: where names of images lead, and how those registries are spoken to.

Read are one main file — $CONTAINERS_REGISTRIES_CONF, else the user's, else the administrator's, else the system's —
and then the `*.conf` files of the administrator's and of the user's `registries.conf.d`, in the order of their names;
later ones replace a search list, a mode, the credential helpers, and a registry or an alias of the same name.
short-name-aliases.conf, which engines write when a user has chosen, comes before all aliases. A value that cannot be
used, and the old version 1, is InvalidConfig with file, key and value; an unknown key is a warning.

Finding and reading are two functions; what the settings say of a name are pure functions of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import InvalidConfig
from supervisor.settings import files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.settings.xdg import Xdg

__all__ = [
    "AUTH_FILES",
    "Alias",
    "Location",
    "RegistriesSettings",
    "RegistryEntry",
    "aliases_path",
    "find",
    "load",
    "locations",
    "matched",
    "paths",
    "sources",
]

AUTH_FILES = "containers-auth.json"
"""Among the credential helpers: the files that `login` writes."""
_MODES = ("enforcing", "permissive", "disabled")
_FROM_MIRROR = ("all", "digest-only", "tag-only")
_VERSION_1 = ("search", "insecure", "block")


class Location(msgspec.Struct, frozen=True):
    """A place that is asked: the name that takes the prefix's place, and how it may be spoken to."""

    location: str
    """`host[:port][/path]`; empty: the name stays what it is."""
    insecure: bool = False
    """Certificates are not verified, and HTTP is permitted."""
    pull_from_mirror: str = ""
    """Of a mirror: all, digest-only or tag-only; empty means all."""


class RegistryEntry(msgspec.Struct, frozen=True):
    """A `[[registry]]`."""

    prefix: str
    """`host[:port][/path]`, or `*.domain`."""
    location: Location
    mirrors: tuple[Location, ...] = ()
    blocked: bool = False
    mirror_by_digest_only: bool = False
    file: str = ""
    """That it is from."""


class Alias(msgspec.Struct, frozen=True):
    """What a short name stands for."""

    value: str
    """A name without tag and digest; empty: an alias of an earlier file is taken back."""
    file: str


class RegistriesSettings(msgspec.Struct, frozen=True):
    search: tuple[str, ...] = ()
    """Registries that a short name is looked for in, in order."""
    search_file: str = ""
    short_name_mode: str = "permissive"
    """enforcing, permissive or disabled."""
    credential_helpers: tuple[str, ...] = (AUTH_FILES,)
    """Programs `docker-credential-NAME`, in order; AUTH_FILES among them stands for the files."""
    registries: tuple[RegistryEntry, ...] = ()
    aliases: dict[str, Alias] = {}
    warnings: tuple[str, ...] = ()


# What they say


def matched(name: str, prefix: str) -> int:
    """How many characters at the beginning of a name (with or without tag) the prefix covers; -1: it does not fit."""
    if prefix.startswith("*."):
        host = name.partition("/")[0].partition("@")[0]
        host = host.rpartition(":")[0] or host
        end = len(host)
        fits = host.endswith(prefix[1:]) and end > len(prefix) - 1
    else:
        end = len(prefix)
        fits = name.startswith(prefix)
    return end if fits and name[end : end + 1] in ("", "/", ":", "@") else -1


def find(settings: RegistriesSettings, name: str) -> RegistryEntry | None:
    """The entry with the longest prefix that fits a full name, or a host."""
    fitting = [entry for entry in settings.registries if matched(name, entry.prefix) >= 0]
    return max(fitting, key=lambda entry: len(entry.prefix), default=None)


def locations(entry: RegistryEntry, *, by_digest: bool) -> list[Location]:
    """Where an image of this entry is pulled from, in order: mirrors that serve such a name, then the registry."""
    unwanted = "tag-only" if by_digest else "digest-only"
    mirrors = () if entry.mirror_by_digest_only and not by_digest else entry.mirrors
    return [*(mirror for mirror in mirrors if mirror.pull_from_mirror != unwanted), entry.location]


def sources(settings: RegistriesSettings, name: str, *, by_digest: bool) -> list[tuple[str, Location]]:
    """The names, rewritten, under which a full name (without tag) is pulled, in order. `blocked` is the caller's."""
    entry = find(settings, name)
    if entry is None:
        return [(name, Location(""))]
    end = matched(name, entry.prefix)
    return [
        (f"{place.location}{name[end:]}" if place.location else name, place)
        for place in locations(entry, by_digest=by_digest)
    ]


# Reading


def aliases_path(uid: int, xdg: Xdg) -> str:
    """short-name-aliases.conf of this user, which all engines share."""
    return f"{xdg.cache_home if uid else '/var/cache'}/containers/short-name-aliases.conf"


def load(
    found: Sequence[str], aliases: str, *, is_domain: Callable[[str], bool] = bool
) -> RegistriesSettings:
    """What the files that `paths` has found say together. `is_domain`: it can be a registry.

    Blocking. Raises InvalidConfig.
    """
    collected = _Collected(is_domain)
    for path in found:
        if path == aliases:
            collected.add_aliases(path, files.read_table(path).get("aliases", {}))
        else:
            collected.add(path, files.read_table(path))
    return collected.settings()


def paths(
    environ: Mapping[str, str],
    xdg: Xdg,
    aliases: str,
    *,
    system: str = files.SYSTEM,
    administrator: str = files.ADMINISTRATOR,
) -> list[str]:
    """The files that count, in the order in which they are read; `aliases`, if it is there, is the last.

    Blocking. Raises InvalidConfig.
    """
    explicit = environ.get("CONTAINERS_REGISTRIES_CONF") or environ.get("REGISTRIES_CONFIG_PATH")
    own = f"{xdg.config_home}/containers/registries.conf"
    found: list[str] = []
    if explicit:
        found.append(os.path.abspath(explicit))
    else:
        places = (own, f"{administrator}/registries.conf", f"{system}/registries.conf")
        found += [path for path in places if os.path.lexists(path)][:1]
    found += [*files.drop_ins(f"{administrator}/registries.conf.d"), *files.drop_ins(f"{own}.d")]
    return [*found, aliases] if os.path.exists(aliases) else found


class _Collected:
    def __init__(self, is_domain: Callable[[str], bool]) -> None:
        self._is_domain = is_domain
        self._single: dict[str, Any] = {}
        self._registries: dict[str, RegistryEntry] = {}
        self._aliases: dict[str, Alias] = {}
        self._warnings: list[str] = []

    def settings(self) -> RegistriesSettings:
        if self._single.get("credential_helpers") == ():
            del self._single["credential_helpers"]
        return RegistriesSettings(
            registries=tuple(self._registries[prefix] for prefix in sorted(self._registries)),
            aliases=self._aliases,
            warnings=tuple(self._warnings),
            **self._single,
        )

    def add(self, path: str, content: dict[str, Any]) -> None:
        old = content.pop("registries", None)
        if isinstance(old, dict) and any(name in old for name in _VERSION_1):
            raise InvalidConfig(
                f"cannot use '{path}': it is written in version 1 of its format",
                subject=path,
                hint="use unqualified-search-registries and [[registry]], see containers-registries.conf(5)",
            )
        table = _Table(path, "", content)
        if (search := table.strings("unqualified-search-registries")) is not None:
            for registry in search:
                if not self._is_domain(registry):
                    raise table.invalid("unqualified-search-registries", registry, "a registry: HOST[:PORT]")
            self._single |= {"search": search, "search_file": path}
        if mode := table.one_of("short-name-mode", _MODES):
            self._single["short_name_mode"] = mode
        if (programs := table.strings("credential-helpers")) is not None:
            for program in programs:
                if not program or "/" in program or "\0" in program:
                    raise table.invalid("credential-helpers", program, "the name of a credential helper")
            self._single["credential_helpers"] = programs
        table.take("additional-layer-store-auth-helper", str, "a string")
        entries = [_entry(one) for one in table.tables("registry")]
        self._same_security(table, entries)
        self._registries |= {entry.prefix: entry for entry in entries}
        self.add_aliases(path, table.take("aliases", dict, "a table") or {})
        self._warnings += table.warnings()

    def _same_security(self, table: _Table, entries: list[RegistryEntry]) -> None:
        """One registry cannot be both."""
        known: dict[str, RegistryEntry] = {}
        for entry in entries:
            place = entry.location.location or entry.prefix
            other = known.setdefault(place, entry)
            for key in ("insecure", "blocked"):
                here, there = (
                    one.location.insecure if key == "insecure" else one.blocked for one in (entry, other)
                )
                if here != there:
                    raise table.invalid(f"registry.{key}", here, f"what another entry for '{place}' says")

    def add_aliases(self, path: str, content: Any) -> None:
        table = _Table(path, "aliases", content if isinstance(content, dict) else {})
        if not isinstance(content, dict):
            raise table.invalid("", content, "a table")
        for name in content:
            value = table.take(name, str, "a string") or ""
            if not name or name != name.lower() or _is_registry(name.partition("/")[0], "/" in name):
                raise table.invalid(name, value, "an alias of a short name without tag and digest")
            host, slash, rest = value.partition("/")
            if value and not (slash and rest and _is_registry(host, True)):
                raise table.invalid(name, value, "a name with its registry")
            if value and (":" in rest or "@" in rest):
                raise table.invalid(name, value, "a name without tag and digest")
            self._aliases[name] = Alias(value, path)


def _is_registry(first: str, followed: bool) -> bool:
    return ":" in first or "@" in first or (followed and ("." in first or first == "localhost"))


def _entry(table: _Table) -> RegistryEntry:
    location = table.place("location")
    prefix = table.place("prefix") or location
    if not prefix:
        raise table.invalid("location", "", "the place of a registry")
    wildcard = prefix.startswith("*.")
    if wildcard and any(character in prefix for character in "/@:"):
        raise table.invalid("prefix", prefix, "of the form *.example.com")
    if "*" in prefix.removeprefix("*."):
        raise table.invalid("prefix", prefix, "HOST[:PORT][/PATH] or *.DOMAIN")
    if not location and not wildcard:
        raise table.invalid("location", "", "the place of a registry (only a prefix with * needs none)")
    by_digest = table.flag("mirror-by-digest-only")
    mirrors: list[Location] = []
    for one in table.tables("mirror"):
        place = one.place("location")
        if not place:
            raise one.invalid("location", "", "the place of a mirror")
        restriction = one.one_of("pull-from-mirror", _FROM_MIRROR)
        if by_digest and restriction:
            raise one.invalid("pull-from-mirror", restriction, "possible beside mirror-by-digest-only")
        mirrors.append(Location(place, one.flag("insecure"), restriction))
    if restriction := table.one_of("pull-from-mirror", _FROM_MIRROR):
        raise table.invalid("pull-from-mirror", restriction, "for a registry, only for its mirrors")
    return RegistryEntry(
        prefix,
        Location(location, table.flag("insecure")),
        tuple(mirrors),
        table.flag("blocked"),
        by_digest,
        table.file,
    )


class _Table:
    """A table of a file; keys are taken from it, and what nobody took is unknown."""

    def __init__(self, file: str, name: str, content: dict[str, Any]) -> None:
        self.file = file
        self._name = name
        self._content = content
        self._taken: set[str] = set()
        self._below: list[_Table] = []

    def invalid(self, key: str, value: Any, expected: str) -> InvalidConfig:
        dotted = ".".join(part for part in (self._name, key) if part)
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        shown = shown if len(shown) <= 200 else f"{shown[:197]}..."
        return InvalidConfig(
            f"cannot use '{dotted}' in '{self.file}': '{shown}' is not {expected}", subject=self.file
        )

    def take(self, key: str, kind: type, expected: str) -> Any:
        """None: it is not there."""
        self._taken.add(key)
        value = self._content.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.invalid(key, value, expected)
        return value

    def flag(self, key: str) -> bool:
        return bool(self.take(key, bool, "true or false"))

    def strings(self, key: str) -> tuple[str, ...] | None:
        value = self.take(key, list, "a list of strings")
        if value is None:
            return None
        if not all(isinstance(item, str) for item in value):
            raise self.invalid(key, value, "a list of strings")
        return tuple(value)

    def one_of(self, key: str, words: tuple[str, ...]) -> str:
        value: str = self.take(key, str, "a string") or ""
        if value and value not in words:
            raise self.invalid(key, value, f"one of {', '.join(words)}")
        return value

    def place(self, key: str) -> str:
        value: str = self.take(key, str, "a string") or ""
        if value.startswith(("http://", "https://")):
            raise self.invalid(key, value, "written without a scheme")
        return value.rstrip("/")

    def tables(self, key: str) -> list[_Table]:
        value = self.take(key, list, f"a list of tables: [[{key}]]") or []
        name = ".".join(part for part in (self._name, key) if part)
        found: list[_Table] = []
        for content in value:
            if not isinstance(content, dict):
                raise self.invalid(key, content, "a table")
            found.append(_Table(self.file, name, content))
        self._below += found
        return found

    def warnings(self) -> list[str]:
        own = [
            f"{self.file}: the unknown key '{'.'.join(part for part in (self._name, key) if part)}' is ignored"
            for key in self._content
            if key not in self._taken
        ]
        return [*own, *(text for table in self._below for text in table.warnings())]
