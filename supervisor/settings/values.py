"""One configuration value at a time: from what TOML gives to the form the settings keep it in.

A converter raises `Unusable` with what was expected ("a size such as 64m"); the caller knows the file and
the key and makes the sentence. Each key of the model has a converter, either by its type or, where the
text means more than its type says, by name in `CONVERTERS`.
"""

from __future__ import annotations

import math
import re
import socket
import typing
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyman.api.spec import Rlimit
from supervisor.settings.model import SubnetPool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

    import msgspec

__all__ = ["RLIMITS", "UMASK", "Unusable", "converter_of", "parse_size", "parse_ulimit"]

Converter = Callable[[Any], Any]

RLIMITS = frozenset(
    {
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
        "RTPRIO",
        "RTTIME",
        "SIGPENDING",
        "STACK",
    }
)


UMASK = re.compile(r"0?[0-7]{1,3}")
_NETWORK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class Unusable(ValueError):
    """The value cannot be used; the text says what was expected instead."""


_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def parse_size(text: str) -> int:
    """Bytes from `64m`, `65536k`, `1.5g`, `100`; units are powers of 1024. Raises Unusable."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Unusable("a size such as 65536, 64m or 1g")
    return int(float(match[1]) * (1 << _UNITS[match[2].lower()]))


def parse_ulimit(text: str) -> Rlimit:
    """`nofile=1024:2048`, `core=-1`: soft and hard limit, -1 is unlimited. Raises Unusable."""
    expected = "a limit such as nofile=1024:2048 (soft:hard, -1 for unlimited)"
    name, equals, limits = text.partition("=")
    kind = name.strip().upper().removeprefix("RLIMIT_")
    if not equals or kind not in RLIMITS:
        raise Unusable(expected)
    soft, colon, hard = limits.partition(":")
    try:
        low = int(soft)
        high = int(hard) if colon else low
    except ValueError:
        raise Unusable(expected) from None
    if low < -1 or high < -1:
        raise Unusable(expected)
    if high != -1 and (low == -1 or low > high):
        raise Unusable("a soft limit that is not above the hard limit")
    return Rlimit(f"RLIMIT_{kind}", hard=high, soft=low)


def _strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise Unusable("a list of strings")


def _string(value: Any) -> str:
    if isinstance(value, str) and "\0" not in value:
        return value
    raise Unusable("a string")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Unusable("true or false")


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Unusable("an integer")


def _natural(value: Any) -> int:
    number = _integer(value)
    if number < 0:
        raise Unusable("an integer that is not negative")
    return number


def _positive(value: Any) -> int:
    number = _integer(value)
    if number < 1:
        raise Unusable("an integer above 0")
    return number


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return float(value)
    raise Unusable("a number")


def _seconds(value: Any) -> float:
    number = _number(value)
    if not 0 <= number < 1e9:
        raise Unusable("a number of seconds, 0 or more")
    return number


def _factor(value: Any) -> float:
    number = _number(value)
    if not 1 <= number <= 1000:
        raise Unusable("a number from 1 to 1000")
    return number


def _above_zero(value: Any) -> float:
    number = _number(value)
    if not 0 < number < 1e9:
        raise Unusable("a number above 0")
    return number


def _size(value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value)
    return _natural(value)


def _positive_size(value: Any) -> int:
    size = _size(value)
    if size <= 0:
        raise Unusable("a size above 0, such as 64m")
    return size


def _log_size(value: Any) -> int:
    """Podman's rule: a limit below conmon's read buffer could never be kept."""
    size = _integer(value)
    if 0 < size < 8192:
        raise Unusable("a number of bytes, 8192 or more, or -1 for no limit")
    return size


_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _duration(value: Any) -> float | None:
    """Seconds from `5s`, `1m30s`, `500ms`; nothing from an empty text."""
    text = _string(value)
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise Unusable("a duration such as 5s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None


def _pairs(value: Any) -> dict[str, str]:
    """`["NAME=VALUE", …]`; the last of several with one name counts."""
    pairs: dict[str, str] = {}
    for item in _strings(value):
        name, equals, text = item.partition("=")
        if not equals or not name.strip() or "\0" in item:
            raise Unusable("a list of strings of the form NAME=VALUE")
        pairs[name.strip()] = text
    return pairs


def _ulimits(value: Any) -> tuple[Rlimit, ...]:
    limits = {limit.type: limit for limit in map(parse_ulimit, _strings(value))}
    return tuple(limits[kind] for kind in sorted(limits))


def _capabilities(value: Any) -> tuple[str, ...]:
    names = {name.strip().upper() for name in _strings(value)}
    full = {name if name.startswith("CAP_") else f"CAP_{name}" for name in names}
    if any(not re.fullmatch(r"CAP_[A-Z0-9_]+", name) for name in full):
        raise Unusable("a list of capabilities such as CHOWN or CAP_CHOWN")
    return tuple(sorted(full))


def _apparmor(value: Any) -> str:
    """Podman's default stands for a profile that Podman itself makes and loads."""
    text = _string(value)
    return "" if text == "container-default" else text


def _umask(value: Any) -> str:
    text = _string(value)
    if not UMASK.fullmatch(text):
        raise Unusable("an octal mask such as 0022")
    return text


def _absolute_path(value: Any) -> str:
    text = _string(value)
    if text and not text.startswith("/"):
        raise Unusable("an absolute path")
    return text.rstrip("/") or text


def _temporary(value: Any) -> str:
    text = _string(value)
    if text != "storage" and not text.startswith("/"):
        raise Unusable("an absolute path or 'storage'")
    return text.rstrip("/") or text


def _absolute_paths(value: Any) -> tuple[str, ...]:
    paths = _strings(value)
    if any(not path.startswith("/") for path in paths):
        raise Unusable("a list of absolute paths")
    return paths


def _runtime_paths(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise Unusable("a table of names, each with a list of absolute paths")
    return {str(name): _absolute_paths(paths) for name, paths in value.items()}


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Unusable("a table of strings")
    return {str(name): text for name, text in value.items()}


def _runtime(value: Any) -> str:
    text = _string(value)
    if "/" in text and not text.startswith("/"):
        raise Unusable("a name in the table engine.runtimes or an absolute path")
    return text


def _one_of(*words: str) -> Converter:
    def convert(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        listed = ", ".join(repr(word) for word in words[:-1])
        raise Unusable(f"{listed} or {words[-1]!r}")

    return convert


def _compressions(value: Any) -> tuple[str, ...]:
    words = _strings(value)
    if any(word not in ("gzip", "zstd", "zstd:chunked") for word in words):
        raise Unusable("a list of 'gzip', 'zstd' and 'zstd:chunked'")
    return words


def _oom_score(value: Any) -> int:
    score = _integer(value)
    if not -1000 <= score <= 1000:
        raise Unusable("an integer from -1000 to 1000")
    return score


def _profile(value: Any) -> str:
    text = _string(value)
    if text not in ("", "unconfined") and not text.startswith("/"):
        raise Unusable("an absolute path or 'unconfined'")
    return text


def _base_hosts(value: Any) -> str:
    text = _string(value)
    if text not in ("", "image", "none") and not text.startswith("/"):
        raise Unusable("an absolute path, 'image' or 'none'")
    return text


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, text)
            return True
    return False


def _host_address(value: Any) -> str:
    text = _string(value)
    if text not in ("", "none") and not _is_address(text):
        raise Unusable("an IP address or 'none'")
    return text


def _dns_servers(value: Any) -> tuple[str, ...]:
    servers = _strings(value)
    if servers != ("none",) and not all(map(_is_address, servers)):
        raise Unusable("a list of IP addresses, or 'none' alone")
    return servers


def _addresses(value: Any) -> tuple[str, ...]:
    addresses = _strings(value)
    if not all(map(_is_address, addresses)):
        raise Unusable("a list of IP addresses")
    return addresses


def _words(value: Any) -> tuple[str, ...]:
    words = _strings(value)
    if any(not word.isprintable() or word.split() != [word] for word in words):
        raise Unusable("a list of single words")
    return words


def _network(value: Any) -> str:
    text = _string(value)
    if _block(text) is None:
        raise Unusable("a network such as 10.88.0.0/16")
    return text


def _network_name(value: Any) -> str:
    text = _string(value)
    if not _NETWORK_NAME.fullmatch(text):
        raise Unusable("the name of a network, of letters, digits, '_', '.' and '-'")
    return text


def _subnet_pools(value: Any) -> tuple[SubnetPool, ...]:
    expected = 'a list of tables such as {"base" = "10.89.0.0/16", "size" = 24}'
    if not isinstance(value, list):
        raise Unusable(expected)
    pools = []
    for item in value:
        if not isinstance(item, dict) or set(item) != {"base", "size"} or not isinstance(item["base"], str):
            raise Unusable(expected)
        base, size = _block(item["base"]), _integer(item["size"])
        if base is None or base.version != 4 or not base.prefixlen <= size <= 32:
            raise Unusable(f"{expected}, of IPv4 networks and longer prefixes")
        pools.append(SubnetPool(item["base"], size))
    return tuple(pools)


def _block(text: str) -> IPv4Network | IPv6Network | None:
    # As long to import as all of the settings take, and most have no networks of their own.
    from ipaddress import ip_network

    address, slash, length = text.partition("/")
    try:
        return ip_network(f"{address}/{int(length)}", strict=False) if slash else None
    except ValueError:
        return None


def _port(value: Any) -> int:
    port = _integer(value)
    if not 0 <= port <= 65535:
        raise Unusable("a port number")
    return port


_BY_TYPE: Mapping[Any, Converter] = {
    str: _string,
    bool: _boolean,
    int: _natural,
    float: _seconds,
    tuple[str, ...]: _strings,
    dict[str, str]: _pairs,
}

CONVERTERS: Mapping[str, Converter] = {
    "storage.auto_userns_min_size": _positive,
    "storage.auto_userns_max_size": _positive,
    "containers.apparmor_profile": _apparmor,
    "containers.base_hosts_file": _base_hosts,
    "containers.cgroupns": _one_of("", "private", "host"),
    "containers.cgroups": _one_of("enabled", "no-conmon", "disabled"),
    "containers.default_capabilities": _capabilities,
    "containers.default_ulimits": _ulimits,
    "containers.dns_options": _words,
    "containers.dns_searches": _words,
    "containers.dns_servers": _dns_servers,
    "containers.host_containers_internal_ip": _host_address,
    "containers.init_path": _absolute_path,
    "containers.interface_name": _one_of("", "device"),
    "containers.ipcns": _one_of("shareable", "private", "none", "host"),
    "containers.log_driver": _one_of("", "k8s-file", "json-file", "journald", "none", "passthrough"),
    "containers.log_size_max": _log_size,
    "containers.netns": _one_of("private", "bridge", "none", "host", "slirp4netns", "pasta"),
    "containers.oom_score_adj": _oom_score,
    "containers.pidns": _one_of("private", "host"),
    "containers.pids_limit": _integer,
    "containers.seccomp_profile": _profile,
    "containers.shm_size": _positive_size,
    "containers.umask": _umask,
    "containers.utsns": _one_of("private", "host"),
    "engine.add_compression": _compressions,
    "engine.cgroup_manager": _one_of("systemd", "cgroupfs"),
    "engine.compression_format": _one_of("", "gzip", "zstd", "zstd:chunked"),
    "engine.compression_level": _natural,
    "engine.conmon_path": _absolute_paths,
    "engine.events_logfile_max_size": _size,
    "engine.events_logfile_path": _absolute_path,
    "engine.events_logger": _one_of("none", "file", "journald"),
    "engine.helper_binaries_dir": _absolute_paths,
    "engine.image_copy_tmp_dir": _temporary,
    "engine.image_volume_mode": _one_of("", "anonymous", "tmpfs", "ignore"),
    "engine.lock_type": _one_of("shm", "file"),
    "engine.network_cmd_path": _absolute_path,
    "engine.num_locks": _positive,
    "engine.pull_policy": _one_of("always", "missing", "newer", "never"),
    "engine.retry_delay": _duration,
    "engine.runtime": _runtime,
    "engine.runtimes": _runtime_paths,
    "engine.static_dir": _absolute_path,
    "engine.tmp_dir": _absolute_path,
    "engine.volume_path": _absolute_path,
    "network.default_host_ips": _addresses,
    "network.default_network": _network_name,
    "network.default_rootless_network_cmd": _one_of("pasta", "slirp4netns"),
    "network.default_subnet": _network,
    "network.default_subnet_pools": _subnet_pools,
    "network.dns_bind_port": _port,
    "network.network_config_dir": _absolute_path,
    "pyman.call_deadline": _above_zero,
    "pyman.events_max_bytes": _size,
    "pyman.events_max_entries": _positive,
    "pyman.health_checks_at_once": _positive,
    "pyman.log_level": _one_of("debug", "info", "warning", "error"),
    "pyman.on_stop": _one_of("leave", "stop"),
    "pyman.restart_budget": _above_zero,
    "pyman.restart_burst": _positive,
    "pyman.restart_factor": _factor,
    "secrets.driver": _one_of("file", "pass", "shell"),
    "secrets.opts": _texts,
    "storage.graphroot": _absolute_path,
    "storage.runroot": _absolute_path,
}
"""Where the type alone does not say what may stand there."""


def converter_of(section: str, struct: type[msgspec.Struct], key: str) -> Converter:
    """The converter of a field of a section of the model."""
    special = CONVERTERS.get(f"{section}.{key}")
    return special if special is not None else _BY_TYPE[typing.get_type_hints(struct)[key]]
