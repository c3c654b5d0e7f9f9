"""From a create request to a definition: every default filled in, everything that cannot work refused.

Nothing is made here; what passes has been checked as far as it can be without starting it.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument, NotSupported
from pyman.stamps import is_decimal
from supervisor.conmon import logs
from supervisor.oci import execution, limits, placement, resources, systemd_mode
from supervisor.oci.imaged import ImageUse
from supervisor.runtime.creation import sharing
from supervisor.runtime.creation.userns import check_groups, settle
from supervisor.runtime.health.plan import check_plan, plan_of
from supervisor.runtime.life import reporting
from supervisor.runtime.life.policy import check_policy
from supervisor.runtime.mounts.sources import Sources, wanted
from supervisor.runtime.records import Definition
from supervisor.storage import rootfs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.spec import Caller, ContainerSpec
    from supervisor.oci.mounted import Mounted
    from supervisor.runtime.services import Services

__all__ = ["check_texts", "define", "new_id", "signal_number"]

LOG_DRIVERS = ("k8s-file", "json-file", "none", "passthrough")
LOG_SIZE_LEAST = 4096
NO_IMAGE = ImageUse()
NO_OWNERS: Mapping[str, Definition] = MappingProxyType({})
NO_SOURCES = Sources()
LABELS_LIMIT = 256 * 1024


def new_id() -> str:
    """64 hexadecimal digits; never all decimal in front, so that a short id is not taken for a number."""
    while True:
        id = secrets.token_hex(32)
        if not id[:12].isdecimal():
            return id


def signal_number(text: str) -> int:
    """The number of a signal given as a number or as a name with or without SIG. Raises InvalidArgument."""
    name = text.strip().upper()
    if is_decimal(name):
        number = int(name)
        if 1 <= number <= 64:
            return number
    else:
        name = name.removeprefix("SIG")
        base, plus, offset = name.partition("+")
        if (
            base == "RTMIN"
            and plus
            and is_decimal(offset)
            and int(offset) <= signal.SIGRTMAX - signal.SIGRTMIN
        ):
            return int(signal.SIGRTMIN) + int(offset)
        found = getattr(signal, f"SIG{name}", None)
        if isinstance(found, signal.Signals):
            return int(found)
    raise InvalidArgument(
        f"cannot use the signal '{text}'", hint="give a name such as TERM or a number from 1 to 64"
    )


def define(
    services: Services,
    id: str,
    name: str,
    lock: int,
    spec: ContainerSpec,
    caller: Caller,
    owners: Mapping[str, Definition] = NO_OWNERS,
    image: ImageUse = NO_IMAGE,
    sources: Sources = NO_SOURCES,
) -> Definition:
    """The definition of a container. Raises for whatever could not work, naming it.

    `owners`: the containers whose namespaces it is to join, by kind. `image`: what it is made from, whose part the spec
    has already. `sources`: what its mounts name.
    """
    settings = services.settings
    check_texts(spec)
    check_texts(caller)
    _check_root(spec)
    check_policy(spec)
    check_plan(spec, image.healthcheck)
    if caller.notify_socket or spec.sdnotify_mode:
        reporting.check(spec, caller, has_check=plan_of(spec, image.healthcheck) is not None)
    spec = msgspec.structs.replace(
        spec, name=name, entrypoint=[] if spec.entrypoint == [""] else spec.entrypoint
    )
    spec = sharing.settle(spec, owners, settings)
    runtime = services.runtimes.pick(spec.oci_runtime)
    placement.check(settings, spec, caller.cgroup, runtime.name)
    resources.check(settings, spec, caller.cgroup, id, runtime)
    limits.check(settings, spec)
    execution.check(spec, runtime, settings)
    check_groups(spec, caller, runtime)
    driver, path, size, files = _log(services, id, spec)
    init = spec.init or settings.containers.init
    systemd_mode.check(spec, init=init)
    stop_signal = signal_number(spec.stop_signal) if spec.stop_signal else int(signal.SIGTERM)
    if not spec.stop_signal and systemd_mode.is_on(spec, init=init):
        stop_signal = systemd_mode.stop_signal()
    timeout = settings.engine.stop_timeout if spec.stop_timeout is None else spec.stop_timeout
    if timeout < 0:
        raise InvalidArgument(f"cannot wait {timeout:g} s before SIGKILL: the time is negative")
    for value in (spec.pid_file, spec.conmon_pid_file):
        if value and not os.path.isabs(value):
            raise InvalidArgument(f"cannot write the pid to '{value}': the path is not absolute")
        if value and not os.path.isdir(os.path.dirname(value)):
            raise InvalidArgument(f"cannot write the pid to '{value}': its directory does not exist")
    mounted: list[Mounted] = []
    if wanted(settings, spec, image):
        from supervisor.runtime.mounts import (
            settling,
        )  # only now: every first command waits for what is imported

        spec, image, mounted = settling.settle(settings, spec, image, sources)
    spec, owned = settle(services, id, spec, runtime, owners.get("user"), image)
    return Definition(
        id=id,
        name=name,
        created=time.time_ns(),
        lock=lock,
        spec=spec,
        caller=caller,
        runtime=runtime.name,
        hostname=sharing.hostname(id, spec, owners, settings),
        stop_signal=stop_signal,
        stop_timeout=timeout,
        log_driver=driver,
        log_path=path,
        log_size=size,
        log_files=files,
        userns=owned,
        image=image,
        mounted=mounted,
        subscriptions=list(settings.subscriptions),
    )


def check_texts(request: msgspec.Struct) -> None:
    """Refuse a NUL in any text of a request: neither a path nor an argument nor a variable can have one."""
    if b"\\u0000" in msgspec.json.encode(request):
        fields: dict[str, object] = msgspec.to_builtins(request)
        for name, value in fields.items():
            if _has_nul(value):
                raise InvalidArgument(f"cannot use {name.replace('_', ' ')}: there is a NUL in it")


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_has_nul(part) for part in value)


def _check_root(spec: ContainerSpec) -> None:
    if spec.remove_image and not (spec.image and spec.remove):
        raise InvalidArgument(
            f"cannot use --rmi {'without --rm' if spec.image else 'with --rootfs: there is no image'}"
        )
    if spec.image and spec.rootfs:
        raise InvalidArgument("cannot use an image and --rootfs together")
    if spec.image:
        if spec.rootfs_overlay or spec.rootfs_idmap:
            raise InvalidArgument("cannot use an image as O or as idmap: these are for directories")
        return
    if spec.rootfs_overlay and spec.rootfs_idmap:
        raise InvalidArgument(
            "cannot use a root filesystem both as O and as idmap: a view is mapped in any case"
        )
    if not spec.rootfs:
        raise InvalidArgument(
            "cannot create a container without a root filesystem", hint="give an image, or --rootfs DIR"
        )
    problem = rootfs.lower_is_usable(spec.rootfs)
    if problem:
        raise InvalidArgument(
            f"cannot use '{spec.rootfs}' as root filesystem: {problem}", subject=spec.rootfs
        )


def _log(services: Services, id: str, spec: ContainerSpec) -> tuple[str, str, int, int]:
    """Driver, path, size at which to rotate (0: never) and number of files."""
    wish, settings = spec.log_configuration, services.settings.containers
    driver = wish.driver or settings.log_driver
    if driver == "journald":
        raise NotSupported(
            "cannot log to journald: this version does not read logs back from it",
            hint="use --log-driver k8s-file",
        )
    if driver not in LOG_DRIVERS:
        raise InvalidArgument(
            f"cannot use the log driver '{driver}'", hint=f"known are {', '.join(LOG_DRIVERS)}"
        )
    for key in wish.options:
        raise InvalidArgument(
            f"cannot use the log option '{key}'", hint="known are path, max-size, max-file, tag"
        )
    if driver == "json-file":
        driver = "k8s-file"
    if driver == "passthrough" and spec.terminal:
        raise InvalidArgument("cannot use the log driver passthrough with a terminal")
    size = wish.size or max(0, settings.log_size_max)
    if size < 0 or 0 < size < LOG_SIZE_LEAST:
        raise InvalidArgument(f"cannot rotate logs at {size} bytes: the least is {LOG_SIZE_LEAST}")
    if not 1 <= wish.max_files <= 1000:
        raise InvalidArgument(f"cannot keep {wish.max_files} log files: give 1 to 1000")
    if driver != "k8s-file":
        return driver, "", 0, 1
    path = wish.path or services.layout.container_log(id)
    if not os.path.isabs(path):
        raise InvalidArgument(f"cannot log to '{path}': the path is not absolute")
    if problem := logs.unfit(path):
        raise InvalidArgument(f"cannot log to '{path}': {problem}", hint="--log-driver none keeps no log")
    return driver, path, size, wish.max_files
