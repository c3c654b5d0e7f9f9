"""From configuration files, environment and command line to one frozen `Settings`.

Precedence, weakest first: built-in defaults, the files in the order of `files`, the environment
($STORAGE_DRIVER, $STORAGE_OPTS), the options. A value that cannot be used is InvalidConfig with file, key,
value and what was expected; a key that nothing knows, or that pyman does not act upon, is a warning.
Loading reads only these files and changes nothing, so it also serves `system reload`.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pyman.api.spec import Rlimit
from pyman.errors import InvalidArgument, InvalidConfig
from supervisor.settings import files, keys
from supervisor.settings.model import (
    ContainersSettings,
    EngineSettings,
    NetworkSettings,
    Options,
    PymanSettings,
    SecretsSettings,
    Settings,
    StorageSettings,
)
from supervisor.settings.mounts_conf import subscriptions
from supervisor.settings.overlay import overlay_options, warnings_of
from supervisor.settings.values import Unusable, converter_of
from supervisor.settings.xdg import Xdg

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Options", "load", "selection_of"]

Section = TypeVar("Section", bound=msgspec.Struct)

_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "containers": ContainersSettings,
    "engine": EngineSettings,
    "network": NetworkSettings,
    "secrets": SecretsSettings,
    "storage": StorageSettings,
    "pyman": PymanSettings,
}

JOURNALD = "/run/systemd/journal/socket"
"""Where journald listens, if there is one."""
SYSTEMD = "/run/systemd/system"
"""A directory that is there where systemd runs the host."""
_STORAGE_OPTIONS = {
    "auto-userns-min-size": "auto_userns_min_size",
    "auto-userns-max-size": "auto_userns_max_size",
    "root-auto-userns-user": "root_auto_userns_user",
}
"""Keys of `[storage.options]` that are settings of their own."""
_NAME_OPTION = "root_auto_userns_user"

_NOT_IN_FILES = {
    "engine.runtime_flags",
    "storage.options",
    *(f"storage.{field}" for field in _STORAGE_OPTIONS.values()),
}
"""Fields that no key of that name fills."""
_LISTS_OF_TABLES = ("network.default_subnet_pools",)
"""Lists to which no file appends."""

_OPTION_FIELDS = {
    "log_level": "pyman.log_level",
    "on_stop": "pyman.on_stop",
    "storage_driver": "storage.driver",
    "runtime": "engine.runtime",
    "cgroup_manager": "engine.cgroup_manager",
    "events_backend": "engine.events_logger",
    "namespace": "engine.namespace",
    "volumepath": "engine.volume_path",
    "network_config_dir": "network.network_config_dir",
}
"""Options that set one field each."""


def selection_of(options: Options, environ: Mapping[str, str]) -> str:
    """Which supervisor the options select; empty is the default one. The command line computes the same."""
    if options.root:
        return f"root:{os.path.abspath(options.root)}"
    config = files.explicit_config(options.config, environ)
    return f"config:{config}" if config else ""


def load(
    options: Options,
    environ: Mapping[str, str],
    uid: int,
    *,
    system: str = files.SYSTEM,
    administrator: str = files.ADMINISTRATOR,
) -> Settings:
    """The settings for this user. Raises InvalidConfig (a file) and InvalidArgument (an option)."""
    xdg = Xdg.of(environ, uid)
    collected = _Collected()
    explicit = files.explicit_config(options.config, environ)
    for path in files.containers_files(explicit, environ, uid, xdg, system, administrator):
        collected.add_containers_conf(path, files.read_table(path))
    storage = _Storage(collected, environ, uid, xdg)
    for path, places in files.storage_files(environ, uid, xdg, system, administrator):
        storage.add_file(path, files.read_table(path), places)
    storage.apply(options)
    _apply_options(collected, options)
    _replace_unavailable(collected)
    _choose_cgroup_manager(collected, uid, xdg)
    _find_seccomp_profile(collected, [f"{place}/seccomp.json" for place in (administrator, system)])
    return Settings(
        uid=uid,
        xdg=xdg,
        containers=collected.build("containers", ContainersSettings),
        engine=collected.build("engine", EngineSettings),
        network=collected.build("network", NetworkSettings),
        secrets=collected.build("secrets", SecretsSettings),
        storage=collected.build("storage", StorageSettings),
        pyman=collected.build("pyman", PymanSettings),
        subscriptions=subscriptions(
            [*([f"{xdg.config_home}/containers"] if uid else []), administrator, system]
        ),
        selection=selection_of(options, environ),
        options=options,
        files=tuple(collected.files),
        warnings=tuple(collected.warnings),
    )


class _Collected:
    """What the files have said so far, by section and key, converted and checked."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
        self.files: list[str] = []
        self.warnings: list[str] = []
        self._lists: dict[str, list[Any]] = {}
        self._appending: dict[str, bool] = {}

    def build(self, section: str, kind: type[Section]) -> Section:
        return kind(**self.values[section])

    def add_containers_conf(self, path: str, table: dict[str, Any]) -> None:
        self.files.append(path)
        for name, content in table.items():
            if name in _SECTIONS and name != "storage":
                self.add_section(path, name, content)
            elif name not in keys.KNOWN_TABLES:
                kind = "table" if isinstance(content, dict) else "key outside any table"
                self._warn_unknown(path, kind, name, keys.KNOWN_TABLES)

    def add_section(self, path: str, section: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise _invalid(path, section, content, "a table")
        struct = _SECTIONS[section]
        for key, value in content.items():
            dotted = f"{section}.{key}"
            if key in struct.__struct_fields__ and dotted not in _NOT_IN_FILES:
                self._set(path, section, key, value)
            elif key in keys.NOT_YET.get(section, {}):
                if value != keys.NOT_YET[section][key]:
                    text = f"{path}: '{dotted}' is not supported yet and has no effect"
                    self.warnings.append(text)
            elif key not in keys.WITHOUT_EFFECT[section]:
                fields = {
                    name for name in struct.__struct_fields__ if f"{section}.{name}" not in _NOT_IN_FILES
                }
                known = fields | set(keys.NOT_YET.get(section, {})) | keys.WITHOUT_EFFECT[section]
                self._warn_unknown(path, "key", key, known, section)

    def _set(self, path: str, section: str, key: str, value: Any) -> None:
        dotted = f"{section}.{key}"
        if isinstance(value, list) and dotted not in _LISTS_OF_TABLES:
            value = self._merged(path, section, key, value)
        converted = _convert(path, section, key, value)
        if dotted == "engine.runtimes":
            converted = {**self.values[section].get(key, EngineSettings().runtimes), **converted}
        self.values[section][key] = converted

    def _merged(self, path: str, section: str, key: str, value: list[Any]) -> list[Any]:
        """The list after this file: replaced, or appended to if a `{append=true}` in it, or before, says so."""
        dotted = f"{section}.{key}"
        own = [item for item in value if not isinstance(item, dict)]
        for attributes in (item for item in value if isinstance(item, dict)):
            if set(attributes) != {"append"} or not isinstance(attributes["append"], bool):
                raise _invalid(
                    path, dotted, value, "a list of strings, with at most {append=true} or {append=false}"
                )
            self._appending[dotted] = attributes["append"]
        _convert(path, section, key, own)
        if self._appending.get(dotted):
            own = [*self._lists.get(dotted, _as_list(getattr(_SECTIONS[section](), key))), *own]
        self._lists[dotted] = own
        return own

    def _warn_unknown(
        self, path: str, kind: str, name: str, known: set[str] | frozenset[str], section: str = ""
    ) -> None:
        shown = f"{section}.{name}" if section else name
        nearest = difflib.get_close_matches(name, sorted(known), n=1)
        if not nearest and section:
            homes = [other for other, struct in _SECTIONS.items() if name in struct.__struct_fields__]
            hint = f"; it belongs in [{homes[0]}]" if homes else ""
        else:
            hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        self.warnings.append(f"{path}: the unknown {kind} '{shown}' is ignored{hint}")


def _as_list(default: Any) -> list[str]:
    """A default value as the list that a file would have to contain."""
    if isinstance(default, dict):
        return [f"{name}={value}" for name, value in default.items()]
    if default and isinstance(default[0], Rlimit):
        return [f"{limit.type}={limit.soft}:{limit.hard}" for limit in default]
    return list(default)


def _convert(path: str, section: str, key: str, value: Any) -> Any:
    try:
        return converter_of(section, _SECTIONS[section], key)(value)
    except Unusable as error:
        raise _invalid(path, f"{section}.{key}", value, str(error)) from None


def _invalid(path: str, key: str, value: Any, expected: str) -> InvalidConfig:
    shown = value if isinstance(value, str) else _toml(value)
    return InvalidConfig(f"cannot use '{key}' in '{path}': '{shown}' is not {expected}", subject=path)


def _toml(value: Any) -> str:
    """Roughly as it stands in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        text = f"[{', '.join(_toml(item) for item in value)}]"
    elif isinstance(value, dict):
        text = f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    else:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _apply_options(collected: _Collected, options: Options) -> None:
    for option, dotted in _OPTION_FIELDS.items():
        value = getattr(options, option)
        if value is None:
            continue
        section, _, key = dotted.partition(".")
        if key.endswith(("_path", "_dir")) and value:
            value = os.path.abspath(value)
        try:
            collected.values[section][key] = converter_of(section, _SECTIONS[section], key)(value)
        except Unusable as error:
            flag = f"--{option.replace('_', '-')}"
            raise InvalidArgument(f"cannot use {flag} '{value}': it is not {error}", subject=flag) from None
    if options.runtime_flags is not None:
        flags = (flag if flag.startswith("-") else f"--{flag}" for flag in options.runtime_flags)
        collected.values["engine"]["runtime_flags"] = tuple(flags)
    if options.conmon:
        collected.values["engine"]["conmon_path"] = (os.path.abspath(options.conmon),)


def _replace_unavailable(collected: _Collected) -> None:
    """What Podman knows and pyman, or this host, cannot do: say so and take what comes nearest."""
    containers = collected.values["containers"]
    substitutes = [("containers.log_driver", "k8s-file", "which is not supported yet")]
    if not os.path.exists(JOURNALD):
        substitutes.append(("engine.events_logger", "none", "which does not run here"))
    for dotted, substitute, reason in substitutes:
        section, _, key = dotted.partition(".")
        if collected.values[section].get(key) == "journald":
            collected.values[section][key] = substitute
            collected.warnings.append(f"'{dotted}' is 'journald', {reason}: using '{substitute}'")
    _replace_chunked(collected)
    if containers.get("log_driver") in ("", "json-file"):
        containers["log_driver"] = "k8s-file"


def _replace_chunked(collected: _Collected) -> None:
    chunked = "zstd:chunked"
    engine = collected.values["engine"]
    replaced = []
    if engine.get("compression_format") == chunked:
        engine["compression_format"] = "zstd"
        replaced.append("compression_format")
    if chunked in engine.get("add_compression", ()):
        words = ("zstd" if word == chunked else word for word in engine["add_compression"])
        engine["add_compression"] = tuple(dict.fromkeys(words))
        replaced.append("add_compression")
    for key in replaced:
        collected.warnings.append(f"'engine.{key}' has '{chunked}', which is not written here: using 'zstd'")


def _choose_cgroup_manager(collected: _Collected, uid: int, xdg: Xdg) -> None:
    """systemd's help needs a systemd that can be asked. Users take it where they can: they have no cgroups else."""
    engine = collected.values["engine"]
    missing = _missing_systemd(uid, xdg)
    if "cgroup_manager" not in engine:
        if uid and not missing:
            engine["cgroup_manager"] = "systemd"
    elif engine["cgroup_manager"] == "systemd" and missing:
        engine["cgroup_manager"] = "cgroupfs"
        text = f"'engine.cgroup_manager' is 'systemd', but {missing}: using 'cgroupfs'"
        collected.warnings.append(text)


def _missing_systemd(uid: int, xdg: Xdg) -> str:
    """Why it cannot be asked; an empty string: it can."""
    if not os.path.isdir(SYSTEMD):
        return "systemd does not run this host"
    bus = xdg.bus_address.removeprefix("unix:path=").partition(",")[0]
    if uid and not os.path.exists(f"{xdg.runtime_dir}/systemd/private"):
        return "the user has no service manager (see 'loginctl enable-linger')"
    if uid and bus.startswith("/") and not os.path.exists(bus):
        return "there is no session bus to ask it on"
    return ""


def _find_seccomp_profile(collected: _Collected, places: list[str]) -> None:
    containers = collected.values["containers"]
    if containers.get("seccomp_profile"):
        return
    containers["seccomp_profile"] = next((path for path in places if os.path.isfile(path)), "")
    if not containers["seccomp_profile"]:
        text = (
            f"no seccomp profile is installed as {' or '.join(places)}: containers may make any system call"
        )
        collected.warnings.append(text)


class _Storage:
    """storage.conf and what decides beside it where the store is."""

    def __init__(self, collected: _Collected, environ: Mapping[str, str], uid: int, xdg: Xdg) -> None:
        self._collected = collected
        self._values = collected.values["storage"]
        self._environ = environ
        self._uid = uid
        self._options: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        """Which file an option is from; one that is not in here is from the command line or the environment."""
        if uid != 0:
            self._values["graphroot"] = f"{xdg.data_home}/containers/storage"
            self._values["runroot"] = f"{xdg.runtime_dir}/containers"

    def add_file(self, path: str, table: dict[str, Any], places: bool) -> None:
        self._collected.files.append(path)
        for name, value in table.items():
            if name != "storage":
                kind = "table" if isinstance(value, dict) else "key outside any table"
                self._collected.warnings.append(f"{path}: the unknown {kind} '{name}' is ignored")
        content = table.get("storage", {})
        if not isinstance(content, dict):
            raise _invalid(path, "storage", content, "a table")
        content = dict(content)
        for key in ("graphroot", "runroot", "rootless_storage_path"):
            if isinstance(content.get(key), str):
                content[key] = self._expanded(content[key])
        if not places:
            content.pop("graphroot", None)
            content.pop("runroot", None)
        if content.get("imagestore"):
            expected = "empty: images in another place than the containers are not supported"
            raise _invalid(path, "storage.imagestore", content["imagestore"], expected)
        rootless = content.get("rootless_storage_path")
        if rootless and self._uid != 0:
            content.setdefault("graphroot", rootless)
        for key in ("graphroot", "runroot", "driver"):
            if content.get(key) == "":
                del content[key]
        self._collected.add_section(path, "storage", content)
        self._add_options(path, content.get("options", {}))

    def _add_options(self, path: str, content: Any) -> None:
        """`[storage.options]` and `[storage.options.overlay]`, as `--storage-opt` would spell them."""
        if not isinstance(content, dict):
            raise _invalid(path, "storage.options", content, "a table")
        for key, value in content.items():
            if key in _STORAGE_OPTIONS:
                field = _STORAGE_OPTIONS[key]
                self._values[field] = _convert(path, "storage", field, value)
            elif isinstance(value, dict):
                self._add_options(path, {f"{key}.{name}": item for name, item in value.items()})
            elif isinstance(value, list):
                if value:
                    self._options[key] = ",".join(map(str, value))
                    self._origins[key.lower()] = path
            elif value != "":
                self._options[key] = str(value).lower() if isinstance(value, bool) else str(value)
                self._origins[key.lower()] = path

    def _expanded(self, text: str) -> str:
        known = {**self._environ, "UID": str(self._uid)}
        return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: known.get(match[1] or match[2], ""), text)

    def apply(self, options: Options) -> None:
        """The environment and the options, which win over every file."""
        if driver := self._environ.get("STORAGE_DRIVER"):
            self._values["driver"] = driver
        if listed := self._environ.get("STORAGE_OPTS"):
            self._replace(listed.split(","))
        if options.root:
            self._values["graphroot"] = os.path.abspath(options.root)
            self._replace([])
        if options.runroot:
            self._values["runroot"] = os.path.abspath(options.runroot)
        if options.storage_opt is not None:
            self._replace([item for item in options.storage_opt if item])
        for key in self._options.keys() & _STORAGE_OPTIONS.keys():
            self._take(key, self._options.pop(key))
        listing = tuple(f"{key}={value}" for key, value in self._options.items())
        self._values["options"] = listing
        try:
            overlay_options(listing)
        except Unusable as error:
            raise self._refused(*error.args) from None
        self._collected.warnings += warnings_of(listing)

    def _replace(self, listed: list[str]) -> None:
        self._options = _split_options(listed)
        self._origins = {}

    def _refused(self, expected: str, name: str) -> InvalidConfig | InvalidArgument:
        key = next(key for key in self._options if key.lower().endswith(name))
        value = self._options[key]
        path = self._origins.get(key.lower())
        if path:
            return _invalid(path, f"storage.options.{key}", value, expected)
        message = f"cannot use the storage option '{key}={value}': it is not {expected}"
        return InvalidArgument(message, subject=key)

    def _take(self, key: str, text: str) -> None:
        """An option that is a setting of its own."""
        field = _STORAGE_OPTIONS[key]
        convert = converter_of("storage", StorageSettings, field)
        try:
            self._values[field] = convert(int(text) if text.isdecimal() and field != _NAME_OPTION else text)
        except Unusable as error:
            message = f"cannot use the storage option '{key}={text}': it is not {error}"
            raise InvalidArgument(message, subject=key) from None


def _split_options(listed: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in listed:
        key, equals, value = item.partition("=")
        if not equals or not key:
            message = f"cannot use the storage option '{item}': it is not of the form NAME=VALUE"
            raise InvalidArgument(message, subject=item)
        found[key] = value
    return found
