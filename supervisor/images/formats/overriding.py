"""`commit --config`: a configuration in Docker's form (`Schema2Config`) laid over that of the new image.

What is empty in it leaves what is there. Variables, ports, volumes and labels are added to those that are there; of
entrypoint and command either one replaces both. Pure functions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["merged"]

Config = dict[str, Any]
_PORT = re.compile(r"[1-9][0-9]{0,4}(/(tcp|udp|sctp))?")


class _Health(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="pascal"):
    """Durations in nanoseconds."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class _Nothing(msgspec.Struct):
    """`{}`."""


class _Override(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="pascal"):
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, _Nothing] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: _Health | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, _Nothing] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | str | None = None


_NAMES = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(_Override)}
_IN_OCI = frozenset(
    {"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"}
)
_WORDS = ("Cmd", "Entrypoint", "Shell")


def merged(config: Mapping[str, Any], override: Mapping[str, Any], *, docker: bool) -> Config:
    """A new `config` object of an image. InvalidArgument: it is no such configuration, or says what the format of OCI,
    which is meant unless `docker`, has no room for."""
    said = _read(override)
    if lost := [] if docker else [key for key in said if key not in _IN_OCI]:
        raise InvalidArgument(
            f"cannot keep '{lost[0]}' of the configuration in an image of OCI's format",
            subject=lost[0],
            hint="use --format docker",
        )
    found = dict(config)
    if "Cmd" in said or "Entrypoint" in said:
        for key in ("Cmd", "Entrypoint"):
            found.pop(key, None)
    for key, value in said.items():
        if key == "Env":
            found[key] = _variables([*(config.get(key) or ()), *value])
        elif key in ("ExposedPorts", "Volumes", "Labels"):
            found[key] = {**(config.get(key) or {}), **value}
        else:
            found[key] = value
    return found


def _read(override: Mapping[str, Any]) -> Config:
    """What it says, by Docker's names."""
    named = {_NAMES.get(str(key).lower(), str(key)): value for key, value in override.items()}
    try:
        read = msgspec.convert({key: value for key, value in named.items() if value is not None}, _Override)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"cannot use the configuration: {error}") from None
    for entry in read.env or ():
        if not entry.partition("=")[0] or "=" not in entry:
            raise InvalidArgument(f"cannot use the configuration: '{entry}' is no variable with its value")
    for port in read.exposed_ports or ():
        if not _PORT.fullmatch(port):
            raise InvalidArgument(f"cannot use the configuration: '{port}' is no port")
    said: Config = {
        key: value for key, value in msgspec.to_builtins(read).items() if value not in ("", [], {})
    }
    for key in _WORDS:
        if isinstance(said.get(key), str):
            said[key] = [said[key]]
    if "ExposedPorts" in said:
        ports = said["ExposedPorts"]
        said["ExposedPorts"] = {port if "/" in port else f"{port}/tcp": {} for port in ports}
    return said


def _variables(entries: list[str]) -> list[str]:
    """Each once, with its last value, where it stood first."""
    return list({entry.partition("=")[0]: entry for entry in entries}.values())
