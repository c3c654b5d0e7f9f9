"""Where a container's cgroup is, or why it has none, and who makes it.

    cgroupfs    /pyman/ctr-ID, or PARENT/ctr-ID; the OCI runtime makes it
    systemd     a scope in a slice, which the OCI runtime asks for: SLICE:pyman:ID
    split       beside the caller's own process: CALLER/ctr-ID

An ordinary user has no right to a cgroup but where one was delegated. systemd delegates a part of the v2 tree to the
service manager of each user, so it has to be asked; with cgroupfs the user has to name a parent.
conmon has a cgroup of its own beside those that the supervisor may make.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import cgroups
from supervisor.oci.host import this_host

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.settings.model import Settings

__all__ = ["Placement", "check", "mode_of", "own_cgroup", "place_of"]

DEFAULT_PARENT = "/pyman"
MODES = ("enabled", "disabled", "no-conmon", "split")


class Placement(NamedTuple):
    path: str
    """`cgroupsPath` of the OCI specification; empty: it has none."""
    systemd: bool = False
    """systemd is asked for it."""
    monitor: str = ""
    """conmon's; empty: it stays where it was started."""
    reason: str = ""
    """Why there is none."""
    parent: str = ""
    """Of the tree that the supervisor sees; empty with systemd."""


def place_of(settings: Settings, spec: ContainerSpec, caller: str, id: str) -> Placement:
    """`caller`: the contents of the caller's /proc/self/cgroup."""
    mode = mode_of(settings, spec)
    if mode == "disabled":
        return Placement("", reason="it has no cgroup (--cgroups disabled)")
    if mode == "split":
        parent = own_cgroup(caller)
        return Placement(f"{parent}/ctr-{id}", monitor=f"{parent}/conmon-{id}", parent=parent)
    monitor = "" if mode == "no-conmon" else f"{DEFAULT_PARENT}/conmon-{id}"
    unified = this_host().unified
    if settings.engine.cgroup_manager == "systemd" and (unified or not settings.rootless):
        slice_ = spec.cgroup_parent or ("user.slice" if settings.rootless else "machine.slice")
        return Placement(f"{slice_}:pyman:{id}", systemd=True, monitor=monitor)
    if spec.cgroup_parent:
        parent = _path(spec.cgroup_parent)
        return Placement(f"{parent}/ctr-{id}", monitor=monitor and f"{parent}/conmon-{id}", parent=parent)
    if not settings.rootless:
        return Placement(f"{DEFAULT_PARENT}/ctr-{id}", monitor=monitor, parent=DEFAULT_PARENT)
    if unified:
        reason = "an ordinary user's containers have no cgroup with the cgroup manager 'cgroupfs'"
    else:
        reason = "an ordinary user's containers have no cgroup on cgroup v1"
    return Placement("", monitor=monitor, reason=reason)


def _path(parent: str) -> str:
    """As the supervisor sees it; empty: the root."""
    return os.path.normpath(f"/{parent.strip('/')}").rstrip("/")


def mode_of(settings: Settings, spec: ContainerSpec) -> str:
    return spec.cgroups_mode or settings.containers.cgroups


def own_cgroup(text: str) -> str:
    """The one in /proc/PID/cgroup that stands for all: of the v2 tree, else systemd's. Empty: the root."""
    found = dict(line.split(":", 2)[1:] for line in text.splitlines() if line.count(":") >= 2)
    name = "" if this_host().unified else "name=systemd"
    return str(found.get(name, "")).rstrip("/")


def check(settings: Settings, spec: ContainerSpec, caller: str, runtime: str) -> None:
    """InvalidArgument, NotSupported: what was asked for contradicts itself, or is not possible here.
    `runtime`: the OCI runtime's name."""
    mode = mode_of(settings, spec)
    if mode not in MODES:
        raise InvalidArgument(f"cannot use --cgroups '{mode}'", hint=f"known are {', '.join(MODES)}")
    if mode == "disabled":
        _check_disabled(settings, spec, runtime)
    parent = spec.cgroup_parent
    if mode == "split":
        if parent:
            raise InvalidArgument("cannot use --cgroup-parent together with --cgroups split", subject=parent)
        _check_split(own_cgroup(caller))
    elif parent:
        _check_parent(settings, parent)


def _check_disabled(settings: Settings, spec: ContainerSpec, runtime: str) -> None:
    if spec.cgroup_parent:
        raise InvalidArgument(
            "cannot use --cgroup-parent together with --cgroups disabled", subject=spec.cgroup_parent
        )
    if spec.cgroupns.nsmode == "private":
        raise InvalidArgument("cannot use --cgroupns private together with --cgroups disabled")
    if runtime not in settings.engine.runtime_supports_nocgroups:
        able = ", ".join(settings.engine.runtime_supports_nocgroups) or "none"
        raise NotSupported(
            f"cannot use --cgroups disabled: the OCI runtime '{runtime}' always makes a cgroup",
            subject=runtime,
            hint=f"those that need not: {able}",
        )


def _check_split(parent: str) -> None:
    if not parent:
        raise InvalidArgument(
            "cannot use --cgroups split: the command runs in the root cgroup",
            hint="run it in a service or a scope",
        )
    if not cgroups.may_make(parent):
        raise InvalidArgument(
            f"cannot use --cgroups split: the cgroup '{parent}' of the command is not this user's to divide",
            subject=parent,
            hint="run it in a unit with Delegate=yes: systemd-run --user --scope --property=Delegate=yes …",
        )


def _check_parent(settings: Settings, parent: str) -> None:
    names_slice = parent.endswith(".slice")
    if settings.engine.cgroup_manager == "systemd":
        if settings.rootless and not this_host().unified:
            raise InvalidArgument(
                f"cannot use --cgroup-parent '{parent}': systemd gives an ordinary user no cgroups on cgroup v1",
                subject=parent,
            )
        if not names_slice or "/" in parent or parent.startswith("-"):
            raise InvalidArgument(
                f"cannot use --cgroup-parent '{parent}': with the cgroup manager 'systemd' it is the name of a slice",
                subject=parent,
                hint="give NAME.slice",
            )
        return
    if names_slice:
        raise InvalidArgument(
            f"cannot use --cgroup-parent '{parent}': a slice needs the cgroup manager 'systemd'",
            subject=parent,
            hint="give a path, or set engine.cgroup_manager",
        )
    if ".." in parent.split("/"):
        raise InvalidArgument(f"cannot use --cgroup-parent '{parent}': there is '..' in it", subject=parent)
    if not cgroups.may_make(_path(parent)):
        raise InvalidArgument(
            f"cannot use --cgroup-parent '{parent}': this user may not make cgroups there",
            subject=parent,
            hint="name one that was delegated to the user",
        )
