"""How the processor and the kernel treat a container's processes: their personality, and their class of caches."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.oci.runtimes import OciRuntime
    from supervisor.settings.model import Settings

__all__ = ["check"]

RESCTRL = "/sys/fs/resctrl"
_DOMAINS = ("LINUX", "LINUX32")
_FIRST_RUNC = (1, 2)
"""The first runc that sets a personality; before it leaves the field unread."""


def check(spec: ContainerSpec, runtime: OciRuntime, settings: Settings) -> None:
    """InvalidArgument, NotSupported: what cannot be, or what the OCI runtime would leave out without a word."""
    if spec.personality is not None:
        _check_personality(spec.personality.domain, runtime)
    if spec.intel_rdt is not None:
        _check_class(spec.intel_rdt.clos_id, runtime, settings)


def _check_personality(domain: str, runtime: OciRuntime) -> None:
    if domain not in _DOMAINS:
        raise InvalidArgument(
            f"cannot use --personality {domain}", subject=domain, hint=f"known are {', '.join(_DOMAINS)}"
        )
    if runtime.kind == "crun" or (runtime.kind == "runc" and _version(runtime) >= _FIRST_RUNC):
        return
    raise NotSupported(
        f"cannot use --personality {domain}: the OCI runtime {runtime.name} {runtime.version} does not set it",
        subject=domain,
        hint="use --runtime crun",
    )


def _version(runtime: OciRuntime) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", runtime.version)[:2])


def _check_class(name: str, runtime: OciRuntime, settings: Settings) -> None:
    option = f"--rdt-class {name}"
    if settings.rootless:
        raise NotSupported(f"cannot use {option}: only root may assign classes of caches", subject=name)
    if not os.path.isdir(f"{RESCTRL}/info"):
        raise NotSupported(
            f"cannot use {option}: nothing is mounted at {RESCTRL}",
            subject=name,
            hint=f"`mount -t resctrl resctrl {RESCTRL}`, if processor and kernel can divide caches",
        )
    if runtime.kind != "runc":
        raise NotSupported(
            f"cannot use {option}: the OCI runtime {runtime.name} does not assign it",
            subject=name,
            hint="use --runtime runc",
        )
    # These are no classes, but what a class has in its own directory.
    reserved = name in ("", ".", "..", "info", "mon_data", "mon_groups") or "/" in name
    if reserved or not os.path.isdir(f"{RESCTRL}/{name}"):
        raise InvalidArgument(
            f"cannot use {option}: there is no such class",
            subject=name,
            hint=f"classes are directories of {RESCTRL}",
        )
